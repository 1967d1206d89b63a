"""Receipts find the sender's sessions, whatever the recipient's owner knows."""

from __future__ import annotations

from tests.unit.chat.ring import SLOTS, ChatRing, Client, N, mid, simulated

from coterie_node.replication.configuration import SlotTable
from coterie_protocol.chat import RouteReceipts
from coterie_protocol.identifiers import Uid, slot_of_name
from coterie_protocol.records import State


def pairs(ring: ChatRing, most: int) -> list[tuple[str, str]]:
    """Return (sender, recipient): the recipient's owner is no member of the sender's slot."""
    names = [f"user{number}" for number in range(60)]
    found = [
        (sender, recipient)
        for sender in names
        for recipient in names
        if ring.owner(recipient) not in ring.world.members_of(sender)
    ]
    return found[:: len(found) // most][:most]


def table_of(ring: ChatRing, uid: Uid) -> SlotTable:
    return ring.world.processes[uid].table


async def receipt_of(alice: Client, bob: Client, number: int) -> None:
    """Send a message, have it archived and wait for the receipt."""
    await alice.send(bob.name, number)
    await bob.until(lambda: any(item.id == mid(number) for item in bob.mail))
    await bob.archive(*[item for item in bob.mail if item.id == mid(number)])
    await alice.until(lambda: (bob.name, mid(number)) in {(to, one) for to, one, _, _ in alice.receipts})
    assert {state for _, one, state, _ in alice.receipts if one == mid(number)} == {State.ARCHIVED}


def test_receipts_come_after_the_whole_ring_restarts() -> None:
    """After a start a node knows its own slots only: the recipient's owner must look for the sender's."""

    async def story() -> None:
        async with ChatRing(5) as ring:
            some = pairs(ring, 4)
            tokens: dict[str, bytes] = {}
            for name in dict.fromkeys(name for pair in some for name in pair):
                tokens[name] = (await ring.user(N[0], name)).token
            for uid in N:
                await ring.crash(uid)
            for uid in N:
                await ring.start(uid)
            for number, (sender, recipient) in enumerate(some):
                alice, bob = await ring.connect(ring.elsewhere(recipient)), await ring.connect(N[number])
                await alice.resume(sender, tokens[sender])
                await bob.resume(recipient, tokens[recipient])
                await bob.subscribe()
                slot = slot_of_name(sender, SLOTS)
                owner = ring.owner(recipient)
                await receipt_of(alice, bob, number)
                assert table_of(ring, owner).acting(slot) == ring.owner(sender)

    simulated(story)


def test_a_node_that_does_not_act_for_the_sender_passes_a_receipt_on_once() -> None:
    """What a stale configuration sends to a former owner reaches the sender all the same, and is corrected."""

    async def story() -> None:
        async with ChatRing(5) as ring:
            alice = await ring.user(N[0], "alice")
            await alice.subscribe()
            slot = slot_of_name("alice", SLOTS)
            other = next(uid for uid in ring.world.members_of("alice") if uid != ring.owner("alice"))
            sender = next(uid for uid in N if uid not in (other, ring.owner("alice")))
            process = ring.world.processes[other]
            item = ("alice", "bob", mid(1), State.ARCHIVED, 5)
            process.context.copy().run(process.dispatcher.event, sender, RouteReceipts([item]))
            await alice.until(lambda: len(alice.receipts) == 1)
            process.context.copy().run(process.dispatcher.event, sender, RouteReceipts([item], True))
            again = ("alice", "bob", mid(2), State.ARCHIVED, 5)
            process.context.copy().run(process.dispatcher.event, sender, RouteReceipts([again]))
            await alice.until(lambda: len(alice.receipts) == 2)
            assert [one for _, one, _, _ in alice.receipts] == [mid(1), mid(2)]
            assert table_of(ring, sender).known(slot) is not None

    simulated(story)
