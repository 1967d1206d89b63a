"""Quorum append: rule 14 of the slot protocol, and the path of every message.

Mailbox records merge, so an append needs no consensus: the coordinator commits locally and sends one frame to each
replica at the same time, and the append is acknowledged when a majority of K distinct nodes have it on disk: members
first, and for a member that is down the next live successors of this node as stand-ins.

Calls of one turn of the event loop are gathered: one task, one transaction and one frame a replica for all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from coterie_protocol.errors import CoterieError, ErrorCode, Unavailable
from coterie_protocol.identifiers import Uid
from coterie_protocol.records import Record, State, fault_of
from coterie_protocol.replication import Replicated
from coterie_protocol.words import counted

from ...runtime.ports import Clock, Handlers, Peers, Store, StoreError, Suggestions, Tasks, Tx
from ..commits import Arrivals
from ..configuration import SlotTable
from ..settings import ReplicationSettings
from ..sifting import sift
from .batches import Batch, Done, call, gather
from .replica import Holder

log = structlog.get_logger()

DUPLICATE = "another message is held under this id"
BUSY_MS = 100
"""Milliseconds after which who was answered BUSY may try again."""
_BATCH_BITS = 20
_TICKS = 8


class Appender:
    """Coordinates appends on this node, and holds what other coordinators send."""

    def __init__(
        self,
        table: SlotTable,
        store: Store,
        peers: Peers,
        suggestions: Suggestions,
        handlers: Handlers,
        tasks: Tasks,
        clock: Clock,
        arrivals: Arrivals,
        settings: ReplicationSettings,
    ) -> None:
        self._table = table
        self._store = store
        self._peers = peers
        self._suggestions = suggestions
        self._tasks = tasks
        self._clock = clock
        self._arrivals = arrivals
        self._settings = settings
        self._me = peers.me
        self._majority = table.replication_factor // 2 + 1
        self._holder = Holder(table, store, peers, handlers, tasks, arrivals, settings)
        self._calls: list[tuple[Sequence[Record], Done]] = []
        self._outstanding: dict[int, Batch] = {}
        self._records = 0
        """Records in outstanding batches ..."""
        self._bytes = 0
        """... and their bytes."""
        self._watching = False
        # An answer to a batch of this node's last life must never count for one of this life.
        self._number = clock.wall_ms() << _BATCH_BITS
        self.acknowledged = 0
        """Records acknowledged since the start, for metrics."""
        self.unavailable = 0
        """Records whose append did not reach its majority in time."""
        handlers.on_event(Replicated, self._replicated)
        peers.watch(self._peer)

    def append(self, records: Sequence[Record], done: Done) -> None:
        """Store records; `done(part, copies, error)` is called once for each disjoint part of them as it is decided.

        Records in state 0 are inserted: a key that is held with another body in state 0 is DUPLICATE_ID (and on a
        majority of disks all the same), with the same body or in a further state success. Other states are merged.
        Unavailable means *unknown*: the records may be on some disks, and may be sent again. BUSY: too many are on
        their way already, and these were not taken. BAD_REQUEST: a record that cannot be stored; the others are.
        """
        if any(map(fault_of, records)):
            records = self._sound(records, done)
        if not records:
            return
        if self._records >= self._settings.append_records or self._bytes >= self._settings.append_bytes:
            call(done, records, 0, CoterieError("the node is busy; try again", code=ErrorCode.BUSY, value=BUSY_MS))
            return
        if not self._calls:
            # It runs in the loop's next turn, and finds everything that this turn brings.
            self._tasks.start(self._turn(), "append")
        self._calls.append((records, done))

    def _sound(self, records: Sequence[Record], done: Done) -> Sequence[Record]:
        """Refuse the records that cannot be stored, and return the others."""
        for record in records:
            if fault := fault_of(record):
                call(done, (record,), 0, CoterieError(f"it cannot be stored: {fault}", code=ErrorCode.BAD_REQUEST))
        return sift(records, self._me)

    async def append_one(self, record: Record) -> int:
        """Store one record; return on how many disks it is. Raises Unavailable or CoterieError DUPLICATE_ID."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def done(_: Sequence[Record], copies: int, error: CoterieError | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(copies)
            else:
                future.set_exception(error)

        self.append((record,), done)
        return await future

    # --- one turn ---

    async def _turn(self) -> None:
        calls, self._calls = self._calls, []
        batches = gather(calls, self._table.members, self._new_batch)
        if not batches:
            return
        for batch in batches:
            self._send(batch)
        self._watch()
        try:
            changed, refused = await self._store.transact(lambda tx: _commit(tx, batches))
        except StoreError as error:
            log.warning("cannot store records here", reason=str(error))
            for batch in batches:
                batch.local = True
                self._lost(batch, self._me)
            return
        except Exception:
            log.exception("records could not be stored together; each batch is tried alone")
            await self._apart(batches)
            return
        self._stored(batches, changed, refused)

    def _stored(self, batches: Sequence[Batch], changed: Sequence[Record], refused: Sequence[set[int]]) -> None:
        for batch, duplicates in zip(batches, refused, strict=True):
            batch.local = True
            batch.duplicates = duplicates
            self._acked(batch, self._me)
        self._arrivals.publish(changed)

    async def _apart(self, batches: Sequence[Batch]) -> None:
        """Commit the batches of a turn one by one: one of them has something that nobody foresaw."""
        for batch in batches:
            try:
                changed, refused = await self._store.transact(lambda tx, batch=batch: _commit(tx, [batch]))  # type: ignore[misc]
            except Exception as error:
                log.error("records could not be stored here", records=len(batch.records), reason=repr(error))
                batch.local = True
                self._lost(batch, self._me)
            else:
                self._stored([batch], changed, refused)

    def _new_batch(self, members: tuple[Uid, ...]) -> Batch:
        self._number += 1
        return Batch(self._number, members, self._clock.now())

    def _send(self, batch: Batch) -> None:
        self._outstanding[batch.number] = batch
        self._records += len(batch.records)
        self._bytes += batch.size
        batch.asked.add(self._me)
        batch.waiting.add(self._me)
        for uid in batch.members:
            if uid == self._me:
                continue
            batch.asked.add(uid)
            # One that is silent but linked gets it too: it may only be slow.
            if self._peers.send(uid, batch.message):
                batch.waiting.add(uid)
            if not self._peers.alive(uid):
                batch.missing += 1
        self._stand_in(batch)

    def _stand_in(self, batch: Batch) -> None:
        """Give the records to the next live successors in place of nodes that are missing."""
        if not batch.missing:
            return
        for uid in self._suggestions.standins(batch.members):
            if not batch.missing:
                return
            if uid not in batch.asked and self._peers.send(uid, batch.message):
                batch.asked.add(uid)
                batch.waiting.add(uid)
                batch.missing -= 1

    # --- what becomes of a batch ---

    def _replicated(self, sender: Uid, message: Replicated) -> None:
        if message.newer:
            self._table.learn(message.newer)
        batch = self._outstanding.get(message.batch)
        if batch is None or sender not in batch.asked:
            return
        if message.ok:
            self._acked(batch, sender)
        else:
            self._lost(batch, sender)

    def _acked(self, batch: Batch, uid: Uid) -> None:
        batch.waiting.discard(uid)
        batch.acked.add(uid)
        self._decide(batch)

    def _lost(self, batch: Batch, uid: Uid) -> None:
        """A node that was asked will not answer, or cannot write."""
        if uid in batch.waiting:
            batch.waiting.discard(uid)
            if not batch.late:
                batch.missing += 1
        if batch.number in self._outstanding:
            self._stand_in(batch)
            self._decide(batch)

    def _decide(self, batch: Batch) -> None:
        if len(batch.acked) < self._majority or batch.number not in self._outstanding:
            return
        if batch.pending and not batch.local and not batch.late:
            return  # Whether an id is free is not known yet; a disk that hangs is not waited for.
        self._settle(batch)
        self.acknowledged += len(batch.records)
        copies = len(batch.acked)
        if batch.duplicates:
            self._tell_apart(batch, copies)
            return
        for records, done in batch.parts:
            call(done, records, copies, None)

    def _settle(self, batch: Batch) -> None:
        del self._outstanding[batch.number]
        self._records -= len(batch.records)
        self._bytes -= batch.size

    def _tell_apart(self, batch: Batch, copies: int) -> None:
        """Answer a batch in which some ids are held with another body."""
        index = 0
        for records, done in batch.parts:
            refused = [index + at in batch.duplicates for at in range(len(records))]
            index += len(records)
            stored = [record for record, no in zip(records, refused, strict=True) if not no]
            if stored:
                call(done, stored, copies, None)
            if any(refused):
                others = [record for record, no in zip(records, refused, strict=True) if no]
                call(done, others, copies, CoterieError(DUPLICATE, code=ErrorCode.DUPLICATE_ID))

    def _give_up(self, batch: Batch, reason: str) -> None:
        self._settle(batch)
        self.unavailable += len(batch.records)
        error = Unavailable(
            f"{reason}: {len(batch.acked)} of {counted(self._majority, 'node')} have stored it; "
            "it may arrive all the same, and may be sent again"
        )
        for records, done in batch.parts:
            call(done, records, len(batch.acked), error)

    # --- time and peers ---

    def _watch(self) -> None:
        if not self._watching:
            self._watching = True
            self._tasks.start(self._look_after(), "look after appends")

    async def _look_after(self) -> None:
        """Look at what takes long, until nothing is outstanding."""
        tick = min(self._settings.standin_after, self._settings.append_timeout) / _TICKS
        try:
            while self._outstanding:
                await self._clock.sleep(tick)
                now = self._clock.now()
                for batch in list(self._outstanding.values()):
                    if now - batch.begun < self._settings.standin_after:
                        break  # They stand in the order of their beginning.
                    self._late(batch, now - batch.begun)
        finally:
            self._watching = False

    def _late(self, batch: Batch, age: float) -> None:
        if not batch.late:
            batch.late = True
            batch.missing += len(batch.waiting)
        self._stand_in(batch)
        self._decide(batch)
        if batch.number not in self._outstanding:
            return
        if age >= self._settings.append_timeout:
            self._give_up(batch, "no majority has answered in time")
        elif len(batch.acked) + sum(map(self._table.live, batch.waiting)) < self._majority:
            self._give_up(batch, "no majority can be reached")

    def _peer(self, uid: Uid, alive: bool) -> None:
        for batch in list(self._outstanding.values()):
            if not alive:
                self._lost(batch, uid)
            elif uid in batch.members and uid not in batch.waiting and uid not in batch.acked:
                self._send_again(batch, uid)

    def _send_again(self, batch: Batch, uid: Uid) -> None:
        """Repeat what may have been lost with the link that broke."""
        if self._peers.send(uid, batch.message):
            batch.waiting.add(uid)


def _commit(tx: Tx, batches: Sequence[Batch]) -> tuple[list[Record], list[set[int]]]:
    """Write all records; return what changed, and for each batch which of its records found another body's id."""
    inserts = [record for batch in batches for record in batch.records if not record.state]
    merges = [record for batch in batches for record in batch.records if record.state]
    answers = tx.insert_many(inserts) if inserts else []
    changed = [record for record, held in zip(inserts, answers, strict=True) if held is None]
    refused: list[set[int]] = [set() for _ in batches]
    if len(changed) < len(inserts):
        verdicts = iter(answers)
        for batch, indexes in zip(batches, refused, strict=True):
            for index, record in enumerate(batch.records):
                if not record.state and _another(record, next(verdicts)):
                    indexes.add(index)
    if merges:
        changed += tx.merge(merges)
    return changed, refused


def _another(record: Record, held: Record | None) -> bool:
    """Say whether a record's id is held by another pending message; a further state of it is no contradiction."""
    return held is not None and held.state == State.PENDING and held.body != record.body
