"""What a message that nobody collected is to its recipient, its sender and its mailbox's quota."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from tests.sim.world import SETTINGS
from tests.unit.chat.ring import ChatRing, N, mid, refusal, simulated

from coterie_node.chat.settings import ChatSettings
from coterie_protocol.client_api import Receipt, States, StatesReply
from coterie_protocol.errors import ErrorCode
from coterie_protocol.identifiers import slot_of_name
from coterie_protocol.records import State

LAZY = replace(SETTINGS, message_ttl=100.0, tombstone_ttl=200.0, clock_interval=1.0, ageing_interval=1e6)
"""Messages count as expired after 100 s, and nobody ever writes that down."""
DILIGENT = replace(LAZY, ageing_interval=1.0)


async def states(sender: object, to: str, *numbers: int) -> list[int]:
    reply = await sender.ask(States(to, [mid(number) for number in numbers]), StatesReply)  # type: ignore[attr-defined]
    return [state for _, state, _ in reply.items]


def test_what_counts_as_expired_is_not_delivered_although_it_is_stored_as_pending() -> None:
    async def story() -> None:
        async with ChatRing(replication=LAZY) as ring:
            alice = await ring.user(N[0], "alice")
            bob = await ring.user(N[1], "bob")
            await alice.send("bob", 1)
            await asyncio.sleep(60.0)
            await alice.send("bob", 2)
            assert await states(alice, "bob", 1, 2) == [State.PENDING, State.PENDING]
            await asyncio.sleep(41.0)
            assert await states(alice, "bob", 1, 2) == [State.EXPIRED, State.PENDING]
            await bob.subscribe()
            await bob.until_drained()
            assert bob.got() == {("alice", mid(2))}

    simulated(story)


def test_what_counts_as_expired_fills_no_mailbox() -> None:
    async def story() -> None:
        async with ChatRing(replication=LAZY, settings=ChatSettings(pending_records=2)) as ring:
            alice = await ring.user(N[0], "alice")
            await ring.user(N[1], "bob")
            await alice.send("bob", 1)
            await alice.send("bob", 2)
            await asyncio.sleep(2.0)
            assert await refusal(alice.send("bob", 3)) in (ErrorCode.BUSY, ErrorCode.MAILBOX_FULL)
            await asyncio.sleep(110.0)
            await alice.send("bob", 4)

    simulated(story)


def test_the_sender_hears_of_it_and_the_body_is_gone() -> None:
    async def story() -> None:
        async with ChatRing(replication=DILIGENT) as ring:
            alice = await ring.user(N[0], "alice")
            await ring.user(N[1], "bob")
            await alice.send("bob", 1)
            await alice.until(lambda: any(isinstance(event, Receipt) for event in alice.events), 120.0)
            (receipt,) = [event for event in alice.events if isinstance(event, Receipt)]
            assert [(to, one, state) for to, one, state, _ in receipt.items] == [("bob", mid(1), State.EXPIRED)]
            slot = slot_of_name("bob", ring.world.slots)
            await asyncio.sleep(1.0)
            found = [
                one
                for key, copies in ring.world.witness.copies.items()
                if (key.slot, key.sender) == (slot, "alice")
                for one in copies.values()
            ]
            assert {(one.state, one.body) for one in found} == {(State.EXPIRED, b"")}

    simulated(story)


def test_a_message_that_is_shown_as_it_expires_leaves_the_window() -> None:
    """A client that never acknowledges has a window of one: what expires makes room for what comes."""

    async def story() -> None:
        async with ChatRing(replication=DILIGENT, settings=ChatSettings(window_records=1)) as ring:
            alice = await ring.user(N[0], "alice")
            bob = await ring.user(N[1], "bob")
            await bob.subscribe()
            await alice.send("bob", 1)
            await asyncio.sleep(50.0)
            await alice.send("bob", 2)
            await asyncio.sleep(1.0)
            assert bob.got() == {("alice", mid(1))}
            await bob.until(lambda: ("alice", mid(2)) in bob.got(), 60.0)

    simulated(story)
