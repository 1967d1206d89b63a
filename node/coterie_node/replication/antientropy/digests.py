"""Comparing a slot with another node by digests, and exchanging only the records that differ.

256 bucket digests say where two nodes differ; only the versions of those buckets are listed, and only the records that
win are sent. So 10^6 records in one slot cost 2 KB when nothing differs.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from coterie_protocol.errors import CoterieError, Unavailable
from coterie_protocol.identifiers import Uid
from coterie_protocol.records import BUCKETS, Record, RecordKey, Version, wins
from coterie_protocol.replication import (
    BucketDigests,
    BucketDigestsReply,
    FetchRecords,
    ListVersions,
    RecordsPage,
    SlotDigests,
    SlotDigestsReply,
    VersionsPage,
)
from coterie_protocol.weight import weight_of_record
from coterie_protocol.words import counted

from ...runtime.ports import FIRST, NO_LIMIT_MS, Clock, Handlers, Peers, Store, Tx
from ..commits import Arrivals
from ..sifting import sift
from .pages import FETCH, PAGE, REQUEST_TIMEOUT, cursor_of, fill, from_store, settled_before
from .transfer import Offers

T = TypeVar("T")
Send = Callable[[int, Uid, Sequence[Version]], Awaitable[Any]]

SLOTS_AT_ONCE = 256
"""Slots whose digests are asked for in one frame."""
PAGES_AT_ONCE = 4
_BUCKETS = struct.Struct(f"<{BUCKETS}Q")


class Comparison:
    """Compares with other nodes, pulls and pushes; and answers those who compare with this one."""

    def __init__(
        self, store: Store, peers: Peers, offers: Offers, handlers: Handlers, clock: Clock, arrivals: Arrivals
    ) -> None:
        self._store = store
        self._peers = peers
        self._offers = offers
        self._clock = clock
        self._arrivals = arrivals
        self.records_pulled = 0
        """Records taken over since the start, for metrics."""
        self.records_served = 0
        """Records that others took over from here."""
        handlers.on_request(SlotDigests, self._slot_digests)
        handlers.on_request(BucketDigests, self._bucket_digests)
        handlers.on_request(ListVersions, self._list_versions)
        handlers.on_request(FetchRecords, self._fetch_records)

    async def differing_slots(self, uid: Uid, slots: Sequence[int], settled_ms: int) -> set[int]:
        """Return the slots whose digests differ between this node and another. Raises Unavailable."""
        return set(await self._differing(uid, slots, settled_ms))

    async def slots_ahead(self, uid: Uid, slots: Sequence[int]) -> list[int]:
        """Return the slots of which another node may hold something that this one lacks. Raises Unavailable."""
        return [slot for slot, theirs in (await self._differing(uid, slots, 0)).items() if theirs]

    async def _differing(self, uid: Uid, slots: Sequence[int], settled_ms: int) -> dict[int, int]:
        """Return the slots whose digests differ, and the other node's digest of each (0: it holds nothing)."""
        before = settled_before(self._clock, settled_ms)
        mine, reply = await asyncio.gather(
            self._read(lambda tx: [tx.slot_digest(slot, before) for slot in slots]),
            self._ask(uid, SlotDigests(list(slots), settled_ms), SlotDigestsReply),
        )
        if len(reply.digests) != len(slots):
            raise Unavailable(f"{uid} answered {len(reply.digests)} digests for {counted(len(slots), 'slot')}")
        return {slot: two for slot, one, two in zip(slots, mine, reply.digests, strict=True) if one != two}

    async def pull(self, slot: int, uid: Uid, settled_ms: int = 0) -> bool:
        """Take over every record that another node has in a further version than this one, or alone.

        Return whether both held the same to begin with. Raises Unavailable.
        """
        buckets = list(await self._differing_buckets(slot, uid, settled_ms))
        if not buckets:
            return True
        after = FIRST
        page = await self._list(uid, ListVersions(slot, buckets, after, settled_ms))
        while page.after is not None and page.after > after:
            # The next page is listed while this one's records come.
            _, following = await asyncio.gather(
                self._take(slot, uid, buckets, after, page.versions),
                self._list(uid, ListVersions(slot, buckets, page.after, settled_ms)),
            )
            after, page = page.after, following
        await self._take(slot, uid, buckets, after, page.versions)
        return False

    async def push(self, slot: int, uid: Uid) -> None:
        """Give another node every record that this one has in a further version, or alone. Raises Unavailable."""
        differing = await self._differing_buckets(slot, uid, 0)
        # What the other has nothing of, as a new member has of everything, need not be claimed first.
        empty = [bucket for bucket, theirs in differing.items() if not theirs]
        await self._push(slot, uid, empty, self._offers.give)
        await self._push(slot, uid, [bucket for bucket, theirs in differing.items() if theirs], self._offers.offer)

    async def _push(self, slot: int, uid: Uid, buckets: Sequence[int], send: Send) -> None:
        after, more = FIRST, bool(buckets)
        limit = PAGE * PAGES_AT_ONCE
        while more:
            found = await from_store(
                self._store.read(lambda tx, after=after: tx.versions(slot, buckets, after, limit, NO_LIMIT_MS))  # type: ignore[misc]
            )
            pages = [found[start : start + PAGE] for start in range(0, len(found), PAGE)]
            await asyncio.gather(*(self._sent(send(slot, uid, page)) for page in pages))
            more = len(found) == limit
            if found:
                after = cursor_of(found[-1])

    # --- asking ---

    async def _ask(self, uid: Uid, message: Any, kind: type[T]) -> T:
        """Ask another node. Raises Unavailable, whatever the reason."""
        try:
            reply = await self._peers.request(uid, message, REQUEST_TIMEOUT, bulk=True)
        except Unavailable:
            raise
        except CoterieError as error:
            raise Unavailable(f"{uid} refuses {type(message).__name__}: {error.detail}") from error
        if not isinstance(reply, kind):
            raise Unavailable(f"{uid} answered {type(message).__name__} with {type(reply).__name__}")
        return reply

    async def _read(self, function: Callable[[Tx], T]) -> T:
        """Read for a gathering: cancelled before it has begun, it leaves no coroutine that nobody awaits."""
        return await from_store(self._store.read(function))

    async def _list(self, uid: Uid, message: ListVersions) -> VersionsPage:
        return await self._ask(uid, message, VersionsPage)

    async def _sent(self, sending: Awaitable[Any]) -> None:
        try:
            await sending
        except Unavailable:
            raise
        except CoterieError as error:
            raise Unavailable(f"an offer was refused: {error.detail}") from error

    async def _differing_buckets(self, slot: int, uid: Uid, settled_ms: int) -> dict[int, int]:
        """Return the buckets in which the two nodes differ, and the other node's digest of each (0: it is empty)."""
        before = settled_before(self._clock, settled_ms)
        mine, reply = await asyncio.gather(
            self._read(lambda tx: tx.bucket_digests(slot, before)),
            self._ask(uid, BucketDigests(slot, settled_ms), BucketDigestsReply),
        )
        if len(reply.digests) != _BUCKETS.size:
            raise Unavailable(f"{uid} answered bucket digests of {len(reply.digests)} bytes")
        if mine == reply.digests:
            return {}
        pairs = zip(_BUCKETS.unpack(mine), _BUCKETS.unpack(reply.digests), strict=True)
        return {bucket: two for bucket, (one, two) in enumerate(pairs) if one != two}

    async def _take(
        self, slot: int, uid: Uid, buckets: Sequence[int], after: tuple[int, bytes], theirs: Sequence[Version]
    ) -> None:
        """Fetch and merge those of a page of versions that win over what is held here."""
        if not theirs:
            return
        wanted = await from_store(self._store.read(lambda tx: _winning(tx, slot, buckets, after, theirs)))
        for start in range(0, len(wanted), FETCH):
            part: Sequence[Version] = wanted[start : start + FETCH]
            while part:
                reply = await self._ask(uid, FetchRecords(list(part)), RecordsPage)
                await self._merge(sift([record for record in reply.records if record.slot == slot], uid))
                part = _rest(part, reply.records[-1].key) if reply.more and reply.records else ()

    async def _merge(self, records: Sequence[Record]) -> None:
        if records:
            changed = await from_store(self._store.transact(lambda tx: tx.merge(records)))
            self.records_pulled += len(changed)
            self._arrivals.publish(changed)

    # --- answering ---

    async def _slot_digests(self, _: Uid, message: SlotDigests) -> SlotDigestsReply:
        before = settled_before(self._clock, message.settled_ms)
        read = self._store.read(lambda tx: [tx.slot_digest(slot, before) for slot in message.slots])
        return SlotDigestsReply(await from_store(read))

    async def _bucket_digests(self, _: Uid, message: BucketDigests) -> BucketDigestsReply:
        before = settled_before(self._clock, message.settled_ms)
        return BucketDigestsReply(
            await from_store(self._store.read(lambda tx: tx.bucket_digests(message.slot, before)))
        )

    async def _list_versions(self, _: Uid, message: ListVersions) -> VersionsPage:
        before = settled_before(self._clock, message.settled_ms)
        versions = await from_store(
            self._store.read(lambda tx: tx.versions(message.slot, message.buckets, message.after, PAGE, before))
        )
        return VersionsPage(versions, cursor_of(versions[-1]) if len(versions) == PAGE else None)

    async def _fetch_records(self, _: Uid, message: FetchRecords) -> RecordsPage:
        records, taken = await from_store(self._store.read(lambda tx: fill(tx, message.versions)))
        await self._offers.throttle.take(sum(map(weight_of_record, records)))
        self.records_served += len(records)
        return RecordsPage(records, taken < len(message.versions))


def _winning(
    tx: Tx, slot: int, buckets: Sequence[int], after: tuple[int, bytes], theirs: Sequence[Version]
) -> list[Version]:
    """Return which of a page of another node's versions win over what is held here; bodies are not read."""
    last = cursor_of(theirs[-1])
    held: dict[RecordKey, tuple[int, bytes]] = {}
    while after < last:
        page = tx.versions(slot, buckets, after, PAGE, NO_LIMIT_MS)
        for version in page:
            held[version.key] = (version.state, version.digest)
        if len(page) < PAGE:
            break
        after = cursor_of(page[-1])
    nothing = (-1, b"")
    return [
        version
        for version in theirs
        if version.slot == slot and wins((version.state, version.digest), held.get(version.key, nothing))
    ]


def _rest(versions: Sequence[Version], last: RecordKey) -> Sequence[Version]:
    """Return the versions after the one with a key; none if it is not among them."""
    for index, version in enumerate(versions):
        if version.key == last:
            return versions[index + 1 :]
    return ()
