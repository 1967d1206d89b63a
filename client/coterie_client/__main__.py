"""`python -m coterie_client` is the `coterie` command."""

from .entry import main

if __name__ == "__main__":
    import sys

    sys.exit(main())
