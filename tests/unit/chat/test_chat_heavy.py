"""What an item weighs counts every field: what is too heavy is refused, and what lies on disks from before is borne."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest
from tests.unit.chat.ring import ChatRing, Client, N, mid, simulated

from coterie_node.chat.settings import ChatSettings
from coterie_node.runtime.ports import NO_LIMIT_MS
from coterie_protocol.bounds import MAX_PREKEY_BYTES
from coterie_protocol.client_api import MAX_MESSAGE_BODY_BYTES, Archive, Done, Page, PageReply, Send, Stored
from coterie_protocol.errors import CoterieError, ErrorCode
from coterie_protocol.identifiers import slot_of_name
from coterie_protocol.records import Record, State

LANDED = 900_000
"""Bytes of a prekey that releases before took."""


async def refused(work: object) -> CoterieError:
    with pytest.raises(CoterieError) as caught:
        await work  # type: ignore[misc]
    return caught.value


@pytest.mark.parametrize(
    ("body", "prekey", "field", "limit"),
    [
        (b"x", bytes(MAX_PREKEY_BYTES + 1), "prekey", MAX_PREKEY_BYTES),
        (b"x", bytes(LANDED), "prekey", MAX_PREKEY_BYTES),
        (bytes(MAX_MESSAGE_BODY_BYTES + 1), b"", "body", MAX_MESSAGE_BODY_BYTES),
    ],
)
def test_a_message_with_a_field_that_is_too_large_is_refused_and_the_field_named(
    body: bytes, prekey: bytes, field: str, limit: int
) -> None:
    async def story() -> None:
        async with ChatRing() as ring:
            alice, bob = await ring.user(N[0], "alice"), await ring.user(N[1], "bob")
            error = await refused(alice.ask(Send("bob", mid(1), body, prekey), Stored))
            assert error.wire_code is ErrorCode.TOO_LARGE
            assert error.value == limit
            assert field in error.detail
            assert str(limit) in error.detail
            await alice.ask(Send("bob", mid(2), b"x", bytes(MAX_PREKEY_BYTES)), Stored)
            await bob.subscribe()
            await bob.until_drained()
            assert bob.got() == {("alice", mid(2))}

    simulated(story)


async def from_before(ring: ChatRing, name: str, count: int) -> None:
    """Put messages with heavy prekeys into a mailbox, as an earlier release has stored them."""
    slot = slot_of_name(name, ring.world.slots)
    at = ring.world.processes[N[0]].calendar.stamp_ms()
    records = [
        Record(slot, name, "mallory", mid(number), 0, State.PENDING, b"x", 1, bytes(LANDED), 1, at + number, at)
        for number in range(count)
    ]
    for uid in ring.world.members_of(name):
        await ring.world.processes[uid].store.transact(lambda tx: tx.merge(records))


async def drained(bob: Client) -> None:
    await bob.subscribe()
    await bob.until_drained()


def test_five_messages_with_heavy_prekeys_from_before_leave_a_mailbox_readable() -> None:
    async def story() -> None:
        settings = ChatSettings(window_bytes=1 << 30)
        async with ChatRing(settings=settings) as ring:
            alice, bob = await ring.user(N[0], "alice"), await ring.connect(ring.elsewhere("bob"))
            await bob.register("bob")
            await from_before(ring, "bob", 5)
            await alice.send("bob", 9)
            await drained(bob)
            assert bob.got() == {("mallory", mid(number)) for number in range(5)} | {("alice", mid(9))}
            await bob.ask(Archive([("mallory", mid(number), 0, b"copy") for number in range(5)]), Done)
            found: list[bytes] = []
            before, more = b"", True
            while more:
                page = await bob.ask(Page(before, 500), PageReply)
                found += [item.id for item in page.items]
                before, more = page.next, bool(page.next)
            assert sorted(found) == [mid(number) for number in range(5)]

    simulated(story)


def test_five_messages_with_heavy_prekeys_from_before_do_not_keep_a_slot_from_moving() -> None:
    async def story() -> None:
        async with ChatRing() as ring:
            await ring.user(N[0], "bob")
            slot = slot_of_name("bob", ring.world.slots)
            owner, *_ = ring.world.members_of("bob")
            held = ring.world.processes[owner].store
            await from_before(ring, "bob", 5)
            other = next(uid for uid in ring.chats if uid not in ring.world.members_of("bob"))
            await ring.world.processes[owner].repair.push(slot, other)
            theirs = ring.world.processes[other].store
            read = partial(_digest, slot)
            assert await theirs.read(read) == await held.read(read)

    simulated(story)


def _digest(slot: int, tx: object) -> int:
    return int(tx.slot_digest(slot, NO_LIMIT_MS))  # type: ignore[attr-defined]


def test_a_thousand_empty_messages_fill_a_mailbox_too() -> None:
    async def story() -> None:
        async with ChatRing(settings=ChatSettings(pending_bytes=20 * 256)) as ring:
            alice = await ring.user(N[0], "alice")
            await ring.user(N[1], "bob")
            code, stored = None, 0
            while code is None and stored < 1000:
                try:
                    await alice.ask(Send("bob", mid(stored), b"x"), Stored)
                    stored += 1
                except CoterieError as error:
                    code = error.wire_code
                await asyncio.sleep(2.0)
            assert code is ErrorCode.MAILBOX_FULL
            assert 10 < stored <= 20

    simulated(story)
