"""`python -m coterie_client` is the `coterie` command."""

from . import interrupts

interrupts.take()

if __name__ == "__main__":
    import sys

    from .cli import main

    sys.exit(main())
