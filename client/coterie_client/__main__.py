"""`python -m coterie_client` is the `coterie` command."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
