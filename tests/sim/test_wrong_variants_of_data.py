"""The table "How the wrong variants fail" (docs/protocol.md), on data: each row to the step where it fails.

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
    at,
    drawn,
    hint,
    join,
    joint_accepts,
    move,
    outcome,
    settle,
    start,
    sync,
)
from tests.sim.wire import message
from tests.sim.world import SETTINGS, World

from coterie_protocol.registers import (
    AccountAccept,
    AccountList,
    ConfigLearn,
)
from coterie_protocol.replication import Offer, Replicate, SyncState

Simulate = Callable[..., Any]


def lone() -> World:
    """Return a world that serves slots of one member, and moves nothing by itself."""
    return World(replication_factor=1, loops=False)


# --- epoch is only a number ------------------------------------------------------------------------------------------


async def same_epoch_another_configuration() -> None:
    async with lone() as world:
        await start(world, N0, N2, N5)
        lost = world.network.drop(joint_accepts(N0))
        assert await join(world, N5, N5) is None
        lost.remove()
        assert at(world, N5) == "J2{n0}>{n5}"
        world.network.partition({N0, N2}, {N5})
        joint = await join(world, N2, N2)
        assert joint is not None
        assert await sync(world, N2, joint)
        untold = world.network.drop(message(ConfigLearn, to=N0))
        assert drawn(await settle(world, N2, joint)) == "P3{n2}"
        assert (at(world, N0), at(world, N5)) == ("J2{n0}>{n2}", "J2{n0}>{n5}")
        world.network.partition({N0, N5}, {N2})
        await asyncio.sleep(1.5)
        created = await outcome(world.add(N5, "ann", "x"))
        untold.remove()
        world.network.heal()
        await asyncio.sleep(0.2)
        await world.read(N2, "ann")
        assert created is None


def test_the_epoch_alone_does_not_name_a_configuration(simulate: Simulate) -> None:
    """n5 holds an unchosen J2{n0}>{n5}, n0 the chosen J2{n0}>{n2}, whose P3{n2} is decided. All say 'epoch 2'.

    What n5 wants to create "at epoch 2" with n0 is answered with stale_epoch, for its cid is another.
    """
    simulate(same_epoch_another_configuration())


def test_comparing_epochs_only_loses(simulate: Simulate) -> None:
    """A fence that looks at the number only lets n0 and n5 acknowledge x, which P3{n2} never hears of."""

    with rules.epoch_is_a_number(), pytest.raises(Violation, match=r"ann.*acknowledged before"):
        simulate(same_epoch_another_configuration())


# --- no fence on accept ----------------------------------------------------------------------------------------------


async def accept_after_the_move() -> None:
    async with lone() as world:
        await start(world, N0, N1, N2, N4, patient=N1)
        await move(world, N0, N0, N1, N2)
        late = world.network.hold(message(AccountAccept, to={N0, N2}))
        adding = asyncio.ensure_future(outcome(world.add(N1, "ann", "x")))
        await late.caught(2)
        lagging = world.network.drop(joint_accepts(N1))
        joint = await join(world, N0, N4)
        assert joint is not None
        assert drawn(joint) == "J4{n0,n1,n2}>{n4}"
        assert (at(world, N0), at(world, N1), at(world, N2)) == (drawn(joint), "P3{n0,n1,n2}", drawn(joint))
        # n1, which has accepted x, is not heard: a majority of the old has.
        silent = world.network.drop(message(SyncState, AccountList, to=N1))
        assert await sync(world, N0, joint)
        late.release()
        await asyncio.sleep(0.2)
        assert drawn(await settle(world, N0, joint)) == "P5{n4}"
        lagging.remove()
        silent.remove()
        acknowledged = await adding
        assert (acknowledged or b"") in await world.read(N4, "ann")


def test_an_accept_is_fenced_like_a_promise(simulate: Simulate) -> None:
    """n0 and n2 have promised x under P3, then go over to the joint J4 and are synced; x's accepts reach them late.

    They refuse: n1 must begin anew under J4, where n4 has its say. So P5{n4} knows of x if anybody was told so.
    """
    simulate(accept_after_the_move())


def test_an_accept_without_a_fence_loses(simulate: Simulate) -> None:
    """Acceptors that fence only the promise accept x under P3 although J4 is synced: P5{n4} comes without it."""
    with rules.accept_unfenced(), pytest.raises(Violation, match=r"ann"):
        simulate(accept_after_the_move())


# --- ballots without epoch -------------------------------------------------------------------------------------------


async def old_ballot_of_a_removed_member() -> None:
    async with lone() as world:
        await start(world, N0, N1, N2, N3)
        await move(world, N0, N0, N1, N2)
        lost = world.network.drop(message(AccountAccept, to={N0, N1}))
        world.processes[N2].accounts._counter = 8  # As after eight rounds.
        assert await outcome(world.add(N2, "ann", "w")) is None
        lost.remove()
        assert world.witness.accounts[N2, SLOT, "ann"].value == b"w;"
        world.network.partition({N2}, {N0, N1, N3})
        await asyncio.sleep(1.5)
        assert drawn(await move(world, N0, N3)) == "P5{n3}"
        world.network.heal()
        await asyncio.sleep(0.2)
        assert await world.add(N3, "ann", "v") == b"v;"
        held = world.witness.accounts[N2, SLOT, "ann"]
        assert held.accepted.counter > world.witness.accounts[N3, SLOT, "ann"].accepted.counter
        assert drawn(await move(world, N3, N2)) == "P7{n2}"
        assert await world.read(N2, "ann") == b"v;"


def test_the_epoch_leads_an_accounts_ballot(simulate: Simulate) -> None:
    """Only n2 ever accepted x=w, at counter 9 of epoch 3. It is removed; P5{n3} acknowledges x=v at counter 1.

    When n2 comes back as a new member, v is newer than w, for its epoch is.
    """
    simulate(old_ballot_of_a_removed_member())


def test_ballots_without_the_epoch_fork(simulate: Simulate) -> None:
    """Where only the counter counts, the joint J6{n3}>{n2} takes n2's forgotten w for the newest and syncs it."""
    with rules.ballots_without_epoch(), pytest.raises(Violation, match=r"ann"):
        simulate(old_ballot_of_a_removed_member())


# --- an unfenced list ------------------------------------------------------------------------------------------------


async def list_of_a_member_that_lags() -> None:
    async with lone() as world:
        await start(world, N0, N1, N2, N3, patient=N0)
        await move(world, N0, N0, N1, N2)
        gone = world.network.drop(message(AccountAccept, to=N1))
        late = world.network.hold(message(AccountAccept, to=N2))
        adding = asyncio.ensure_future(world.add(N0, "ann", "x"))
        await late.caught()
        lagging = world.network.drop(joint_accepts(N2))
        joint = await join(world, N1, N3)
        assert joint is not None
        assert (at(world, N0), at(world, N1), at(world, N2), at(world, N3)) == (
            drawn(joint),
            drawn(joint),
            "P3{n0,n1,n2}",
            drawn(joint),
        )
        silent = world.network.drop(message(SyncState, AccountList, to=N0))
        assert not await sync(world, N1, joint)
        late.release()
        assert await adding == b"x;"
        for tap in (gone, silent, lagging):
            tap.remove()
        assert await sync(world, N1, joint)
        assert drawn(await settle(world, N1, joint)) == "P5{n3}"
        await asyncio.sleep(0.2)
        assert await world.read(N3, "ann") == b"x;"


def test_only_members_at_the_joint_configuration_are_listed(simulate: Simulate) -> None:
    """x is at n0 only; J4 is chosen by n0, n1 and n3; n0 does not answer the sync, and n2 still is at P3.

    n1's list alone is no majority of the old, and n2's does not count: n2 may, and does, still accept x under P3.
    """
    simulate(list_of_a_member_that_lags())


def test_an_unfenced_list_loses(simulate: Simulate) -> None:
    """A sync that takes n2's empty list goes on to P5{n3}, and x, acknowledged by n0 and n2, is not there."""

    async def story() -> None:
        async with lone() as world:
            await start(world, N0, N1, N2, N3, patient=N0)
            await move(world, N0, N0, N1, N2)
            world.network.drop(message(AccountAccept, to=N1))
            late = world.network.hold(message(AccountAccept, to=N2))
            adding = asyncio.ensure_future(world.add(N0, "ann", "x"))
            await late.caught()
            world.network.drop(joint_accepts(N2))
            joint = await join(world, N1, N3)
            assert joint is not None
            world.network.drop(message(SyncState, AccountList, to=N0))
            assert await sync(world, N1, joint)
            late.release()
            assert await adding == b"x;"
            await settle(world, N1, joint)

    with rules.list_unfenced(), pytest.raises(Violation, match=r"P5\{n3\}.*ann"):
        simulate(story())


# --- give-up by slot -------------------------------------------------------------------------------------------------


async def late_stray() -> None:
    async with World(loops=False) as world:
        await start(world, N0, N1, N2, N3)
        await move(world, N0, N0, N2, N3)
        hint(world, N1, N0)
        await world.append(N1, world.message(N1, "ann", 1))
        await asyncio.sleep(SETTINGS.offer_retry)
        compared = world.network.hold(message(Offer, to=N1, answers=True))
        strays = world.processes[N1].strays
        giving_up = asyncio.ensure_future(world.processes[N1].call(strays.round))
        await compared.caught(3)
        # Two members are silent, so n0 has n1 stand in for them, after n1 has compared.
        silent = world.network.drop(message(Replicate, to={N2, N3}))
        assert await world.append(N0, world.message(N0, "ann", 8)) == 2
        assert len(world.witness.copies) == 2
        compared.release()
        await giving_up
        silent.remove()
        kept = {key.id[-1]: sorted(held) for key, held in world.witness.copies.items()}
        assert kept == {1: [N0, N2, N3], 8: [N0, N1]}
        await asyncio.sleep(2 * SETTINGS.offer_retry)
        await world.processes[N1].call(strays.round)
        kept = {key.id[-1]: sorted(held) for key, held in world.witness.copies.items()}
        assert kept == {1: [N0, N2, N3], 8: [N0, N2, N3]}


def test_what_came_after_the_comparison_is_not_given_up(simulate: Simulate) -> None:
    """n1, no member, has all members confirm message 1. Before their answers are there, message 8 reaches n1, too.

    It gives up exactly what was confirmed, and offers message 8 in the next round.
    """
    simulate(late_stray())


def test_giving_up_a_whole_slot_loses(simulate: Simulate) -> None:
    """A node that then drops the slot drops message 8, acknowledged by n0 and n1, as well: one copy is left."""
    with rules.give_up_by_slot(), pytest.raises(Violation, match=r"record 0+8/0 of 'ann'.*only on \['n0'\], 2 needed"):
        simulate(late_stray())
