"""Copies the write-ahead log into the database beside the writer, so that no commit waits for it.

A passive checkpoint blocks nobody, but the log starts over only when all of it has been copied and nothing came after.
Under a steady load that moment does not come by itself: then the writer, between two transactions, copies the little
that is left.
"""

from __future__ import annotations

import sqlite3
import threading

import structlog

log = structlog.get_logger()

CHECKPOINT_ROWS = 1_000
"""Rows written between two checkpoints: some 2,000 to 4,000 pages of log."""
LONG_LOG_PAGES = 8_192
"""A log longer than this (32 MiB) is finished by the writer."""


class Checkpointer:
    """A thread with a connection of its own."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._rows = 0
        self._wanted = threading.Event()
        self._stopping = False
        self.log_is_long = False
        """The writer should run `finish` before its next transaction; until then the thread keeps still."""
        self._thread = threading.Thread(target=self._run, name="store-checkpoints", daemon=True)
        self._thread.start()

    def wrote(self, rows: int) -> None:
        """Count what the writer has committed."""
        self._rows += rows
        if self._rows >= CHECKPOINT_ROWS and not self.log_is_long:
            self._rows = 0
            self._wanted.set()

    def finish(self, writer: sqlite3.Connection) -> None:
        """Copy what the last background checkpoint left, so that the log starts over; for the writer's thread."""
        checkpoint(writer)
        self.log_is_long = False

    def stop(self) -> None:
        """End the thread and close its connection."""
        self._stopping = True
        self._wanted.set()
        self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            if self._stopping:
                return
            if checkpoint(self._connection) >= LONG_LOG_PAGES:
                # Once more, for what was written meanwhile: the less is left for the writer, the better.
                checkpoint(self._connection)
                self._wanted.clear()
                self.log_is_long = True


def checkpoint(connection: sqlite3.Connection) -> int:
    """Run a passive checkpoint and return the log's length in pages; a failure is only logged, the log keeps it all."""
    try:
        _, pages, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    except sqlite3.Error as error:
        log.warning("checkpoint failed", reason=str(error))
        return 0
    return int(pages)
