"""Members know who is in sync, and a node whether it has all that may have been acknowledged without it."""

from __future__ import annotations

import asyncio

import pytest
from tests.sim.loop import sim_loop
from tests.sim.wire import Envelope
from tests.sim.wire import message as matching
from tests.unit.replication.nodes import (
    SLOT,
    SLOTS,
    A,
    B,
    C,
    D,
    Nodes,
    equal,
    known,
    message,
    patient,
    simulated,
    until,
)

from coterie_node.replication.antientropy.liveness import LATELY, SETTLED
from coterie_node.replication.antientropy.nonmembers import PAUSE
from coterie_protocol.errors import Unavailable
from coterie_protocol.identifiers import Uid
from coterie_protocol.replication import FetchRecords, Offer, SlotDigests

P = known(3, (A, B, C))
STILL = patient(repair_interval=1e6)


@simulated
async def test_under_replicated_follows_members_and_configuration() -> None:
    async with Nodes(A, B, C, D, settings=STILL) as nodes:
        repair = nodes[A].repair

        def whole() -> bool:
            return not repair.under_replicated()

        await nodes.configure(known(1, (A,)))
        assert repair.under_replicated() == [SLOT]  # Fewer than K.
        await nodes.configure(known(2, (A, B, C), old=(A,)))
        assert repair.under_replicated() == [SLOT]  # Joint.
        held = nodes.network.hold(matching(SlotDigests))
        await nodes.configure(P)
        assert repair.under_replicated() == [SLOT]  # Not compared yet.
        held.release()
        assert await until(whole) < 1.0
        assert nodes[B].repair.under_replicated() == []  # Another acts.
        await nodes.stop(B)
        await asyncio.sleep(0.1)
        assert repair.under_replicated() == [SLOT]  # Not alive.
        held = nodes.network.hold(matching(SlotDigests, to=B))
        await nodes.start(B)
        await held.caught()
        assert repair.under_replicated() == [SLOT]  # Alive, but nobody knows what it missed.
        held.release()
        assert await until(whole) < 2.0
        await nodes.configure(known(4, (A, B, D), old=(A, B, C)))
        assert repair.under_replicated() == [SLOT]
        await nodes.configure(known(5, (A, B, D)))
        assert await until(whole) < 2.0
        await nodes.configure(known(7, (B, C, D)), A)
        assert repair.under_replicated() == []  # No member any more.
        assert not repair.in_sync(SLOT, B)


@simulated
async def test_a_member_under_way_is_in_sync_although_something_always_differs() -> None:
    async with Nodes(A, B, C, settings=STILL) as nodes:
        await nodes.configure(P)
        running = True

        async def send() -> None:
            number = 0
            while running:
                nodes[A].appender.append([message(number, bytes(500))], lambda *_: None)
                number += 1
                await asyncio.sleep(0.001)

        work = asyncio.ensure_future(send())
        await asyncio.sleep(1.0)
        await nodes.stop(B)
        await asyncio.sleep(1.0)
        await nodes.start(B)
        await until(lambda: not nodes[A].repair.under_replicated(), 10.0)
        running = False
        await work
        await equal((nodes[A], nodes[B], nodes[C]), seconds=1.0)


@simulated
async def test_caught_up_takes_one_of_the_two_others() -> None:
    async with Nodes(A, B, C, settings=STILL) as nodes:
        await nodes.configure(P)
        for uid in (A, B, C):
            await nodes[uid].repair.caught_up(SLOT)
        await nodes.stop(B)
        await until(lambda: not nodes[A].peers.alive(B), 2.0)
        await nodes[A].repair.caught_up(SLOT)  # With C.
        await nodes.stop(C)
        await until(lambda: not nodes[A].repair.is_caught_up(SLOT), 2.0)
        await nodes.stop(A)
        node = await nodes.start(A)
        assert not node.repair.is_caught_up(SLOT)
        begun = sim_loop().time()
        with pytest.raises(Unavailable, match="caught up"):
            await node.repair.caught_up(SLOT, 2.0)
        assert sim_loop().time() - begun == pytest.approx(2.0)
        waiting = asyncio.ensure_future(node.repair.caught_up(SLOT, 20.0))
        ready = asyncio.ensure_future(node.repair.start_sync())
        await asyncio.sleep(0.5)
        assert not waiting.done()
        await nodes.start(C)
        await asyncio.wait_for(waiting, 1.0)
        await asyncio.wait_for(ready, 1.0)


@simulated
async def test_caught_up_means_that_the_records_are_here() -> None:
    async with Nodes(A, B, C, settings=STILL) as nodes:
        await nodes.configure(P)
        await nodes.stop(C)
        await asyncio.sleep(0.1)
        for number in range(100):
            await nodes[A].appender.append_one(message(number))
        node = await nodes.start(C)
        held = nodes.network.hold(matching(FetchRecords, answers=True))
        waiting = asyncio.ensure_future(node.repair.caught_up(SLOT))
        await held.caught()
        assert not node.repair.is_caught_up(SLOT)
        held.release()
        await waiting
        assert await node.held() == await nodes[A].held()


@simulated
async def test_a_lone_or_foreign_slot_needs_no_catching_up() -> None:
    async with Nodes(A, k=1, loops=False) as nodes:
        await nodes.configure(known(1, (A,)))
        await nodes[A].repair.caught_up(SLOT)
        await nodes[A].repair.caught_up(SLOT + 1)
        await nodes[A].repair.start_sync()
        assert nodes[A].repair.under_replicated() == []


@simulated
async def test_a_new_member_catches_up_from_the_old_ones_while_joint() -> None:
    async with Nodes(A, B, C, D, settings=STILL) as nodes:
        await nodes.configure(P)
        await asyncio.sleep(0.5)
        await nodes[A].put(message(1))
        await nodes[B].put(message(1))
        await nodes.configure(known(4, (D, A, B), old=(A, B, C)))
        repair = nodes[D].repair
        assert not repair.is_caught_up(SLOT)
        await repair.caught_up(SLOT)
        assert await nodes[D].has(message(1))
        await nodes.configure(known(5, (D, A, B)))
        assert repair.is_caught_up(SLOT)


@simulated
async def test_every_own_slot_is_synced_at_the_start() -> None:
    async with Nodes(A, B, C, settings=STILL) as nodes:
        for slot in range(SLOTS):
            await nodes.configure(known(3, (A, B, C), slot=slot))
        await nodes.stop(C)
        await asyncio.sleep(0.1)
        for slot in range(SLOTS):
            await nodes[A].appender.append_one(message(slot, slot=slot))
        node = await nodes.start(C)
        await asyncio.wait_for(node.repair.start_sync(), 2.0)
        for slot in range(SLOTS):
            assert await node.has(message(slot, slot=slot))


@simulated
async def test_a_late_comparison_of_an_old_configuration_hides_nothing() -> None:
    async with Nodes(A, B, C, settings=STILL) as nodes:
        await nodes.configure(P)
        await until(lambda: not nodes[A].repair.under_replicated(), 2.0)
        await nodes.stop(A)
        begun: set[Uid] = set()
        asks = matching(SlotDigests, sender=A)

        def first(envelope: Envelope) -> bool:
            if not asks(envelope) or envelope.to in begun:
                return False
            begun.add(envelope.to)
            return True

        held = nodes.network.hold(first)
        node = await nodes.start(A)
        await until(lambda: begun == {B, C}, 2.0)  # A compares with both, under the configuration P.
        await nodes.configure(known(5, (A, B, C)))
        await node.repair.caught_up(SLOT)  # Hurried, past the comparisons that are under way.
        await until(lambda: node.repair.in_sync(SLOT, B) and node.repair.in_sync(SLOT, C), 2.0)
        held.release()
        await asyncio.sleep(1.0)
        assert not node.repair.under_replicated()


@simulated
async def test_what_a_lost_fellow_had_acknowledged_is_looked_for_at_once() -> None:
    """The frame to C was lost with the coordinator: B alone has the copy that made the majority."""
    async with Nodes(A, B, C, settings=STILL) as nodes:
        await nodes.configure(P)
        await until(lambda: all(nodes[uid].repair.is_caught_up(SLOT) for uid in (A, B, C)), 5.0)
        await asyncio.sleep(10.0)
        record = message(1)
        await nodes[A].hold(record)
        await nodes[B].hold(record)
        await nodes.stop(A)
        await until(lambda: not nodes[C].peers.alive(A), 2.0)
        await nodes[C].repair.caught_up(SLOT)
        assert await nodes[C].has(record)


@simulated
async def test_a_majority_that_stand_ins_had_helped_to_is_not_all_there_is() -> None:
    """A and D, which stands in, acknowledge while B and C are away; when these two are back, A is not seen yet."""
    async with Nodes(A, B, C, D, settings=STILL) as nodes:
        await nodes.configure(P)
        await until(lambda: nodes[B].repair.is_complete(SLOT), 5.0)
        nodes.network.partition({A, D}, {B, C})
        await until(lambda: not nodes[B].peers.alive(A), 5.0)
        record = message(1)
        nodes[A].ring.next = [D]
        await nodes[A].appender.append_one(record)
        await nodes[B].repair.caught_up(SLOT)
        assert not nodes[B].repair.is_complete(SLOT)
        await until(lambda: nodes[B].repair.is_complete(SLOT), SETTLED + 1.0)
        assert not nodes[B].repair.is_certain(SLOT, 0.0)
        nodes.network.heal()
        await until(lambda: nodes[B].repair.is_certain(SLOT, 0.0), 5.0)
        assert await nodes[B].has(record)


@simulated
async def test_two_nodes_that_went_and_stay_away_leave_a_slot_uncertain_for_a_while() -> None:
    async with Nodes(A, B, C, D, settings=STILL) as nodes:
        await nodes.configure(P)
        await until(lambda: nodes[B].repair.is_certain(SLOT, 0.0), 2 * SETTLED)
        await nodes.stop(D)
        await until(lambda: not nodes[B].peers.alive(D), 5.0)
        assert nodes[B].repair.is_certain(SLOT, 0.0)
        await nodes.stop(A)
        await until(lambda: not nodes[B].peers.alive(A), 5.0)
        await until(lambda: nodes[B].repair.is_complete(SLOT), SETTLED + 1.0)
        assert not nodes[B].repair.is_certain(SLOT, 0.0)
        await until(lambda: nodes[B].repair.is_certain(SLOT, 0.0), LATELY)


@simulated
async def test_who_is_back_is_asked_however_long_it_takes_to_hand_over() -> None:
    """D was a member, and was replaced while it was away: what it took with a stand-in is on no member."""
    async with Nodes(A, B, C, D, settings=STILL) as nodes:
        await nodes.configure(known(3, (A, B, D)))
        await until(lambda: nodes[A].repair.is_certain(SLOT, 0.0), 2 * SETTLED)
        nodes.network.partition({D}, {A, B, C})
        await until(lambda: not nodes[A].peers.alive(D), 5.0)
        await nodes.configure(known(5, (A, B, C)))
        record = message(1)
        await nodes[D].put(record)
        slow = nodes.network.hold(matching(Offer))
        asked = nodes.network.hold(matching(SlotDigests, sender=A, to=D))
        nodes.network.heal()
        await asked.caught()
        await asyncio.sleep(2 * SETTLED)
        since = nodes[A].clock.now()
        assert nodes[A].repair.is_complete(SLOT)
        assert not nodes[A].repair.is_certain(SLOT, since)
        asked.release()
        await until(lambda: nodes[A].repair.is_certain(SLOT, since), 2.0)
        assert await nodes[A].has(record)
        slow.release()


@simulated
async def test_what_came_after_the_last_question_needs_another_one() -> None:
    async with Nodes(A, B, C, D, settings=STILL) as nodes:
        await nodes.configure(P)
        await until(lambda: nodes[A].repair.is_certain(SLOT, 0.0), 2 * SETTLED)
        slow = nodes.network.hold(matching(Offer))
        record = message(1)
        await nodes[D].hold(record)
        since = nodes[A].clock.now()
        assert nodes[A].repair.is_certain(SLOT, 0.0)
        assert not nodes[A].repair.is_certain(SLOT, since)
        await until(lambda: nodes[A].repair.is_certain(SLOT, since), 2.0)
        assert await nodes[A].has(record)
        slow.release()


@simulated
async def test_many_drains_do_not_ask_a_node_without_end() -> None:
    async with Nodes(A, B, C, D, settings=STILL) as nodes:
        await nodes.configure(P)
        await until(lambda: nodes[A].repair.is_certain(SLOT, 0.0), 2 * SETTLED)
        before = nodes.network.counts["SlotDigests"]
        for _ in range(200):
            since = nodes[A].clock.now()
            await asyncio.sleep(0.01)
            nodes[A].repair.is_certain(SLOT, since)
        assert nodes.network.counts["SlotDigests"] - before <= 2.0 / PAUSE + 1
        await until(lambda: nodes[A].repair.is_certain(SLOT, since), 2 * PAUSE)


@simulated
async def test_after_a_quiet_time_nobody_is_asked() -> None:
    async with Nodes(A, B, C, D, settings=STILL) as nodes:
        await nodes.configure(P)
        await asyncio.sleep(LATELY + 1.0)
        before = nodes.network.counts["SlotDigests"]
        assert nodes[A].repair.is_certain(SLOT, nodes[A].clock.now())
        await asyncio.sleep(1.0)
        assert nodes.network.counts["SlotDigests"] == before


@simulated
async def test_a_member_that_stays_away_is_not_waited_for() -> None:
    async with Nodes(A, B, C, settings=STILL) as nodes:
        await nodes.configure(P)
        await until(lambda: nodes[B].repair.is_complete(SLOT), 5.0)
        await nodes.stop(A)
        await until(lambda: not nodes[B].repair.is_complete(SLOT), 2.0)
        await until(lambda: nodes[B].repair.is_complete(SLOT), SETTLED + 1.0)
