"""Where the `coterie` command begins: Ctrl-C is taken first, then the rest is imported."""

from . import interrupts

interrupts.take()


def main() -> int:
    """Run the command and return its exit code."""
    from .cli import main

    code = main()
    interrupts.leave()
    return code
