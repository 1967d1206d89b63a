"""A node's durable state: one SQLite database in its data directory."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog

from ..measure import BATCH_RECORDS, COMMIT_SECONDS, Distribution
from ..telling import tell
from .checkpoints import Checkpointer
from .connections import connect, store_error, undecodable
from .counters import Contents, Tally
from .damage import verdict
from .directory import DirectoryLock
from .errors import StoreBusy, StoreClosed, StoreDamaged, StoreError
from .migrations import migrate
from .readers import Readers
from .records import Sequence64
from .registers import read_mark
from .tx import Transaction
from .writer import Commit, Events, Writer

log = structlog.get_logger()
T = TypeVar("T")

DATABASE_NAME = "coterie.db"
READERS = 2
MAX_READS = 8192
"""Reads that run or wait for a reader."""
SWITCH_INTERVAL_S = 0.0005
"""How long a busy thread may keep the interpreter lock (sys.setswitchinterval; Python's default is 5 ms).

The writer gives the lock up for every SQLite call and the event loop takes it. With the default and a busy loop it got
284 single writes a second through, with this value 4,700.
"""


def wall_ms() -> int:
    """Return Unix milliseconds."""
    return time.time_ns() // 1_000_000


@dataclass
class Stats:
    """Running totals since the start, for metrics."""

    commits: int = 0
    functions: int = 0
    records: int = 0
    failures: int = 0
    damaged: int = 0
    sync_seconds: float = 0.0
    commit_seconds: Distribution = field(default_factory=partial(Distribution, COMMIT_SECONDS))
    """Whole transactions, functions included."""
    batch_records: Distribution = field(default_factory=partial(Distribution, BATCH_RECORDS))
    """Records in a transaction that wrote any."""


@dataclass
class Watchers:
    """Whom the store tells what happens, on the event loop. All may be set after the opening."""

    committed: list[Callable[[Commit], None]] = field(default_factory=list)
    health: list[Callable[[StoreError | None], None]] = field(default_factory=list)
    damage: list[Callable[[str], None]] = field(default_factory=list)


class Store:
    """Implements `runtime.ports.Store`. Use `await Store.open(directory)` and `await store.close()`.

    `transact` runs functions in the writer's thread, in order, many in one transaction; `read` runs beside it.
    Functions must only compute and use their transaction; one given to `transact` may run more than once.
    """

    def __init__(self, directory: Path, opened: _Opened) -> None:
        """Use `open`."""
        self.directory = directory
        self.stats = Stats()
        self.watchers = Watchers()
        self.failure: StoreError | None = None
        """Why the store cannot write; None while it can."""
        self._opened = opened
        self._closing: asyncio.Task[None] | None = None
        self._reading = 0
        events = Events(self._committed, self._health, self._damage)
        self._writer = Writer(
            opened.path, opened.connection, opened.transaction, opened.tally, opened.checkpointer(), events
        )
        opened.tally.lost = self._writer.rows_are_gone
        self._readers = opened.readers(self._writer.put_aside, self._writer.reader_failed)

    @classmethod
    async def open(cls, directory: Path, *, now_ms: Callable[[], int] = wall_ms) -> Store:
        """Open or make the store of a data directory, and lock the directory.

        Lowers the interpreter's switch interval for the whole process (see SWITCH_INTERVAL_S).

        Raises StoreError, as one of: DirectoryLocked, DirectoryUnusable, SchemaTooNew, NotAStore, StoreDamaged.
        """
        sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH_INTERVAL_S))
        opened = await asyncio.to_thread(_Opened.open, directory, now_ms)
        try:
            return cls(directory, opened)
        except BaseException:
            opened.release()
            raise

    async def close(self) -> None:
        """Commit what is queued, then close everything and let the directory go. May be called twice."""
        if self._closing is None:
            self._writer.close()
            self._closing = asyncio.ensure_future(asyncio.to_thread(self._close))
        await asyncio.shield(self._closing)

    def _close(self) -> None:
        self._writer.join()
        self._readers.close()
        self._opened.release()

    async def transact(self, function: Callable[[Transaction], T]) -> T:
        """Run a function in the writer's order; return its result after the fsync. Raises StoreError.

        What the function raises is raised here, and none of its writes is kept.
        """
        return await self._writer.submit(function)

    async def read(self, function: Callable[[Transaction], T]) -> T:
        """Run a function that only reads on the newest committed state, out of the writer's way. Raises StoreError."""
        if self._closing is not None:
            raise StoreClosed
        if isinstance(self.failure, StoreDamaged):
            raise self.failure
        if self._reading >= MAX_READS:
            raise StoreBusy("reads", self._reading)
        loop = asyncio.get_running_loop()
        self._reading += 1
        try:
            return await loop.run_in_executor(self._readers.executor, self._readers.run, function)
        finally:
            self._reading -= 1

    @property
    def healthy(self) -> bool:
        """Say whether the last write went well; readiness follows it."""
        return self.failure is None

    def contents(self) -> Contents:
        """Return how much of what each slot holds here, from memory."""
        return self._opened.tally.contents()

    def free_bytes(self) -> int:
        """Return how much the file system still takes from this user. Raises OSError."""
        return shutil.disk_usage(self.directory).free

    def size_bytes(self) -> int:
        """Return how much the database and its log take on disk."""
        total = 0
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                total += (self.directory / (DATABASE_NAME + suffix)).stat().st_size
        return total

    def _committed(self, commit: Commit) -> None:
        self.stats.commits += 1
        self.stats.functions += commit.functions
        self.stats.records += commit.records
        self.stats.commit_seconds.observe(commit.seconds)
        if commit.records:
            self.stats.batch_records.observe(commit.records)
        self.stats.sync_seconds += commit.sync_seconds
        tell(self.watchers.committed, commit)

    def _health(self, failure: StoreError | None) -> None:
        self.failure = failure
        if failure is not None:
            self.stats.failures += 1
        tell(self.watchers.health, failure)

    def _damage(self, what: str) -> None:
        self.stats.damaged += 1
        tell(self.watchers.damage, what)


class _Opened:
    """What a store holds open, released in the reverse order."""

    def __init__(self, directory: Path, now_ms: Callable[[], int], stack: ExitStack) -> None:
        self.path = directory / DATABASE_NAME
        self._now_ms = now_ms
        self._stack = stack
        self.connection = self._connect(writable=True)
        migrate(self.connection, self.path)
        read_mark(self.connection, self.path)
        self.tally = Tally(self._connect(writable=False), now_ms)
        self.transaction = Transaction(self.connection, self.tally, now_ms, writable=True, damaged=lambda _: None)
        self.suspects = self.transaction.suspects
        self.transaction.sequence = Sequence64(self.connection)

    @classmethod
    def open(cls, directory: Path, now_ms: Callable[[], int]) -> _Opened:
        """Lock the directory and open its database. Raises StoreError."""
        path = directory / DATABASE_NAME
        with ExitStack() as stack:
            stack.callback(DirectoryLock(directory).release)
            if reason := verdict(path):
                raise StoreDamaged(path, reason)
            try:
                opened = cls(directory, now_ms, stack)
            except UnicodeDecodeError as error:
                raise store_error(undecodable(error), path) from error
            except sqlite3.Error as error:
                raise store_error(error, path) from error
            opened._stack = stack.pop_all()
            return opened

    def _connect(self, *, writable: bool) -> sqlite3.Connection:
        connection = connect(self.path, writable=writable)
        self._stack.callback(connection.close)
        return connection

    def checkpointer(self) -> Checkpointer:
        """Start the checkpoints."""
        checkpointer = Checkpointer(connect(self.path, writable=True))
        self._stack.callback(checkpointer.stop)
        return checkpointer

    def readers(self, damaged: Callable[[tuple[int, bytes]], None], failed: Callable[[StoreError], None]) -> Readers:
        """Open the readers' connections."""
        pairs = []
        for _ in range(READERS):
            connection = connect(self.path, writable=False)
            transaction = Transaction(connection, self.tally, self._now_ms, writable=False, damaged=damaged)
            transaction.suspects = self.suspects
            pairs.append((connection, transaction))
        return Readers(self.path, pairs, failed)

    def release(self) -> None:
        """Close everything; the last connection to go checkpoints the log."""
        self._stack.close()
