"""`python -m tests.sim.mutations`."""

from __future__ import annotations

import sys

from tests.sim.mutations.search import main

if __name__ == "__main__":
    sys.exit(main())
