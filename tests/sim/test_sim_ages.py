"""What becomes too old: messages that nobody collects expire, tombstones go, and nothing comes back or goes too early.

A month passes in a hundred seconds here: `AGES` shortens a message's life, and all else that follows from it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.sim.invariants import Violation
from tests.sim.mutations.rules import own_clock_is_believed, replaced, tombstone_dropped
from tests.sim.steps import N0, N1, N2, N3, SLOT, at, until
from tests.sim.walk import whole
from tests.sim.wire import Envelope
from tests.sim.world import SETTINGS, World

from coterie_node.replication.expiry import collect
from coterie_node.runtime.ports import Tx
from coterie_protocol.identifiers import Uid
from coterie_protocol.records import Record, State
from coterie_protocol.registers import ConfigAccept
from coterie_protocol.replication import DropTombstones

Simulate = Callable[..., Any]
AGES = replace(SETTINGS, message_ttl=100.0, tombstone_ttl=150.0, clock_interval=0.5, ageing_interval=2.0)
YEARS_MS = 3 * 365 * 86_400_000


def aged(*, slots: int = 1) -> World:
    """Return a world in which things become old soon."""
    return World(settings=AGES, slots=slots)


async def three(world: World) -> None:
    """Start a ring of three nodes."""
    for uid in (N0, N1, N2):
        await world.start(uid, found=uid == N0)
    await whole(world, 5.0)


def held(world: World, record: Record) -> dict[Uid, State]:
    """Return in which state each node's disk holds a record."""
    return {uid: State(one.state) for uid, one in sorted(world.witness.copies.get(record.key, {}).items())}


async def store(world: World, number: int, state: State = State.PENDING, by: Uid = N0) -> Record:
    """Store a message, or a further state of it, stamped as the chat does."""
    written = world.message(by, "ann", number, state)
    stamp = world.processes[by].calendar.stamp_ms()
    before = next((one for one in world.witness.promised.values() if one.key == written.key), None)
    record = Record(
        *written.key, written.state, written.body, written.size, b"", 1, before.stored_at if before else stamp, stamp
    )
    await world.append(by, record)
    return record


def everywhere(state: State) -> dict[Uid, State]:
    return dict.fromkeys((N0, N1, N2), state)


# --- messages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_a_message_that_nobody_collects_expires_at_every_member_alike(simulate: Simulate, seed: int) -> None:
    """It counts as expired at all members within the difference of their clocks, and is written as such soon after.

    All end with the same version, so nothing is left to repair.
    """

    async def story() -> None:
        async with aged() as world:
            await three(world)
            old = await store(world, 1)
            await asyncio.sleep(50.0)
            young = await store(world, 2)
            await asyncio.sleep(49.0)
            assert all(process.calendar.expired_before(SLOT) <= old.stored_at for process in world.processes.values())
            await asyncio.sleep(1.5)
            assert all(process.calendar.expired_before(SLOT) > old.stored_at for process in world.processes.values())
            await until(lambda: held(world, old) == everywhere(State.EXPIRED))
            assert held(world, young) == everywhere(State.PENDING)
            # Metrics count it once in the ring: at the node that acts, once a majority has it.
            await until(lambda: sum(process.ageing.expired for process in world.processes.values()) == 1)
            digests = [await disk.read(lambda tx: tx.slot_digest(SLOT, 1 << 60)) for disk in world.disks.values()]
            assert len(set(digests)) == 1
            await whole(world, 5.0)
            assert sum(process.ageing.expired for process in world.processes.values()) == 1

    simulate(story(), seed)


async def one_clock_leaps(who: Uid, restarted: bool) -> None:
    async with aged() as world:
        await three(world)
        record = await store(world, 1)
        await asyncio.sleep(1.0)
        if restarted:
            await world.restart(who)
        world.processes[who].clock.skew_ms = YEARS_MS
        await asyncio.sleep(60.0)
        assert held(world, record) == everywhere(State.PENDING)


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("who", [N0, N1, N2])
def test_one_clock_that_leaps_by_years_expires_nothing(simulate: Simulate, who: Uid, restarted: bool) -> None:
    """Whether it is the acting owner's or another's, of a node that runs or has just come up."""
    simulate(one_clock_leaps(who, restarted))


def test_by_its_own_clock_a_node_would_eat_every_message(simulate: Simulate) -> None:
    """The rule broken: the acting owner believes itself, and what was acknowledged a minute ago is expired."""

    with own_clock_is_believed(), pytest.raises(AssertionError, match="EXPIRED"):
        simulate(one_clock_leaps(N0, False))


def test_all_clocks_that_leap_together_are_not_believed_at_once(simulate: Simulate) -> None:
    """A broken time server sets all clocks years ahead: nothing expires for a thirtieth of a message's life.

    Set right within that time, no harm is done.
    """

    async def story() -> None:
        async with aged() as world:
            await three(world)
            record = await store(world, 1)
            for process in world.processes.values():
                process.clock.skew_ms = YEARS_MS
            await asyncio.sleep(AGES.message_ttl / 30 - 1.0)
            assert held(world, record) == everywhere(State.PENDING)
            for process in world.processes.values():
                process.clock.skew_ms = 0
            await asyncio.sleep(60.0)
            assert held(world, record) == everywhere(State.PENDING)
            assert any("leapt ahead" in line for line in world.log)

    simulate(story())


def test_a_clock_that_lags_makes_no_message_that_is_old_at_once(simulate: Simulate) -> None:
    """The acting owner's clock is years behind: what it stores is stamped by the others' time."""

    async def story() -> None:
        async with aged() as world:
            await three(world)
            world.processes[N0].clock.skew_ms = -YEARS_MS
            await asyncio.sleep(1.0)
            record = await store(world, 1)
            assert abs(record.stored_at - world.processes[N1].clock.wall_ms()) < 1000
            await asyncio.sleep(60.0)
            assert held(world, record) == everywhere(State.PENDING)

    simulate(story())


def test_a_minority_lets_nothing_expire(simulate: Simulate) -> None:
    """Two of three members are away: whoever is alone does not know the time, and keeps what it has."""

    async def story() -> None:
        async with aged() as world:
            await three(world)
            record = await store(world, 1)
            await world.crash(N1)
            await world.crash(N2)
            await asyncio.sleep(120.0)
            assert world.processes[N0].calendar.expired_before(SLOT) == 0
            await world.start(N1)
            await until(lambda: held(world, record)[N0] is State.EXPIRED)

    simulate(story())


# --- tombstones ------------------------------------------------------------------------------------------------------


async def deleted(world: World) -> Record:
    """Store, archive and delete a message."""
    await store(world, 1)
    await store(world, 1, State.ARCHIVED)
    return await store(world, 1, State.DELETED)


def test_a_tombstone_goes_when_all_members_agree(simulate: Simulate) -> None:
    """Not before its time, then everywhere."""

    async def story() -> None:
        async with aged() as world:
            await three(world)
            record = await deleted(world)
            expired = await store(world, 2)
            await asyncio.sleep(148.0)
            assert held(world, record) == everywhere(State.DELETED)
            await until(lambda: held(world, record) == {})
            assert held(world, expired) == everywhere(State.EXPIRED)
            await asyncio.sleep(100.0)
            assert held(world, expired) == {}
            await asyncio.sleep(10.0)
            assert held(world, record) == held(world, expired) == {}

    simulate(story())


async def a_member_is_away() -> None:
    """n2 is away while a message is deleted, and cannot be replaced: there are but three nodes."""
    async with aged() as world:
        await three(world)
        await store(world, 1)
        record = await store(world, 1, State.ARCHIVED)
        await asyncio.sleep(1.0)
        await world.crash(N2)
        await asyncio.sleep(1.0)
        await store(world, 1, State.DELETED)
        await asyncio.sleep(200.0)
        assert held(world, record) == {N0: State.DELETED, N1: State.DELETED, N2: State.ARCHIVED}
        await world.start(N2)
        await until(lambda: held(world, record) == {})


def test_a_member_that_was_away_brings_no_deleted_message_back(simulate: Simulate) -> None:
    """Its fellow members have kept the tombstone for as long as it was away."""
    simulate(a_member_is_away())


def test_without_all_members_a_deleted_message_comes_back(simulate: Simulate) -> None:
    """The rule broken: those who are there drop the tombstone, and the one that was away has it archived."""

    with tombstone_dropped(), pytest.raises(Violation, match="dropped at n0, not yet at"):
        simulate(a_member_is_away())


def plain_accepts(envelope: Envelope) -> bool:
    """Match requests that a node accept a plain configuration."""
    return isinstance(envelope.body, ConfigAccept) and not envelope.body.items[0].config.joint


def test_while_joint_no_tombstone_goes(simulate: Simulate) -> None:
    """A hand-over to n3 does not come to an end (n0 alone has accepted that): everything is kept until it does."""

    async def story() -> None:
        async with aged() as world:
            await three(world)
            record = await deleted(world)
            endless = world.network.drop(plain_accepts)
            world.wishes[None, SLOT] = (N0, N1, N3)
            await world.start(N3)
            await asyncio.sleep(200.0)
            assert at(world, N1).startswith("J")
            assert held(world, record) == dict.fromkeys((N0, N1, N2, N3), State.DELETED)
            endless.remove()
            await until(lambda: at(world, N1).startswith("P"))
            await until(lambda: held(world, record) == {})

    simulate(story())


def test_a_member_whose_copy_differs_keeps_the_tombstone_everywhere(simulate: Simulate) -> None:
    """n1 says that it lacks the tombstone: nobody drops it until repair has brought it there."""

    def lacks(tx: Tx, ask: DropTombstones, before_ms: int) -> list[int]:
        return []

    async def story() -> None:
        async with aged() as world:
            await three(world)
            record = await deleted(world)
            with replaced(collect, "_agreed", lacks):
                await asyncio.sleep(200.0)
                assert held(world, record) == everywhere(State.DELETED)
            await until(lambda: held(world, record) == {})

    simulate(story())


# --- a node that was away --------------------------------------------------------------------------------------------


async def replaced_while_away(was_away: bool) -> None:
    """n2 is replaced while it is away; a message that it has archived is deleted, and that is forgotten.

    It also holds a message that only it has: the other that had acknowledged it is lost for good.
    """
    async with aged() as world:
        await three(world)
        await store(world, 1)
        record = await store(world, 1, State.ARCHIVED)
        await asyncio.sleep(1.0)
        await world.crash(N2)
        await world.start(N3)
        await asyncio.sleep(SETTINGS.replace_after + 2.0)
        await whole(world, 10.0)
        await store(world, 1, State.DELETED)
        await until(lambda: State.DELETED in held(world, record).values())
        await asyncio.sleep(160.0)
        assert held(world, record) == {N2: State.ARCHIVED}
        own = world.message(N0, "ann", 2)
        await world.disks[N2].transact(lambda tx: tx.merge([own]))
        await world.start(N2, was_away=was_away)
        await asyncio.sleep(5.0)
        assert held(world, record) == {}
        assert held(world, own) == dict.fromkeys((N0, N1, N3), State.PENDING)
        assert N2 not in world.disks


def test_a_node_that_was_replaced_brings_only_what_is_pending(simulate: Simulate) -> None:
    """What is archived there may have been deleted and forgotten; what is pending cannot. Then it is empty."""
    simulate(replaced_while_away(was_away=True))


def test_a_node_that_does_not_ask_brings_deleted_messages_back(simulate: Simulate) -> None:
    """The rule broken: it starts as after any restart."""
    with pytest.raises(Violation, match="came back after its tombstone was dropped"):
        simulate(replaced_while_away(was_away=False))


@pytest.mark.parametrize("seed", range(3))
def test_a_ring_that_slept_a_winter_long_wakes_up_with_all_it_had(simulate: Simulate, seed: int) -> None:
    """All nodes were away, so nothing was forgotten: they find that out from each other, and keep everything."""

    async def story() -> None:
        async with aged(slots=4) as world:
            await three(world)
            await world.start(N3)
            await asyncio.sleep(2.0)
            await whole(world, 10.0)
            for number in range(8):
                written = world.message(N0, f"user{number}", number, State.ARCHIVED)
                await world.append(N0, written)
            for uid in (N0, N1, N2, N3):
                await world.crash(uid)
            await asyncio.sleep(400.0)
            await asyncio.gather(*(world.start(uid, was_away=True) for uid in (N3, N1, N0, N2)))
            assert sorted(world.disks) == [N0, N1, N2, N3]
            await whole(world, 10.0)

    simulate(story(), seed)


def test_a_node_that_wakes_up_alone_waits(simulate: Simulate) -> None:
    """It cannot know whether the others went on: it takes no part and keeps what it has, until one of them is there."""

    async def story() -> None:
        async with aged() as world:
            await three(world)
            record = await store(world, 1, State.ARCHIVED)
            for uid in (N0, N1, N2):
                await world.crash(uid)
            waking = asyncio.ensure_future(world.start(N2, was_away=True))
            await asyncio.sleep(100.0)
            assert not waking.done()
            assert any("asks whether the ring went on" in line for line in world.log)
            await world.start(N1)
            await waking
            assert held(world, record) == everywhere(State.ARCHIVED)

    simulate(story())


def test_a_member_that_could_not_be_replaced_goes_on_as_it_is(simulate: Simulate) -> None:
    """There were only three nodes: the ring was awake, but its slots name n2 still, and nothing was forgotten."""

    async def story() -> None:
        async with aged() as world:
            await three(world)
            record = await store(world, 1, State.ARCHIVED)
            await world.crash(N2)
            await asyncio.sleep(1.0)
            await store(world, 1, State.DELETED)
            await asyncio.sleep(300.0)
            await world.start(N2, was_away=True)
            assert N2 in world.disks
            await until(lambda: held(world, record) == {})

    simulate(story())
