"""Which code is changed, and which tests must see it: the rooms where promises are kept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
CLIENT_FILES = ("archiver", "backfill", "ordering", "outbox", "placing", "predecessors")
"""The client's order, outbox and archive."""


@dataclass(frozen=True)
class Room:
    """A place in the code, and the tests of it."""

    name: str
    sources: tuple[str, ...]
    """Files and directories, relative to the checkout."""
    tests: tuple[str, ...]
    simulated: bool
    """A short simulation runs this code too."""

    def state(self) -> str:
        """Return a digest of the code and of all that it is tried with."""
        digest = hashlib.sha256()
        for place in (*self.sources, *self.tests, "tests/sim"):
            at = ROOT / place
            for file in sorted(at.rglob("*.py")) if at.is_dir() else [at]:
                digest.update(file.read_bytes())
        return digest.hexdigest()[:16]

    def files(self) -> Iterator[str]:
        """Return the source files, relative to the checkout, in the order of their names."""
        for source in self.sources:
            at = ROOT / source
            for file in sorted(at.rglob("*.py")) if at.is_dir() else [at]:
                yield str(file.relative_to(ROOT))


ROOMS = (
    Room("replication", ("node/coterie_node/replication",), ("tests/unit/replication", "tests/unit/chat"), True),
    Room("chat", ("node/coterie_node/chat",), ("tests/unit/chat", "tests/unit/api"), True),
    Room("store", ("node/coterie_node/store",), ("tests/unit/store", "tests/unit/chat"), False),
    Room(
        "client",
        tuple(f"client/coterie_client/{name}.py" for name in CLIENT_FILES),
        ("tests/unit/client",),
        True,
    ),
)
