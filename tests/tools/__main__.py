"""`python -m tests.tools prepare`: what the tests need that is not Python, installed unless it is there.

What Kubernetes takes besides is built by `python -m tests.kube prepare`. An example:

    sudo .venv/bin/python -m tests.tools prepare
"""

from __future__ import annotations

import argparse
import os
import sys

from tests.tools.needs import CannotRun, say
from tests.tools.wanted import EVERYTHING


def prepare() -> int:
    """Install what is missing; return the exit code."""
    failed = False
    for one in EVERYTHING:
        try:
            one()
        except CannotRun as why:
            failed = True
            say(f"some tests cannot run: {why}")
    # Without CI those tests skip with the same words; the others can run all the same.
    return 1 if failed and os.environ.get("CI") else 0


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.tools", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["prepare"])
    parser.parse_args()
    return prepare()


if __name__ == "__main__":
    sys.exit(main())
