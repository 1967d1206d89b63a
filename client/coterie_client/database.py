"""The SQLite file of one account on this device: schema, transactions, what to say when it fails.

Several processes share it (`send` beside `receive --follow`): WAL, a busy timeout, and every write in a
`BEGIN IMMEDIATE` transaction that is on disk (synchronous=FULL) when it returns. Calls are short and block.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from .errors import ClientError
from .private import make_directory, open_private

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """
        CREATE TABLE messages (
            seq      INTEGER PRIMARY KEY,
            sender   TEXT    NOT NULL,   -- '' for what this account sent
            id       BLOB    NOT NULL,
            peer     TEXT    NOT NULL,   -- the other person
            epoch    INTEGER NOT NULL,   -- of the sender's session; 0 where the body cannot be read
            counter  INTEGER NOT NULL,
            prev     BLOB    NOT NULL,
            time     INTEGER NOT NULL,   -- Unix ms: stored_at, or the local clock while sending
            text     TEXT,               -- NULL where the body cannot be read
            body     BLOB    NOT NULL,   -- as sent or received; emptied once archived, if the text says it all
            state    TEXT    NOT NULL,   -- sending, stored, delivered, read, expired
            shown    INTEGER NOT NULL,
            archived INTEGER NOT NULL,   -- the mailbox has confirmed the archive copy
            UNIQUE (sender, id)
        )
        """,
        "CREATE INDEX messages_by_peer ON messages (peer, time, seq)",
        "CREATE INDEX messages_by_counter ON messages (peer, sender, epoch, counter)",
        "CREATE INDEX messages_unshown ON messages (seq) WHERE shown = 0",
        "CREATE INDEX messages_outgoing ON messages (state, archived, seq) WHERE sender = '' AND archived = 0",
        "CREATE INDEX messages_undelivered ON messages (seq) WHERE sender = '' AND state = 'stored'",
        "CREATE TABLE contacts (name TEXT PRIMARY KEY, alias TEXT NOT NULL, added_at INTEGER NOT NULL)",
        "CREATE TABLE marks (name TEXT PRIMARY KEY, value INTEGER NOT NULL)",
    ),
    (
        "CREATE INDEX messages_sending ON messages (peer, epoch, seq) "
        "WHERE sender = '' AND archived = 0 AND state = 'sending'",
    ),
)
"""What brings a file from schema version n to n+1."""

FULL_BYTES = 65_536
"""A disk with less than this free is full: SQLite's shared-memory file alone takes half of it."""
_DAMAGED = ("not a database", "malformed", "no such table", "no such column", "could not decode")

PAGED_EPOCH = "paged_epoch"
"""Mark: the session epoch at whose beginning the archive was paged."""
PLACED_EPOCH = "placed_epoch"
"""Mark: the session epoch of which this file has learnt what had been sent before it was made."""


def account_path(home: Path, ring_uid: str, name: str, suffix: str = ".db") -> Path:
    """Return an account's file on this device; names are percent-encoded, for they may hold any character."""
    return home / "accounts" / ring_uid / (quote(name, safe="") + suffix)


class Database:
    """One account's file, opened. Close it, or use it as a context manager."""

    def __init__(self, path: Path) -> None:
        """Open or create the file; raises ClientError if it cannot be used."""
        self.path = path
        with describe_failures(path):
            make_directory(path.parent)
            os.close(open_private(path))  # SQLite gives -wal and -shm the rights of the file itself
            self._sql = sqlite3.connect(path, timeout=10, isolation_level=None)
            try:
                self._sql.execute("PRAGMA journal_mode = WAL")
                self._sql.execute("PRAGMA synchronous = FULL")
                self._migrate()
            except BaseException:
                self._sql.close()
                raise
        self._sql.create_function("folded", 1, _folded, deterministic=True)

    def _migrate(self) -> None:
        if self._version() == len(MIGRATIONS):
            return
        with self.write() as sql:
            version = self._version()
            if version > len(MIGRATIONS):
                raise ClientError(f"{self.path} was written by a newer coterie; update this one")
            for statements in MIGRATIONS[version:]:
                for statement in statements:
                    sql.execute(statement)
            sql.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")

    def _version(self) -> int:
        return int(self._sql.execute("PRAGMA user_version").fetchone()[0])

    @contextlib.contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Run the block as one transaction, on disk when the block has ended; undone if it raises."""
        with describe_failures(self.path):
            self._sql.execute("BEGIN IMMEDIATE")
            try:
                yield self._sql
                self._sql.execute("COMMIT")
            except BaseException:
                if self._sql.in_transaction:
                    self._sql.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Hand out the connection for reading."""
        with describe_failures(self.path):
            yield self._sql

    def mark(self, name: str) -> int:
        """Return a named number, 0 if it was never set."""
        with self.read() as sql:
            row = sql.execute("SELECT value FROM marks WHERE name = ?", (name,)).fetchone()
        return int(row[0]) if row else 0

    def set_mark(self, name: str, value: int) -> None:
        """Keep a named number."""
        with self.write() as sql:
            sql.execute("INSERT OR REPLACE INTO marks VALUES (?, ?)", (name, value))

    def close(self) -> None:
        """Close the file."""
        self._sql.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def is_full(path: Path) -> bool:
    """Say whether the disk of a file has no room left for more than a few pages."""
    try:
        disk = os.statvfs(path.parent)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < FULL_BYTES or (disk.f_files > 0 and disk.f_favail == 0)


@contextlib.contextmanager
def describe_failures(path: Path) -> Iterator[None]:
    """Turn SQLite's and the file system's errors into a ClientError that names the file."""
    try:
        yield
    except sqlite3.Error as error:
        raise ClientError(f"cannot use {path}: {error}; {_remedy(error, path)}") from error
    except OSError as error:
        raise ClientError(f"cannot use {path}: {error.strerror}; check the directory and its rights") from error


def _remedy(error: sqlite3.Error, path: Path) -> str:
    # Beside a full disk SQLite cannot make the files that even reading needs, and calls that an I/O error.
    if "full" in str(error) or ("I/O" in str(error) and is_full(path)):
        return "free some disk space and try again"
    if "locked" in str(error):
        return "another process holds it for too long; try again"
    if any(sign in str(error) for sign in _DAMAGED):
        return "move the damaged file away and log in again: the archive comes back from the ring"
    return "check the directory and its rights"


def _folded(text: object) -> str:
    return text.casefold() if isinstance(text, str) else ""
