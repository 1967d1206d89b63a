"""Feeds a target with hostile cases until it does something that it must not, or the examples are over.

Hypothesis makes the cases. A run is repeated by its target, seed and number of examples: `python -m tests.fuzz` prints
the command.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

MOST_SHOWN = 2000


class Found(AssertionError):
    """The target did what it must not."""


class Target(ABC):
    """Real code, and what must hold of it whatever it is fed."""

    name: str
    about: str
    """What is fed to what, in a line."""
    shrinks = True
    """A case does not depend on those before it, so that it can be cut down."""

    @abstractmethod
    def cases(self) -> st.SearchStrategy[Any]:
        """Return what to feed."""

    @abstractmethod
    def feed(self, case: Any) -> None:
        """Feed one case; raise Found (or anything) if something does not hold."""

    def begin(self, directory: Path) -> None:  # noqa: B027  (most have nothing to begin or end)
        """Make ready, in an empty directory."""

    def end(self) -> None:  # noqa: B027
        """Clear away."""

    def finish(self) -> None:  # noqa: B027
        """Look once more when all has been fed; raise Found."""


@dataclass(frozen=True)
class Finding:
    """What was found, and how to find it again."""

    target: str
    seed: int
    examples: int
    error: str
    case: str

    def __str__(self) -> str:
        again = f"python -m tests.fuzz --target {self.target} --seed {self.seed} --examples {self.examples}"
        return f"{self.target}: {self.error}\n  with {self.case}\n  again: {again}"


def explore(target: Target, first: int, examples: int, *, shrink: bool = True) -> Finding | None:
    """Feed a target so many cases of a seed; return what was found, cut down if that can be."""
    shrink = shrink and target.shrinks
    failed: list[tuple[Exception, Any]] = []

    @seed(first)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink) if shrink else (Phase.generate,),
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        print_blob=False,
    )
    @given(target.cases())
    def run(case: Any) -> None:
        if failed and not shrink:
            return  # It is tried again, but a node that was fed so much is not as it was.
        try:
            target.feed(case)
        except Exception as error:
            failed.append((error, case))
            raise

    with _begun(target):
        try:
            with contextlib.redirect_stdout(None):
                run()
            target.finish()
        except Exception as error:  # Whatever it is, it is a finding.
            raised, case = failed[-1] if failed else (error, "all that was fed")
            return Finding(target.name, first, examples, _told(raised), repr(case)[:MOST_SHOWN])
    return None


def explore_for(target: Target, first: int, examples: int, seconds: float) -> tuple[Finding | None, int]:
    """Explore one seed after the other until the time is over; return what was found, and how many seeds ran."""
    until = time.monotonic() + seconds
    number = first
    while (finding := explore(target, number, examples)) is None and time.monotonic() < until:
        number += 1
    return finding, number - first + 1


def _told(error: Exception) -> str:
    """Say what was raised and, if it is no Found, where."""
    text = f"{type(error).__name__}: {error}"[:MOST_SHOWN]
    if isinstance(error, Found):
        return text
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    return text + "".join(f"\n    {Path(one.filename).name}:{one.lineno} {one.name}: {one.line}" for one in frames)


@contextlib.contextmanager
def _begun(target: Target) -> Iterator[None]:
    with tempfile.TemporaryDirectory(prefix="coterie-fuzz-") as directory:
        target.begin(Path(directory))
        try:
            yield
        finally:
            target.end()
