"""The owner's side of acknowledging and reading: archive copies, pages of the archive, states of what was sent."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from weakref import WeakValueDictionary

import msgspec

from coterie_node.measure import DELIVERY_SECONDS, Distribution
from coterie_node.replication.append.batches import append_all
from coterie_node.replication.configuration import SlotTable
from coterie_node.runtime.ports import Clock, Handlers, Store, Tasks, Tx
from coterie_protocol.bounds import MAX_MS, MAX_PARTS
from coterie_protocol.chat import Archived, ArchiveWrite, PageAnswer, PageAsk, StatesAnswer, StatesAsk
from coterie_protocol.client_api import MAX_MESSAGE_BODY_BYTES, MailItem
from coterie_protocol.errors import CoterieError, ErrorCode, Unavailable
from coterie_protocol.identifiers import Uid, slot_of_name
from coterie_protocol.records import MAX_BODY_BYTES, OUTGOING, Record, RecordKey, State, key_hash
from coterie_protocol.words import counted

from ..limits import Limiter
from ..ports import Ages, Appending, CatchingUp
from ..settings import ChatSettings
from .mailbox import too_large
from .membership import check
from .receipts import Receipts
from .session_cache import Current, read_store

PAGE_LIMIT = 500
READ_MOST = 16
"""Whole records that are read, and stored again, at once."""
PAGE_BYTES = 384 * 1024
STATES_LIMIT = 1000


class Archive:
    """Answers ArchiveWrite, PageAsk and StatesAsk at the acting owner."""

    def __init__(
        self,
        table: SlotTable,
        current: Current,
        store: Store,
        appender: Appending,
        repair: CatchingUp,
        receipts: Receipts,
        ages: Ages,
        handlers: Handlers,
        clock: Clock,
        tasks: Tasks,
        settings: ChatSettings,
    ) -> None:
        self._table = table
        self._current = current
        self._store = store
        self._appender = appender
        self._repair = repair
        self._receipts = receipts
        self._ages = ages
        self._tasks = tasks
        self._settings = settings
        self._clock = clock
        self._unasked = Limiter(
            settings.unasked_at_once, 1 / settings.unasked_per_second, "copies of messages that do not wait"
        )
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """One user's writes come one after the other: their flood takes nobody else's time, and is counted rightly."""
        self._unheld = Limiter(settings.unheld_discards, settings.unheld_discard_pause, "ids that are not held")
        self._reads: list[tuple[Sequence[RecordKey], asyncio.Future[list[Record | None]]]] = []
        self.delays = Distribution(DELIVERY_SECONDS)
        """Seconds from the storing of a message to its delivery: its recipient's client has saved it and said so."""
        handlers.on_request(ArchiveWrite, self._write)
        handlers.on_request(PageAsk, self._page)
        handlers.on_request(StatesAsk, self._states)

    # --- writing ---

    async def _write(self, _: Uid, request: ArchiveWrite) -> Archived:
        """Raises SUPERSEDED for a session before the last, TOO_LARGE, ARCHIVE_FULL, RATE_LIMITED, UNKNOWN_SLOT,
        StaleEpoch, Unavailable.
        """
        name = request.name
        slot = slot_of_name(name, self._table.slots)
        check(self._table, slot)
        for _sender, _id, part, copy in request.items:
            limit = MAX_BODY_BYTES if part else MAX_MESSAGE_BODY_BYTES
            if len(copy) > limit:
                raise too_large("archive copy", len(copy), limit)
            if part >= MAX_PARTS:  # A gateway of an earlier release lets it pass.
                raise CoterieError(f"a message has at most {MAX_PARTS} parts", code=ErrorCode.BAD_REQUEST)
        await self._current.check(name, request.epoch, grace=True)
        await self._settled(slot)
        async with self._turns.setdefault(name, asyncio.Lock()):
            # Who has asked too much is told so before a thousand records are read for it.
            self._unasked.look(name, self._clock.now(), len(request.items))
            await self._store_copies(slot, name, request)
        return Archived()

    async def _store_copies(self, slot: int, name: str, request: ArchiveWrite) -> None:
        items = {RecordKey(slot, name, sender, mid, part): copy for sender, mid, part, copy in request.items}
        held = await self._held(list(items))
        final = State.DELETED if request.discard else State.ARCHIVED
        unasked = sum(found is None or found.state >= final for found in held)
        if unasked:
            # What waits was sent, and that is bounded; everything else is this user's own doing.
            self._unasked.take(name, self._clock.now(), unasked)
        if any(found is None or found.state < final for found in held):
            await self._room(slot, name, discard=request.discard)
        at = self._ages.stamp_ms()
        records = []
        again = []
        delivered = []
        for (key, copy), found in zip(items.items(), held, strict=True):
            if found is None:
                if not request.discard or self._remembered(key):
                    records.append(Record(*key, final, copy, len(copy), b"", request.epoch, at, at))
                continue
            if found.state >= final:
                again.append(key)
                continue
            records.append(Record(*key, final, copy, found.size, found.prekey, request.epoch, found.stored_at, at))
            if found.state < State.ARCHIVED and key.sender != OUTGOING and not key.part:
                delivered.append((key.sender, name, key.id, int(State.ARCHIVED), at))
        await append_all(self._appender.append, records)
        await self._append_again(again)
        for found in held:
            if found is not None and found.state == State.PENDING and found.sender != OUTGOING and not found.part:
                self.delays.observe(max(at - found.stored_at, 0) / 1000)
        self._receipts.route(delivered)

    def _remembered(self, key: RecordKey) -> bool:
        """Say whether the discarding of what is not held here is remembered (docs/decisions/0021).

        Without that a record that is still on its way here is delivered once more, and discarded then. An own copy
        would not be: its client is done with it, and it may still come, for it is sent beside the message.
        """
        if key.sender != OUTGOING and self._repair.is_complete(key.slot):
            return False
        try:
            self._unheld.take(key.owner, self._clock.now())
        except CoterieError:
            return False
        return True

    async def _append_again(self, keys: Sequence[RecordKey]) -> None:
        """Store records once more as they are: another version is not wanted, but they may be on this disk alone."""
        for start in range(0, len(keys), READ_MOST):
            part = keys[start : start + READ_MOST]
            found = await read_store(self._store, lambda tx, part=part: tx.records(part))  # type: ignore[misc]
            await append_all(self._appender.append, [record for record in found if record is not None])

    async def _room(self, slot: int, name: str, *, discard: bool) -> None:
        """Raise ARCHIVE_FULL when a quota is reached, the archive's or that of what is discarded and remembered.

        The last ones may go a little beyond it.
        """
        if discard:
            records, _ = await read_store(self._store, lambda tx: tx.deleted_size(slot, name))
            if records >= self._settings.deleted_records:
                raise CoterieError(
                    f"{name!r} has deleted {counted(records, 'message')} lately; older ones have to be forgotten first",
                    code=ErrorCode.ARCHIVE_FULL,
                )
            return
        records, size = await read_store(self._store, lambda tx: tx.archive_size(slot, name))
        if records >= self._settings.archive_records or size >= self._settings.archive_bytes:
            raise CoterieError(
                f"the archive of {name!r} is full: it holds {counted(records, 'record')} and {counted(size, 'byte')}",
                code=ErrorCode.ARCHIVE_FULL,
            )

    async def _held(self, keys: list[RecordKey]) -> list[Record | None]:
        """Read records without their bodies; what is asked for in one turn of the loop is one read of the store."""
        future: asyncio.Future[list[Record | None]] = asyncio.get_running_loop().create_future()
        if not self._reads:
            self._tasks.start(self._read(), "read records")
        self._reads.append((keys, future))
        return await future

    async def _read(self) -> None:
        reads, self._reads = self._reads, []
        try:
            found: Sequence[list[Record | None] | Exception] = await read_store(
                self._store, lambda tx: [_records(tx, keys) for keys, _ in reads]
            )
        except Unavailable as error:
            found = [error] * len(reads)
        except BaseException:
            for _, future in reads:
                future.cancel()
            raise
        for (_, future), records in zip(reads, found, strict=True):
            if future.done():
                continue
            if isinstance(records, Exception):
                future.set_exception(records)
            else:
                future.set_result(records)

    # --- reading ---

    async def _page(self, _: Uid, request: PageAsk) -> PageAnswer:
        slot = slot_of_name(request.name, self._table.slots)
        check(self._table, slot)
        await self._current.check(request.name, request.epoch, grace=False)
        await self._settled(slot)
        limit = max(1, min(request.limit, PAGE_LIMIT))
        before = read_cursor(request.before)
        page, more = await read_store(self._store, lambda tx: _archived(tx, slot, request.name, before, limit))
        return PageAnswer([mail_item(record) for record in page], write_cursor(page[-1]) if more else b"")

    async def _states(self, _: Uid, request: StatesAsk) -> StatesAnswer:
        slot = slot_of_name(request.to, self._table.slots)
        check(self._table, slot)
        await self._settled(slot)
        ids = request.ids[:STATES_LIMIT]
        found = await self._held([RecordKey(slot, request.to, request.sender, one, 0) for one in ids])
        before_ms = self._ages.expired_before(slot)
        items = []
        for one, record in zip(ids, found, strict=True):
            if record is not None and record.state == State.PENDING and record.stored_at < before_ms:
                record = self._ages.expired(record)
            items.append((one, -1, 0) if record is None else (one, int(record.state), record.changed_at))
        return StatesAnswer(items)

    async def _settled(self, slot: int) -> None:
        """Wait for the own start-up sync, but not for long: with its majority gone a slot still gives what it has."""
        await caught_up(self._repair, slot, self._settings.caught_up_timeout)


async def caught_up(repair: CatchingUp, slot: int, timeout: float) -> bool:
    """Say whether this node catches up with a slot within the time (seconds)."""
    try:
        async with asyncio.timeout(timeout):
            await repair.caught_up(slot)
    except (TimeoutError, Unavailable):
        return False
    return True


def mail_item(record: Record) -> MailItem:
    """Show a record as its owner's client sees it."""
    return MailItem(
        record.sender,
        record.id,
        record.part,
        record.state,
        record.body,
        record.prekey,
        record.epoch,
        record.stored_at,
    )


def _archived(tx: Tx, slot: int, name: str, before: tuple[int, bytes] | None, limit: int) -> tuple[list[Record], bool]:
    """Return a page of an archive that one frame can carry, and whether anything comes after it."""
    page = tx.archive_page(slot, name, before, limit, PAGE_BYTES)
    if not page:
        return [], False
    last = (page[-1].stored_at, key_hash(page[-1].key))
    return page, bool(tx.archive_page(slot, name, last, 1, 0))


def write_cursor(record: Record) -> bytes:
    """Write a record's place in the archive: stored_at and the hash of its key."""
    return record.stored_at.to_bytes(8, "big") + key_hash(record.key)


def read_cursor(cursor: bytes) -> tuple[int, bytes] | None:
    """Read a cursor; raises BAD_REQUEST."""
    if not cursor:
        return None
    if len(cursor) != 24:
        raise CoterieError("not a cursor of this node's making", code=ErrorCode.BAD_REQUEST)
    stored_at = int.from_bytes(cursor[:8], "big")
    if stored_at >= MAX_MS:
        raise CoterieError("a cursor of a time that cannot be", code=ErrorCode.BAD_REQUEST)
    return stored_at, cursor[8:]


def _records(tx: Tx, keys: Sequence[RecordKey]) -> list[Record | None] | Exception:
    """Read one request's records, a few at once and without bodies: a thousand of them would weigh 70 MB.

    What keys of its own make fail is no other request's failure.
    """
    try:
        found: list[Record | None] = []
        for start in range(0, len(keys), READ_MOST):
            found += map(_without_body, tx.records(keys[start : start + READ_MOST]))
        return found
    except (ValueError, TypeError, OverflowError) as error:
        return error


def _without_body(record: Record | None) -> Record | None:
    return msgspec.structs.replace(record, body=b"") if record is not None and record.body else record
