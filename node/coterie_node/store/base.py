"""What the parts of a transaction share."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from .counters import Changes, Tally
from .errors import StoreError

Place = tuple[int, bytes]


class BaseTx:
    """One connection's transaction. The writer's one sees its own changes; a reader's refuses to write."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        tally: Tally,
        now_ms: Callable[[], int],
        *,
        writable: bool,
        damaged: Callable[[Place], None],
    ) -> None:
        """`damaged` is told where a record failed its checksum when this transaction cannot put it aside itself."""
        self._connection = connection
        self._tally = tally
        self._now_ms = now_ms
        self._writable = writable
        self._damaged = damaged
        self.suspects: set[tuple[int, str | None]] = set()
        """Registers that failed their checksum, (slot, name or None): one set that all of a store's share."""
        self.changes = Changes()
        self.written = 0
        """Writes so far: a function that raised before its first one needs no rollback."""
        self.set_aside = 0
        """Damaged records that this transaction has put aside."""

    def begin(self) -> None:
        """Start afresh."""
        self.changes = Changes()
        self.written = 0
        self.set_aside = 0

    def _write(self) -> None:
        if not self._writable:
            raise StoreError("a function given to `read` must not write")
        self.written += 1
