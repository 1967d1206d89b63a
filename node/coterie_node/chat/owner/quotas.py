"""What an owner keeps in mind of mailboxes that it stores into: that their users exist, and how full they are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from coterie_node.replication.configuration import SlotTable
from coterie_node.runtime.ports import Clock, Store, Tasks
from coterie_node.telling import tell
from coterie_protocol.errors import CoterieError, ErrorCode, Unavailable
from coterie_protocol.identifiers import slot_of_name
from coterie_protocol.records import RecordKey
from coterie_protocol.words import counted

from ..accounts import no_such_user, unforeseen
from ..ports import AccountRegisters, Ages
from ..settings import ChatSettings
from .session_cache import Current, decoded, own_register, read_store

log = structlog.get_logger()

MOST = 20_000
AHEAD_MS = 1000
"""How far a mailbox's stamps may run ahead of the clock to stay distinct."""
SENDERS = 16
"""Of so many senders a box remembers the last message; of others the store is asked."""
ASKED_AT_ONCE = 64
"""Accounts that are read from a quorum at the same time."""
RECOUNT_PAUSE = 1.0
"""Seconds between two counts of a mailbox that seems full."""

Opened = Callable[["Box | CoterieError"], None]


class Box:
    """A mailbox of a user who exists. `records` and `bytes` count what is pending, or more: they only grow.

    A count that nears the quota, or is old, is read from the store again.
    """

    __slots__ = ("bytes", "counted_at", "latest", "name", "records", "slot", "stamp")

    def __init__(self, name: str, slot: int) -> None:
        self.name = name
        self.slot = slot
        self.records = 0
        self.bytes = 0
        self.counted_at = 0.0
        self.stamp = 0
        self.latest: dict[str, bytes] = {}
        """The id of what was last taken of each of the last few senders."""

    def takes(self, sender: str, message_id: bytes) -> None:
        """Note that a message is being stored."""
        self.latest.pop(sender, None)
        self.latest[sender] = message_id
        if len(self.latest) > SENDERS:
            del self.latest[next(iter(self.latest))]

    def next_stamp(self, wall_ms: int) -> int:
        """Return a stored_at: the clock's, but later than this node's last one for this mailbox.

        Stamps are per mailbox, not per node: a node that stores more than one message a millisecond would otherwise
        run away from the clock.
        """
        stamp = self.stamp + 1
        if stamp <= wall_ms:
            stamp = wall_ms
        elif stamp > wall_ms + AHEAD_MS:
            stamp = max(self.stamp, wall_ms)
        self.stamp = stamp
        return stamp


class Boxes:
    """Boxes by name. Names that nobody has are not remembered: they may be registered any moment."""

    def __init__(
        self,
        accounts: AccountRegisters,
        current: Current,
        store: Store,
        table: SlotTable,
        ages: Ages,
        clock: Clock,
        tasks: Tasks,
        settings: ChatSettings,
    ) -> None:
        self._accounts = accounts
        self._current = current
        self._store = store
        self._table = table
        self._ages = ages
        self._clock = clock
        self._tasks = tasks
        self._settings = settings
        self._boxes: dict[str, Box] = {}
        self._opening: dict[str, list[Opened]] = {}
        self._to_open: list[str] = []
        self._waiting = 0
        """Callbacks in `_opening`, each of which holds a message."""
        self._gate = asyncio.Semaphore(ASKED_AT_ONCE)
        self._recounting: dict[str, Box] = {}

    def get(self, name: str) -> Box | None:
        """Return a box that is open here; None means: ask `open`."""
        box = self._boxes.get(name)
        if box is not None and box.counted_at < self._clock.now() - self._settings.box_age:
            self._recount(box)
        return box

    def open(self, name: str, opened: Opened) -> None:
        """Find out whether a user exists and call back with the box, or NO_SUCH_USER, Unavailable, BUSY, ..."""
        if self._waiting >= self._settings.opening_at_once:
            opened(CoterieError("too many recipients are looked for; try again", code=ErrorCode.BUSY, value=100))
            return
        self._waiting += 1
        waiting = self._opening.get(name)
        if waiting is not None:
            waiting.append(opened)
            return
        self._opening[name] = [opened]
        if not self._to_open:
            self._tasks.start(self._open_all(), "open mailboxes")
        self._to_open.append(name)

    def refusal(self, box: Box, size: int) -> CoterieError | None:
        """Count one more record whose row weighs `size`, or return MAILBOX_FULL."""
        settings = self._settings
        if box.records < settings.pending_records and box.bytes + size <= settings.pending_bytes:
            box.records += 1
            box.bytes += size
            return None
        if self._clock.now() - box.counted_at >= RECOUNT_PAUSE:
            self._recount(box)
            return CoterieError("the mailbox is being counted; try again", code=ErrorCode.BUSY, value=100)
        return CoterieError(
            f"the mailbox of {box.name!r} is full: "
            f"it holds {counted(box.records, 'record')} and {counted(box.bytes, 'byte')}",
            code=ErrorCode.MAILBOX_FULL,
        )

    def failed(self, name: str, sender: str) -> None:
        """Forget what was last taken of a sender: it may not have been stored."""
        box = self._boxes.get(name)
        if box is not None:
            box.latest.pop(sender, None)

    async def held(self, keys: Sequence[RecordKey]) -> list[bool]:
        """Say of each record whether it is in the own store, in whatever state. Raises Unavailable."""
        return await read_store(self._store, lambda tx: [tx.record(key) is not None for key in keys])

    # --- opening ---

    async def _open_all(self) -> None:
        names, self._to_open = self._to_open, []
        keys = [(slot_of_name(name, self._table.slots), name) for name in names]
        ages = [self._ages.expired_before(slot) for slot, _ in keys]
        try:
            found = await read_store(
                self._store,
                lambda tx: [
                    (own_register(tx, *key), tx.mailbox_size(*key, since))
                    for key, since in zip(keys, ages, strict=True)
                ],
            )
        except Exception as error:
            if not isinstance(error, Unavailable):
                log.exception("mailboxes cannot be opened", mailboxes=len(names))
            for name in names:
                self._opened(name, error if isinstance(error, Unavailable) else unforeseen())
            return
        unsure: list[tuple[Box, int, int]] = []
        for (slot, name), (register, (records, size)) in zip(keys, found, strict=True):
            box = Box(name, slot)
            # The own register may hold a value that was never committed: mail for somebody who never came to be.
            value = register.value if register is not None else None
            account = decoded(name, value) if value is not None else None
            if account is not None and not account.deleted_at:
                self._counted(box, records, size)
                self._opened(name, box)
            else:
                unsure.append((box, records, size))
        await asyncio.gather(*(self._ask(*one) for one in unsure))

    async def _ask(self, box: Box, records: int, size: int) -> None:
        try:
            async with self._gate:
                value = await self._accounts.read(box.name)
            if self._current.note(box.name, value) is None:
                raise no_such_user(box.name)
        except CoterieError as error:
            self._opened(box.name, error)
        except Exception:
            log.exception("an account cannot be read", name=box.name)
            self._opened(box.name, unforeseen())
        else:
            self._counted(box, records, size)
            self._opened(box.name, box)

    def _opened(self, name: str, result: Box | CoterieError) -> None:
        if isinstance(result, Box):
            self._boxes[name] = result
            if len(self._boxes) > MOST:
                del self._boxes[next(iter(self._boxes))]
        waiting = self._opening.pop(name, ())
        self._waiting -= len(waiting)
        tell(waiting, result)

    # --- counting ---

    def _counted(self, box: Box, records: int, size: int) -> None:
        box.records, box.bytes, box.counted_at = records, size, self._clock.now()

    def _recount(self, box: Box) -> None:
        if box.name in self._recounting:
            return
        if not self._recounting:
            self._tasks.start(self._recount_all(), "count mailboxes")
        self._recounting[box.name] = box

    async def _recount_all(self) -> None:
        boxes = list(self._recounting.values())
        counted = [(box.slot, box.name, self._ages.expired_before(box.slot)) for box in boxes]
        try:
            sizes: Sequence[tuple[int, int]] = await read_store(
                self._store, lambda tx: [tx.mailbox_size(*one) for one in counted]
            )
            for box, (records, size) in zip(boxes, sizes, strict=True):
                self._counted(box, records, size)
        finally:
            self._recounting = {name: box for name, box in self._recounting.items() if box not in boxes}
            if self._recounting:
                self._tasks.start(self._recount_all(), "count mailboxes")
