"""The one thread that writes: group commit.

Whatever was queued while the last commit ran goes into the next transaction, so that one fsync serves all of it. A
function that raises takes no other with it. One that had written nothing yet costs only itself; that is the usual case,
for values are checked before the first write. Otherwise the transaction is undone and all of it runs once more, each
function between savepoints: however many fail, the others cost twice their work and still one fsync.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import structlog

from coterie_protocol.words import counted

from .checkpoints import Checkpointer
from .connections import is_ours, store_error
from .counters import Changes, Tally
from .damage import condemn
from .errors import RegisterDamaged, StoreBusy, StoreClosed, StoreDamaged, StoreError
from .tx import Transaction

log = structlog.get_logger()
T = TypeVar("T")

MAX_BATCH = 2_048
"""Functions in one transaction."""
MAX_QUEUED = 65_536
"""Functions that wait for the disk. What they carry is bounded by whoever submits them, in bytes."""
PROBE_SECONDS = 1.0
"""How often a store that failed tries whether it can write again."""
_PROBE_KEY = "store.probe"


class Commit(NamedTuple):
    """One committed transaction, for metrics."""

    functions: int
    writes: int
    records: int
    seconds: float
    """The whole transaction, functions included."""
    sync_seconds: float
    """Its COMMIT: the fsync."""


class Events(NamedTuple):
    """Whom the writer tells, always on the event loop."""

    committed: Callable[[Commit], None]
    health: Callable[[StoreError | None], None]
    """A failure that concerns the whole store, or None when it can write again."""
    damage: Callable[[str], None]


class _Job(NamedTuple):
    function: Callable[[Transaction], Any]
    future: asyncio.Future[Any] | None


class _Result(NamedTuple):
    future: asyncio.Future[Any] | None
    value: Any
    error: BaseException | None


def _nothing(_: Transaction) -> None:
    """Wake the writer."""


class Writer:
    """Runs functions in order, many in a transaction. `submit` belongs to the event loop's thread."""

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        transaction: Transaction,
        tally: Tally,
        checkpointer: Checkpointer,
        events: Events,
    ) -> None:
        self._path = path
        self._connection = connection
        self._tx = transaction
        self._tally = tally
        self._checkpointer = checkpointer
        self._events = events
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closed = False
        self._failure: StoreError | None = None
        self._reported: list[StoreError] = []
        """What readers met and the writer has not taken up yet; the readers' threads append to it."""
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def submit(self, function: Callable[[Transaction], T]) -> asyncio.Future[T]:
        """Queue a function; its future is resolved after the fsync. Raises StoreClosed, StoreBusy."""
        if self._closed:
            raise StoreClosed
        if (waiting := self._queue.qsize()) >= MAX_QUEUED:
            raise StoreBusy("writes", waiting)
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.put(_Job(function, future))
        return future

    def put_aside(self, place: tuple[int, bytes]) -> None:
        """Queue the putting aside of a record that a reader found damaged; from any thread."""
        self._queue.put(_Job(lambda tx: tx.put_aside(place), None))

    def rows_are_gone(self, slot: int) -> None:
        """Tell of a slot whose records on the disk are not those that were written; from any thread."""
        log.error("the disk has lost or changed records that were synced; repair fetches them", slot=slot)
        self._post(self._events.damage, f"slot {slot} is not on the disk as it was written")

    def reader_failed(self, failure: StoreError) -> None:
        """Treat what a reader met as if the writer had, before anything else is committed; from any thread."""
        self._reported.append(failure)
        self._queue.put(_Job(_nothing, None))

    def close(self) -> None:
        """Refuse what comes from now on; what is queued is still committed."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)

    def join(self) -> None:
        """Wait for the thread's end; not on the event loop."""
        self._thread.join()

    # --- the writer's thread from here on ---
    def _run(self) -> None:
        while not self._stopping:
            self._process(self._take())

    @property
    def _may_recover(self) -> bool:
        return self._failure is not None and not isinstance(self._failure, StoreDamaged)

    def _take(self) -> list[_Job]:
        """Wait for work, and take what has gathered in the meantime."""
        batch: list[_Job] = []
        try:
            job = self._queue.get(timeout=PROBE_SECONDS if self._may_recover else None)
            while job is not None:
                batch.append(job)
                if len(batch) == MAX_BATCH:
                    return batch
                job = self._queue.get_nowait()
            self._stopping = True
        except queue.Empty:
            if not batch:  # Only a store that has failed waits with a time limit.
                batch.append(_Job(lambda tx: tx.put_meta(_PROBE_KEY, b"%d" % time.time_ns()), None))
        return batch

    def _process(self, batch: list[_Job]) -> None:
        if not self._commit(batch, apart=False):
            self._commit(batch, apart=True)

    def _commit(self, jobs: list[_Job], *, apart: bool) -> bool:
        """Run jobs in one transaction and resolve their futures.

        False: a job failed when it had written, and the transaction was undone; all are to run again, kept `apart`.
        """
        self._take_up()
        if isinstance(self._failure, StoreDamaged):
            # A write that went well now would confirm what a broken index says is here, and is not.
            self._post(self._resolve, [_Result(job.future, None, self._failure) for job in jobs], None, None)
            return True
        started = time.perf_counter()
        tx = self._tx
        tx.begin()
        results: list[_Result] = []
        try:
            if self._checkpointer.log_is_long:
                self._checkpointer.finish(self._connection)
            self._connection.execute("BEGIN IMMEDIATE")
            for function, future in jobs:
                written = tx.written
                undo = self._savepoint() if apart else None
                try:
                    results.append(_Result(future, function(tx), None))
                except Exception as error:
                    if isinstance(error, sqlite3.Error) and is_ours(error):
                        raise
                    if tx.written != written:
                        if undo is None:
                            self._rollback()
                            return False
                        self._undo(*undo)
                    results.append(_Result(future, None, error))
                if undo is not None:
                    self._connection.execute("RELEASE job")
            tx.recount()
            if damage := next((one for one in self._reported if isinstance(one, StoreDamaged)), None):
                raise damage
            syncing = time.perf_counter()
            with self._tally.order:
                self._connection.execute("COMMIT")
                self._tally.apply(tx.changes)
        except Exception as error:
            self._rollback()
            self._fail(jobs, error)
            return True
        ended = time.perf_counter()
        records = sum(map(len, tx.changes.entries.values()))
        self._checkpointer.wrote(tx.written + records)
        self._tell(results, Commit(len(jobs), tx.written, records, ended - started, ended - syncing))
        return True

    def _savepoint(self) -> tuple[Changes, int, int]:
        self._connection.execute("SAVEPOINT job")
        return self._tx.changes.mark(), self._tx.written, self._tx.set_aside

    def _undo(self, changes: Changes, written: int, set_aside: int) -> None:
        """Undo the job that has just failed, and nothing else."""
        self._connection.execute("ROLLBACK TO job")
        self._tx.changes.back_to(changes)
        self._tx.written, self._tx.set_aside = written, set_aside

    def _take_up(self) -> None:
        while self._reported:
            failure = self._reported.pop(0)
            if not isinstance(self._failure, StoreDamaged):
                self._failed(failure, [])

    def _rollback(self) -> None:
        if self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except sqlite3.Error as error:
                log.error("rollback failed", reason=str(error))

    def _fail(self, jobs: list[_Job], error: Exception) -> None:
        if isinstance(error, StoreDamaged):
            failure: StoreError = error
        elif isinstance(error, sqlite3.Error):
            failure = store_error(error, self._path)
        else:
            log.error("the store's writer failed", exc_info=error)
            failure = StoreError(f"{self._path}: {error!r}")
        self._failed(failure, jobs)

    def _failed(self, failure: StoreError, jobs: list[_Job]) -> None:
        if self._failure is None or isinstance(failure, StoreDamaged):
            log.error("the store fails", reason=str(failure))
        if isinstance(failure, StoreDamaged):
            condemn(self._path, failure.reason)
        self._failure = failure
        self._post(self._resolve, [_Result(job.future, None, failure) for job in jobs], None, failure)

    def _tell(self, results: list[_Result], commit: Commit | None) -> None:
        recovered = commit is not None and commit.writes > 0 and self._failure is not None
        if recovered:
            self._failure = None
            log.info("the store can write again")
        if self._tx.set_aside and commit is not None:
            log.warning("records failed their checksum and were put aside", records=self._tx.set_aside)
            self._post(self._events.damage, f"{counted(self._tx.set_aside, 'record')} failed the checksum")
        self._post(self._resolve, results, commit, None, recovered)

    def _post(self, callback: Callable[..., None], *arguments: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *arguments)
        except RuntimeError:
            # The loop is closed: nobody waits any more.
            log.debug("event loop closed before the store")

    # --- the event loop's thread again ---
    def _resolve(
        self, results: list[_Result], commit: Commit | None, failure: StoreError | None, recovered: bool = False
    ) -> None:
        if failure is not None or recovered:
            self._events.health(failure)
        if commit is not None:
            self._events.committed(commit)
        for future, value, error in results:
            if isinstance(error, RegisterDamaged):
                log.warning("register failed its checksum", slot=error.slot, account=error.name is not None)
                self._events.damage(str(error))
            if future is None or future.done():
                continue
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)
