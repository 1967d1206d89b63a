"""Appends on their way: records that go to the same nodes in one frame, and who has them on disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from coterie_protocol.errors import CoterieError, Unavailable
from coterie_protocol.identifiers import Uid
from coterie_protocol.records import Record
from coterie_protocol.replication import Replicate
from coterie_protocol.weight import weight_of_record

log = structlog.get_logger()

Done = Callable[[Sequence[Record], int, CoterieError | None], None]
"""(part of the records, copies on disk, error): called once for each disjoint part as it is decided."""

FRAME_BYTES = 256 * 1024
"""Where a frame of appends closes."""


class Batch:
    """Records of slots with the same members, and the state of their append."""

    __slots__ = (
        "acked",
        "asked",
        "begun",
        "duplicates",
        "late",
        "local",
        "members",
        "message",
        "missing",
        "number",
        "parts",
        "pending",
        "size",
        "waiting",
    )

    def __init__(self, number: int, members: tuple[Uid, ...], begun: float) -> None:
        self.number = number
        self.members = members
        self.begun = begun
        self.message = Replicate(number, [])
        self.parts: list[tuple[Sequence[Record], Done]] = []
        self.size = 0
        self.pending = False
        """Some records are in state 0: whether their ids are free is for this node's own disk to say."""
        self.local = False
        """This node's own commit has ended, well or not."""
        self.late = False
        """Older than `standin_after`: those still silent have got stand-ins."""
        self.duplicates: set[int] = set()
        """Indexes of records whose id is held here with another body."""
        self.asked: set[Uid] = set()
        self.waiting: set[Uid] = set()
        """Who was asked and has neither answered nor gone down."""
        self.acked: set[Uid] = set()
        """Who has every record on disk."""
        self.missing = 0
        """Nodes that are down or cannot write, and for whom there is no stand-in yet."""

    @property
    def records(self) -> list[Record]:
        """Return all records, in the order of the parts."""
        return self.message.records

    def add(self, records: Sequence[Record], done: Done) -> bool:
        """Take a part; say whether the frame is full now."""
        self.parts.append((records, done))
        self.message.records.extend(records)
        for record in records:
            self.size += weight_of_record(record)
            if not record.state:
                self.pending = True
        return self.size >= FRAME_BYTES


def gather(
    calls: Sequence[tuple[Sequence[Record], Done]],
    members_of: Callable[[int], tuple[Uid, ...]],
    new_batch: Callable[[tuple[Uid, ...]], Batch],
) -> list[Batch]:
    """Sort the records of many calls into batches. Those of slots that are not known are answered Unavailable."""
    batches: list[Batch] = []
    open_batches: dict[tuple[Uid, ...], Batch] = {}
    members_by_slot: dict[int, tuple[Uid, ...]] = {}

    def put(slot: int, records: Sequence[Record], done: Done) -> None:
        members = members_by_slot.get(slot)
        if members is None:
            members = members_by_slot[slot] = members_of(slot)
        if not members:
            call(done, records, 0, Unavailable("no member of the slot is known here; try again"))
            return
        batch = open_batches.get(members)
        if batch is None:
            batch = open_batches[members] = new_batch(members)
            batches.append(batch)
        if batch.add(records, done):
            del open_batches[members]

    for records, done in calls:
        if len(records) == 1:
            put(records[0].slot, records, done)
            continue
        for slot, part in _parts(records):
            put(slot, part, done)
    return batches


def _parts(records: Sequence[Record]) -> list[tuple[int, list[Record]]]:
    """Cut records into parts of one slot, none larger than a frame."""
    parts: list[tuple[int, list[Record]]] = []
    last: dict[int, tuple[list[Record], int]] = {}
    for record in records:
        part, size = last.get(record.slot, ([], FRAME_BYTES))
        if size >= FRAME_BYTES:
            part, size = [], 0
            parts.append((record.slot, part))
        part.append(record)
        last[record.slot] = (part, size + weight_of_record(record))
    return parts


def call(done: Done, records: Sequence[Record], copies: int, error: CoterieError | None) -> None:
    """Tell a caller; its failure is not that of the others in the batch."""
    try:
        done(records, copies, error)
    except Exception:
        log.exception("the caller of an append failed")


async def append_all(append: Callable[[Sequence[Record], Done], None], records: Sequence[Record]) -> None:
    """Store records and return once all are on a majority; raises the first error."""
    if not records:
        return
    left = len(records)
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def done(part: Sequence[Record], _: int, error: CoterieError | None) -> None:
        nonlocal left
        left -= len(part)
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        elif not left:
            future.set_result(None)

    append(records, done)
    await future
