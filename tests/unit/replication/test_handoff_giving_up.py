"""What belongs to others is given up per version, once all members of one plain configuration have confirmed it."""

from __future__ import annotations

import asyncio

from tests.sim.loop import sim_loop
from tests.sim.wire import message as matching
from tests.unit.replication.nodes import (
    SLOT,
    A,
    B,
    C,
    D,
    E,
    Node,
    Nodes,
    known,
    message,
    moved,
    patient,
    simulated,
    until,
)

from coterie_protocol.records import State
from coterie_protocol.registers import AccountBallot, AccountRegister
from coterie_protocol.replication import Offer

P = known(3, (A, B, C))
RECORDS = [message(number) for number in range(20)]
ACCOUNT = AccountRegister(AccountBallot(3, 1, "t"), AccountBallot(3, 1, "t"), b"value")


async def gone(node: Node, seconds: float = 60.0) -> float:
    """Wait until a node holds nothing for others; return how long that took."""
    took = await until(lambda: node.strays.remaining() == (0, 0), seconds)
    assert not await node.held()
    return took


async def let_pass(seconds: float) -> None:
    """Let virtual time pass in which something must not happen."""
    await asyncio.sleep(seconds)


@simulated
async def test_strays_of_the_start_go_to_the_members() -> None:
    async with Nodes(A, B, C, D) as nodes:
        await nodes.configure(P, D)
        await nodes[D].put(*RECORDS)
        await nodes.stop(D)
        node = await nodes.start(D)
        assert node.strays.remaining() == (1, 0)  # Not known yet.
        assert await gone(node) < 3.0
        for uid in (A, B, C):
            assert len(await nodes[uid].held()) == len(RECORDS)
            assert len(nodes[uid].arrived) == len(RECORDS)


@simulated
async def test_a_stand_in_waits_for_the_dead_member() -> None:
    async with Nodes(A, B, C, D) as nodes:
        await nodes.configure(P, D)
        nodes[A].ring.next = [D]
        await nodes.stop(C)
        await asyncio.sleep(0.1)
        for record in RECORDS:
            await nodes[A].appender.append_one(record)
        await until(lambda: nodes[D].strays.remaining() == (1, len(RECORDS)))
        await let_pass(60.0)
        assert len(await nodes[D].held()) == len(RECORDS)
        await nodes.start(C)
        assert await gone(nodes[D]) < 3.0
        assert len(await nodes[C].held()) == len(RECORDS)


@simulated
async def test_a_member_that_confirms_and_then_loses_it_is_one_copy_less_and_no_more() -> None:
    """One member's word never lets another drop the last copy but one: all must have confirmed."""
    async with Nodes(A, B, C, D) as nodes:
        await nodes.configure(P, D)
        nodes[A].ring.next = [D]
        await nodes.stop(C)
        await asyncio.sleep(0.1)
        await nodes[A].appender.append_one(RECORDS[0])
        await until(lambda: nodes[D].strays.remaining() == (1, 1))
        nodes[A].disk.forget_record(RECORDS[0].key)
        await let_pass(5.0)
        assert await nodes[D].has(RECORDS[0])
        await nodes.start(C)
        await gone(nodes[D])
        nodes[A].disk.forget_record(RECORDS[0].key)  # What repair or D had brought back meanwhile, once more.
        assert await nodes[B].has(RECORDS[0])
        assert await nodes[C].has(RECORDS[0])
        await let_pass(10.0)
        assert await nodes[A].has(RECORDS[0])


@simulated
async def test_a_stand_in_follows_the_slot_to_a_replacement() -> None:
    async with Nodes(A, B, C, D, E) as nodes:
        await nodes.configure(P, D)
        nodes[A].ring.next = [D]
        await nodes.stop(C)
        await asyncio.sleep(0.1)
        await nodes[A].appender.append_one(RECORDS[0])
        await let_pass(40.0)
        assert await nodes[D].has(RECORDS[0])
        await nodes.configure(known(5, (A, B, E)))
        await gone(nodes[D])
        assert await nodes[E].has(RECORDS[0])


@simulated
async def test_nothing_is_given_up_under_a_joint_configuration() -> None:
    async with Nodes(A, B, C, D, E) as nodes:
        await nodes.configure(known(4, (A, B, E), old=(A, B, C)), D)
        await nodes[D].hold(*RECORDS)
        await until(lambda: all(len(nodes[uid].arrived) == len(RECORDS) for uid in (A, B, C, E)))
        await let_pass(60.0)
        assert len(await nodes[D].held()) == len(RECORDS)
        await nodes.configure(known(5, (A, B, E)), C, D)
        await gone(nodes[D])


@simulated
async def test_a_proposal_that_was_never_chosen_holds_nothing_up() -> None:
    async with Nodes(A, B, C, D, E) as nodes:
        await nodes.configure(P)
        await nodes[E].take(known(4, (A, B, E), old=(A, B, C)))
        nodes[D].table.learn([known(4, (A, B, E), old=(A, B, C))])
        await nodes[D].hold(*RECORDS)
        await gone(nodes[D])
        for uid in (A, B, C):
            assert len(await nodes[uid].held()) == len(RECORDS)


@simulated
async def test_a_member_under_another_configuration_does_not_confirm() -> None:
    async with Nodes(A, B, C, D) as nodes:
        await nodes.configure(P, D)
        newest = known(5, (A, B, C))
        for uid in (A, B, D):
            await nodes[uid].take(newest)
        await nodes[D].hold(*RECORDS)
        await until(lambda: len(nodes[C].arrived) == len(RECORDS))
        await let_pass(60.0)
        assert len(await nodes[D].held()) == len(RECORDS)
        await nodes[C].take(newest)
        await gone(nodes[D])


@simulated
async def test_the_same_epoch_of_another_proposal_does_not_confirm() -> None:
    async with Nodes(A, B, C, D) as nodes:
        other = known(5, (A, B, C))
        newest = known(5, (A, B, C), ballot=9)
        newest = type(newest)(SLOT, newest.ballot, type(newest.config)(5, newest.ballot, (), (A, B, C)))
        for uid in (A, B, D):
            await nodes[uid].take(newest)
        await nodes[C].take(other)
        await nodes[D].hold(*RECORDS)
        await let_pass(60.0)
        assert len(await nodes[D].held()) == len(RECORDS)


@simulated
async def test_what_changed_after_it_was_offered_stays() -> None:
    async with Nodes(A, B, C, D) as nodes:
        await nodes.configure(P, D)
        record, archived = RECORDS[0], moved(RECORDS[0], State.ARCHIVED, b"mine")
        answers = nodes.network.hold(matching(Offer, sender=C, answers=True))
        await nodes[D].hold(record, RECORDS[1])
        await answers.caught(1)
        await nodes[D].hold(archived)
        again = nodes.network.hold(matching(Offer, sender=D))
        answers.release()
        await again.caught(1)
        assert await nodes[D].has(archived)
        again.release()
        await gone(nodes[D])
        for uid in (A, B, C):
            assert await nodes[uid].has(archived)


@simulated
async def test_a_newer_configuration_in_an_answer_is_followed() -> None:
    async with Nodes(A, B, C, D, E) as nodes:
        await nodes.configure(P, D)
        newest = known(5, (C, E, B))
        await nodes.configure(newest, A)
        await nodes[D].hold(*RECORDS)
        await gone(nodes[D])
        assert nodes[D].table.known(SLOT) == newest
        assert len(await nodes[E].held()) == len(RECORDS)


@simulated
async def test_who_never_heard_of_the_slot_asks_the_ring() -> None:
    async with Nodes(A, B, C, D) as nodes:
        await nodes.configure(P)
        nodes[D].ring.suggested[SLOT] = (B, C, A)
        await nodes[D].hold(*RECORDS)
        await gone(nodes[D])


@simulated
async def test_only_what_a_member_lacks_is_sent() -> None:
    async with Nodes(A, B, C, D) as nodes:
        await nodes.configure(P, D)
        large = [message(number, bytes(10_000)) for number in range(700)]
        for uid in (A, B):
            await nodes[uid].put(*large)
        await nodes[D].put(*large[:-1])
        await nodes[D].hold(large[-1])
        await nodes[C].put(*large[:-10])
        await until(lambda: nodes[D].strays.given_up == len(large))
        await gone(nodes[D])
        assert len(await nodes[C].held()) == len(large)
        assert nodes[D].offers.bytes_sent < 200_000


@simulated
async def test_bulk_keeps_to_its_rate() -> None:
    async with Nodes(A, B, C, D, settings=patient(bulk_bytes_per_second=100_000)) as nodes:
        await nodes.configure(P, D)
        await nodes[D].hold(*(message(number, bytes(10_000)) for number in range(100)))
        begun = sim_loop().time()
        await until(lambda: len(nodes[C].arrived) == 100, 120.0)
        assert sim_loop().time() - begun > 9.0


@simulated
async def test_a_new_member_keeps_what_was_a_stray() -> None:
    async with Nodes(A, B, C, D) as nodes:
        await nodes.configure(P, D)
        held = nodes.network.hold(matching(Offer, sender=C, answers=True))
        await nodes[D].hold(*RECORDS)
        await held.caught(1)
        await nodes[D].take(known(4, (A, B, D), old=(A, B, C)))
        held.release()
        await let_pass(1.0)
        assert nodes[D].strays.remaining() == (0, 0)
        assert len(await nodes[D].held()) == len(RECORDS)


@simulated
async def test_accounts_go_only_under_the_own_plain_register_without_this_node() -> None:
    async with Nodes(A, B, C, D) as nodes:
        node = nodes[D]
        await nodes.configure(known(4, (A, B, C), old=(A, B, D)))
        await node.disk.transact(lambda tx: tx.put_account(SLOT, "ann", ACCOUNT))
        await node.hold(*RECORDS)
        newest = known(5, (A, B, C))
        await nodes.configure(newest)
        node.table.learn([newest])
        await until(lambda: node.strays.given_up == len(RECORDS))
        await let_pass(30.0)
        assert await node.disk.read(lambda tx: tx.account_count(SLOT)) == 1
        assert node.strays.remaining() == (1, 0)
        await node.take(newest)
        assert await gone(node) < 5.0
        assert await node.disk.read(lambda tx: tx.account_count(SLOT)) == 0


@simulated
async def test_a_slot_that_is_still_forming_has_too_few_members() -> None:
    async with Nodes(A, B) as nodes:
        await nodes.configure(known(1, (A,)), B)
        await nodes[B].hold(*RECORDS)
        await until(lambda: len(nodes[A].arrived) == len(RECORDS))
        await let_pass(60.0)
        assert len(await nodes[B].held()) == len(RECORDS)


@simulated
async def test_a_full_member_is_waited_for() -> None:
    async with Nodes(A, B, C, D) as nodes:
        await nodes.configure(P, D)
        nodes[C].disk.full = True
        await nodes[D].hold(*RECORDS)
        await let_pass(20.0)
        assert len(await nodes[D].held()) == len(RECORDS)
        nodes[C].disk.full = False
        await gone(nodes[D])
