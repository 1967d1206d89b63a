"""The beginning of the `coterie-operator` command: the command line first, then what the extra `operator` installs.

So `--help` and wrong usage are answered on an installation without the extra, and `run` says what is missing there.
"""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Sequence

from .arguments import UsageError, parse

FAILED = 1
USAGE = 2
EXTRA = frozenset({"kopf", "kubernetes", "yaml"})
"""Top-level packages that only the extra `operator` installs (pyproject.toml)."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; return its exit code: 0 stopped as told, 1 failed, 2 usage, 3 lost the lease."""
    try:
        config = parse(arguments, importlib.metadata.version("coterie"))
    except UsageError as error:
        print(f"coterie-operator: {error}; see coterie-operator --help", file=sys.stderr)
        return USAGE
    try:
        from .main import run
    except ModuleNotFoundError as error:
        if error.name not in EXTRA:
            raise
        print(
            f"coterie-operator: the extra `operator` is not installed (no module {error.name}); "
            "install it in Coterie's sources: pip install '.[operator]'",
            file=sys.stderr,
        )
        return FAILED
    return run(config)


if __name__ == "__main__":
    sys.exit(main())
