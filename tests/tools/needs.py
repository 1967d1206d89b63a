"""What parts of the tests need that is not Python: how its absence is told, and where what is costly is kept."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path


class CannotRun(Exception):
    """This machine cannot run that part of the tests; the text says why and what would help."""


def say(text: str) -> None:
    """Report progress of something long on standard error."""
    print(text, file=sys.__stderr__, flush=True)


def cache(part: str) -> Path:
    """Return the user's folder for what is expensive to make for a part of the tests."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "coterie-tests" / part


@contextlib.contextmanager
def or_skip() -> Iterator[None]:
    """Skip what cannot run on this machine, and say why; in CI that is a failure."""
    import pytest

    try:
        yield
    except CannotRun as why:
        if os.environ.get("CI"):
            pytest.fail(f"in CI nothing is skipped for what could be installed: {why}", pytrace=False)
        pytest.skip(str(why))
