"""The table "How the wrong variants fail" (docs/protocol.md), on configurations: each row to the step where it fails.

Each story runs twice: with the real code, which must survive it, and with that one rule broken on purpose, which the
witness must catch. So a story that has lost its point fails, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from tests.sim.invariants import Violation
from tests.sim.mutations import rules
from tests.sim.steps import (
    N0,
    N1,
    N2,
    N3,
    N4,
    N5,
    SLOT,
    A,
    X,
    Y,
    at,
    confirm,
    drawn,
    held,
    hint,
    join,
    joint_accepts,
    move,
    settle,
    start,
    sync,
)
from tests.sim.wire import message
from tests.sim.world import World

from coterie_protocol.errors import CoterieError, ErrorCode
from coterie_protocol.registers import (
    ConfigAccept,
    ConfigPrepare,
)

Simulate = Callable[..., Any]


def lone() -> World:
    """Return a world that serves slots of one member, and moves nothing by itself."""
    return World(replication_factor=1, loops=False)


# --- P before J is chosen --------------------------------------------------------------------------------------------


async def p_before_j() -> None:
    async with lone() as world:
        await start(world, N0, N1, N2, N4)
        lost = world.network.drop(joint_accepts(N0))
        assert await join(world, N4, N1) is None
        lost.remove()
        assert (at(world, N0), at(world, N1)) == ("P1{n0}", "J2{n0}>{n1}")

        world.network.partition({N1, N4}, {N0, N2})
        joint = held(world, N1)
        assert await settle(world, N4, joint) is None
        assert await join(world, N4, N1) is None
        assert at(world, N1) == "J2{n0}>{n1}"

        assert drawn(await move(world, N0, N2)) == "P3{n2}"
        world.network.heal()
        await asyncio.sleep(0.2)
        assert await settle(world, N4, joint) is None
        assert drawn(await confirm(world, N1)) == "P3{n2}"


def test_a_joint_configuration_that_is_not_chosen_gets_no_successor(simulate: Simulate) -> None:
    """J2{n0}>{n1} reaches only n1. While n0 is away nobody can make P3{n1} of it: its quorum needs n0, too.

    So n0 is free to go to n2: J2{n0}>{n2}, P3{n2}. When all are together again, what n1 holds is history.
    """
    simulate(p_before_j())


def test_p_before_j_is_chosen_forks(simulate: Simulate) -> None:
    """The same with a proposer to whom n1's promise is enough: it decides P3{n1}, and n0 later decides P3{n2}."""
    with (
        rules.promised_by_the_new_is_enough(),
        pytest.raises(Violation, match=r"P3\{n1\}.*accepted before anything of epoch 2 was chosen"),
    ):
        simulate(p_before_j())


# --- J aborted or replaced -------------------------------------------------------------------------------------------


async def j_replaced() -> None:
    async with lone() as world:
        await start(world, N0, N1, N2)
        joint = await join(world, N0, N1)
        assert drawn(joint) == "J2{n0}>{n1}"
        assert joint is not None
        assert drawn(await join(world, N2, N2)) == "J2{n0}>{n1}"
        assert at(world, N2) == "none"
        assert await sync(world, N1, joint)
        assert drawn(await settle(world, N1, joint)) == "P3{n1}"
        assert drawn(await join(world, N0, N2)) == "J4{n1}>{n2}"


def test_a_joint_configuration_is_carried_on_not_replaced(simulate: Simulate) -> None:
    """J2{n0}>{n1} is chosen; then the ring suggests n2. The proposer finds J2 and accepts it again instead of {n2}.

    P3{n1} follows, and only upon that J4{n1}>{n2}.
    """
    simulate(j_replaced())


def test_replacing_a_joint_configuration_forks(simulate: Simulate) -> None:
    """A proposer that answers the new suggestion with J3{n0}>{n2} leaves J2's successor beside it."""

    with rules.joint_is_replaced(), pytest.raises(Violation, match=r"J3\{n0\}>\{n2\}.*joint upon J2\{n0\}>\{n1\}"):
        simulate(j_replaced())


# --- quorum of a stale configuration ---------------------------------------------------------------------------------


async def stale_quorum() -> None:
    async with lone() as world:
        await start(world, N0, N1, N2, N5)
        lost = world.network.drop(joint_accepts(N0))
        assert await join(world, N5, N1) is None
        lost.remove()
        world.network.partition({N1, N5}, {N0, N2})
        assert drawn(await join(world, N0, N2)) == "J2{n0}>{n2}"
        # All that n5 knows, from its cache and from n1, is the other one.
        hint(world, N5, N1)
        assert await confirm(world, N5) is None
        assert await join(world, N5, N1) is None
        world.network.heal()
        await asyncio.sleep(0.2)
        assert drawn(await confirm(world, N5)) == "J2{n0}>{n2}"
        assert (at(world, N0), at(world, N2)) == ("J2{n0}>{n2}", "J2{n0}>{n2}")


def test_a_round_needs_the_quorum_of_what_it_found(simulate: Simulate) -> None:
    """J2{n0}>{n2} is chosen while n1 holds an older, lonely J2{n0}>{n1}. Who sees only that cannot go without n0.

    Once n0 answers, the round finds J2{n0}>{n2}, whose ballot is higher, and asks n2 as well.
    """
    simulate(stale_quorum())


def test_the_quorum_of_a_stale_configuration_forks(simulate: Simulate) -> None:
    """A proposer that skips n0 accepts J2{n0}>{n1} again, above the chosen J2{n0}>{n2}: epoch 2 has two values."""
    with rules.promised_by_the_new_is_enough(), pytest.raises(Violation, match=r"J2\{n0\}>\{n1\}.*of the same epoch"):
        simulate(stale_quorum())


# --- a removed member forgets ----------------------------------------------------------------------------------------


async def removed_member_forgets(forgets: bool = False) -> None:
    async with lone() as world:
        await start(world, N0, N1, N2, N3)
        assert drawn(await move(world, N0, N0, N1, N2)) == "P3{n0,n1,n2}"
        world.network.partition({N0}, {N1, N2, N3})
        await asyncio.sleep(1.5)
        assert drawn(await move(world, N1, N3)) == "P5{n3}"
        assert (at(world, N0), at(world, N1), at(world, N2)) == ("P3{n0,n1,n2}", "P5{n3}", "P5{n3}")
        if forgets:
            world.disks[N1].forget_register(SLOT)
            del world.witness.registers[N1, SLOT]
        await world.restart(N1)
        world.network.partition({N0, N1}, {N2, N3})
        await asyncio.sleep(1.5)
        assert await join(world, N0, N1, N3, N0) is None
        assert at(world, N0) == "P3{n0,n1,n2}"
        world.network.heal()
        await asyncio.sleep(0.2)
        assert drawn(await confirm(world, N0)) == "P5{n3}"


def test_a_removed_member_remembers(simulate: Simulate) -> None:
    """n1 and n2 hand over to n3 while n0 is away: P5{n3}. Then n0, still at P3, meets n1, which is out.

    n1 keeps its register, over a restart, too: n0 learns from it that n3 decides, and decides nothing without it.
    """
    simulate(removed_member_forgets())


def test_a_removed_member_that_forgets_forks(simulate: Simulate) -> None:
    """An n1 that has dropped the register promises like a blank node: with n0 that is a majority of P3."""
    with pytest.raises(Violation, match=r"J4\{n0,n1,n2\}>\{n1,n3,n0\}.*of the same epoch"):
        simulate(removed_member_forgets(forgets=True))


# --- unknown = empty -------------------------------------------------------------------------------------------------


async def unknown_is_not_empty() -> None:
    async with lone() as world:
        await start(world, N0)
        await world.start(N4)
        await asyncio.sleep(0.2)
        world.network.partition({N0}, {N4})
        assert await join(world, N4, N4) is None
        assert at(world, N4) == "none"
        with pytest.raises(CoterieError) as refused:
            await world.add(N4, "ann", "x")
        assert refused.value.wire_code is ErrorCode.UNKNOWN_SLOT
        world.network.heal()
        await asyncio.sleep(0.2)
        assert await world.add(N0, "ann", "y") == b"y;"


def test_who_knows_nothing_of_a_slot_creates_nothing(simulate: Simulate) -> None:
    """A wrong ring suggests n4 to n4, which is blank: all answer 'none', and that is the end of the round."""
    simulate(unknown_is_not_empty())


def test_taking_unknown_for_empty_forks(simulate: Simulate) -> None:
    """A proposer that takes 'none' for a slot that does not exist yet creates J2{n4}>{n4} beside P1{n0}."""

    with rules.unknown_is_empty(), pytest.raises(Violation, match=r"J2\{n4\}>\{n4\}"):
        simulate(unknown_is_not_empty())


# --- a corrupted acceptor merely abstains ----------------------------------------------------------------------------


async def corrupted_acceptor() -> None:
    async with lone() as world:
        await start(world, N0, N1, N2, X, Y, A, patient=A)
        plain = await move(world, N0, N0, N1, N2)
        for uid in (A, X):
            world.processes[uid].table.learn([plain])
            world.processes[uid].table.choose(plain)
        first = plain.ballot.counter
        nodes = {uid: process.proposer for uid, process in world.processes.items()}
        # Ballot 4: n0 promises it, the request to n1 is lost and the one to n2 late.
        world.network.drop(message(ConfigPrepare, sender=A, to=N1))
        late = world.network.hold(message(ConfigPrepare, sender=A, to=N2))
        nodes[A]._counter = first + 30
        fourth = asyncio.ensure_future(join(world, A, Y))
        await late.caught()
        await asyncio.sleep(0.2)
        assert world.witness.registers[N0, SLOT].promised.counter > first + 30
        # n0's register is damaged while n1 and n2 complete ballot 2.
        await world.crash(N0)
        await world.damage(N0, SLOT)
        await world.start(N0)
        await asyncio.sleep(0.2)
        nodes[N1]._counter = first + 10
        again = await confirm(world, N1)
        assert drawn(again) == "P3{n0,n1,n2}"
        # Ballot 3 reaches n0 and n1.
        away = world.network.drop(message(ConfigPrepare, ConfigAccept, sender=X, to=N2))
        nodes[X]._counter = first + 20
        third = await world.processes[X].call(lambda: nodes[X].join({SLOT: (X,)}))
        away.remove()
        # And ballot 4 goes on, with n0's promise from before.
        late.release()
        chosen = await fourth
        assert third == {}
        assert drawn(chosen) == "J4{n0,n1,n2}>{y}"
        # A ballot above all that n0 can have promised makes it whole again.
        assert drawn(await confirm(world, N1)) == "J4{n0,n1,n2}>{y}"
        assert at(world, N0) == "J4{n0,n1,n2}>{y}"


def test_a_corrupted_acceptor_keeps_to_its_mark(simulate: Simulate) -> None:
    """n0 promises ballot 4 and then loses the register to damage; n1 and n2 complete ballot 2, n0 hears of that.

    It must not take part in ballot 3 now: its high-water mark says that it may have promised more, and it had. Ballot 3
    fails, ballot 4 goes on. Only a ballot above the mark heals the register.
    """
    simulate(corrupted_acceptor())


def test_a_corrupted_acceptor_without_a_mark_forks(simulate: Simulate) -> None:
    """One that abstains only until somebody writes the register again helps ballot 3, and ballot 4 decides as well."""

    with rules.healed_by_anything(), pytest.raises(Violation, match=r"J4\{n0,n1,n2\}>\{y\}.*of the same epoch"):
        simulate(corrupted_acceptor())
