"""Mailboxes of heavy messages, as earlier releases have stored them: drained, paged, copied, and no frame too large.

What was stored before a limit was set stays stored, so whoever fills a frame, or a page of the store, counts every
field of it. A ring on virtual time carries the frames (a link refuses what no node would take); a real store is read.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import strategies as st
from tests.fuzz.engine import Found, Target
from tests.unit.chat.ring import ChatRing, Client, N, mid, simulated

from coterie_client.link import MAX_INCOMING_BYTES
from coterie_node.chat.owner.archive import PAGE_BYTES, mail_item
from coterie_node.chat.settings import ChatSettings
from coterie_node.replication.antientropy.pages import PAGE, fill
from coterie_node.replication.append.batches import append_all
from coterie_node.runtime.ports import FIRST, NO_LIMIT_MS
from coterie_node.store.store import Store
from coterie_protocol.chat import Deliver, Push
from coterie_protocol.client_api import (
    MAX_PEER_FRAME_BYTES,
    Archive,
    Discard,
    Done,
    Drained,
    Mail,
    Page,
    PageReply,
    ServerFrame,
)
from coterie_protocol.errors import CoterieError
from coterie_protocol.frames import PeerFrame, encode
from coterie_protocol.identifiers import slot_of_name
from coterie_protocol.records import Record, State
from coterie_protocol.replication import RecordsPage

OWNER = "bob"
SENDERS = ("m", "é" * 32, "漢" * 21, "a" * 64)
BODIES = (0, 1, 200, 72 * 1024, 256 * 1024)
PREKEYS = (0, 32, 64, 40_000, 300_000, 900_000, 1024 * 1024)
"""Bytes; releases before the limit took whatever a client's frame held."""
STAMP = 1_800_000_000_000
SOON = 30.0
"""Seconds of virtual time."""
Key = tuple[str, bytes, int]


class Item(NamedTuple):
    """A stored message, by the lengths of its fields."""

    sender: str
    part: int
    body: int
    prekey: int


class HeavyMailboxes(Target):
    """A mailbox is emptied, an archive leafed through and a slot moved, however heavy their items are."""

    name = "mailboxes"
    about = "heavy items in mailboxes -> drains, pages and copies of a ring, and a store's pages"

    def cases(self) -> st.SearchStrategy[list[Item]]:
        any_item, heavy = _items(BODIES, PREKEYS), _items(BODIES[:3], PREKEYS[-3:])
        return st.one_of(
            st.lists(any_item, min_size=1, max_size=12),
            st.lists(heavy, min_size=5, max_size=12),
            st.tuples(st.lists(any_item, max_size=3), st.lists(heavy, min_size=5, max_size=9)).map(
                lambda two: [*two[0], *two[1]]
            ),
        )

    def begin(self, directory: Path) -> None:
        self._directory = directory
        self._fed = 0

    def feed(self, case: list[Item]) -> None:
        self._fed += 1
        asyncio.run(_read(self._directory / f"n{self._fed}", case))
        simulated(partial(_emptied, case))
        simulated(partial(_moved, case))


def _items(bodies: Sequence[int], prekeys: Sequence[int]) -> st.SearchStrategy[Item]:
    lengths = (st.sampled_from(bodies), st.sampled_from(prekeys))
    return st.builds(Item, st.sampled_from(SENDERS), st.integers(0, 2), *lengths)


# --- A real store's pages ------------------------------------------------------------------------------------------


async def _read(directory: Path, items: Sequence[Item]) -> None:
    store = await Store.open(directory)
    try:
        pending, archived = _records(3, items, State.PENDING), _records(3, items, State.ARCHIVED)
        await store.transact(lambda tx: tx.merge(pending))
        settings = ChatSettings()
        page = await store.read(lambda tx: tx.pending(3, OWNER, FIRST, settings.page_records, settings.page_bytes))
        _carried(Deliver([Push(OWNER, 1, [mail_item(record) for record in page], False, True)]))
        page, _ = await store.read(_copied)
        _carried(RecordsPage(page, more=False))
        await store.transact(lambda tx: tx.merge(archived))
        page = await store.read(lambda tx: tx.archive_page(3, OWNER, None, 500, PAGE_BYTES))
        _carried(Deliver([Push(OWNER, 1, [mail_item(record) for record in page], False, True)]))
    finally:
        await store.close()


def _copied(tx: Any) -> tuple[list[Record], int]:
    return fill(tx, tx.versions(3, None, FIRST, PAGE, NO_LIMIT_MS))


def _carried(body: Any) -> None:
    """Raise Found for a page that its receiver would refuse."""
    if (size := len(encode([PeerFrame(1 << 50, body)]))) > MAX_PEER_FRAME_BYTES:
        raise Found(f"a page makes a {type(body).__name__} of {size} bytes: no node would take it")


# --- A ring --------------------------------------------------------------------------------------------------------


async def _emptied(items: Sequence[Item]) -> None:
    async with ChatRing() as ring:
        alice, bob = await ring.user(N[0], "alice"), await ring.connect(ring.elsewhere(OWNER))
        await bob.register(OWNER)
        sizes: list[int] = []
        _weigh(bob, sizes)
        stored = await _stored(ring, items)
        await alice.send(OWNER, 999)
        keys = {(one.sender, one.id, one.part) for one in stored} | {("alice", mid(999), 0)}
        await bob.subscribe()
        if left := await _drain(bob, keys):
            raise Found(f"a mailbox cannot be drained: {len(left)} of {len(keys)} did not come")
        keys |= await _appended(ring, bob, items)
        archived = {one[1] for one in keys if one[2] == 0}
        if (found := await _leafed(bob)) != archived:
            raise Found(f"{len(found)} of {len(archived)} are found in the archive")
        if sizes and max(sizes) > MAX_INCOMING_BYTES:
            raise Found(f"mail of {max(sizes)} bytes: no client would take it")


async def _appended(ring: ChatRing, bob: Client, items: Sequence[Item]) -> set[Key]:
    """Let them come all at once while the mailbox is open: a node of an earlier release has just taken them."""
    owner = ring.world.processes[ring.owner(OWNER)]
    records = _records(slot_of_name(OWNER, ring.world.slots), items, State.PENDING, owner.calendar.stamp_ms(), 100)
    try:
        async with asyncio.timeout(SOON):
            await append_all(owner.appender.append, records)
    except (CoterieError, TimeoutError) as error:
        raise Found(f"what came at once is not stored: {error}") from None
    keys = {(one.sender, one.id, one.part) for one in records}
    if left := await _drain(bob, keys):
        raise Found(f"{len(left)} of {len(keys)} that came at once did not reach their recipient")
    return keys


def _weigh(bob: Client, sizes: list[int]) -> None:
    """Note how large a client's mail is: its connection here is none."""
    push = bob.push_mail

    def weighed(event: Mail | Drained) -> bool:
        sizes.append(len(encode([ServerFrame(0, event)])))
        return push(event)

    bob.push_mail = weighed  # type: ignore[method-assign]


async def _drain(bob: Client, keys: set[Key]) -> set[Key]:
    """Receive and acknowledge, as a client does; return what did not come."""
    left = set(keys)
    with contextlib.suppress(TimeoutError):
        while left:
            await bob.until(lambda: bool(bob.mail), SOON)
            come, bob.mail = bob.mail, []
            left -= {(one.sender, one.id, one.part) for one in come}
            if whole := [(one.sender, one.id, one.part, b"copy") for one in come if one.part == 0]:
                await bob.ask(Archive(whole), Done)
            if parts := [(one.sender, one.id, one.part) for one in come if one.part]:
                await bob.ask(Discard(parts), Done)
    return left


async def _leafed(bob: Client) -> set[bytes]:
    found: set[bytes] = set()
    before, more = b"", True
    while more:
        try:
            page = await bob.ask(Page(before, 500), PageReply, SOON)
        except (CoterieError, TimeoutError) as error:
            raise Found(f"an archive cannot be leafed through: {error}") from None
        found |= {item.id for item in page.items}
        before, more = page.next, bool(page.next)
    return found


async def _moved(items: Sequence[Item]) -> None:
    """Copy the slot to a node that has nothing of it."""
    async with ChatRing() as ring:
        await ring.user(N[0], OWNER)
        await _stored(ring, items)
        slot = slot_of_name(OWNER, ring.world.slots)
        members = ring.world.members_of(OWNER)
        other = next(uid for uid in ring.chats if uid not in members)
        try:
            async with asyncio.timeout(SOON):
                await ring.world.processes[members[0]].repair.push(slot, other)
        except (CoterieError, TimeoutError) as error:
            raise Found(f"a slot cannot be copied: {error}") from None
        digests = [
            await ring.world.processes[uid].store.read(lambda tx: tx.slot_digest(slot, NO_LIMIT_MS))
            for uid in (members[0], other)
        ]
        if digests[0] != digests[1]:
            raise Found("a slot was copied, and not all of it")


async def _stored(ring: ChatRing, items: Sequence[Item]) -> list[Record]:
    at = ring.world.processes[N[0]].calendar.stamp_ms()
    records = _records(slot_of_name(OWNER, ring.world.slots), items, State.PENDING, at)
    for uid in ring.world.members_of(OWNER):
        await ring.world.processes[uid].store.transact(lambda tx: tx.merge(records))
    return records


def _records(slot: int, items: Sequence[Item], state: State, at: int = STAMP, first: int = 0) -> list[Record]:
    return [
        Record(
            slot, OWNER, one.sender, mid(number), 0 if state else one.part, state,
            bytes(one.body), one.body, bytes(one.prekey), 1, at + number, at + state,
        )
        for number, one in enumerate(items, first)
    ]  # fmt: skip
