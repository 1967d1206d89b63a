"""The real hand-over loop, repair and strays: what the ring promises when nodes come, go and return."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
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
    held,
    hint,
    join,
    joint_accepts,
    move,
    settle,
    start,
    sync,
    until,
)  # fmt: skip
from tests.sim.walk import NAMES, whole
from tests.sim.wire import message
from tests.sim.world import SETTINGS, World

from coterie_protocol.identifiers import Uid
from coterie_protocol.registers import ConfigAccept

Simulate = Callable[..., Any]
SLOTS = 16
SEEDS = range(5)


async def ring(world: World, nodes: int = 5) -> None:
    """Found a ring of so many nodes, started at once, and wait until it is whole."""
    await asyncio.gather(*(world.start(Uid(f"n{number}"), found=not number) for number in range(nodes)))
    await whole(world, 10.0)


async def fill(world: World, since: int = 0) -> None:
    """Store an account operation and some messages for everyone, through any member of their slots."""
    for number, name in enumerate(NAMES, since):
        by = world.members_of(name)[number % world.replication_factor]
        await world.add(by, name, f"op{number}")
        for copy in range(3):
            await world.append(by, world.message(by, name, 10 * number + copy))


def decided(world: World) -> dict[int, str]:
    """Return each slot's newest decided configuration."""
    return {slot: drawn(history.newest()) for slot, history in world.witness.slots.items()}


@pytest.mark.parametrize("seed", SEEDS)
def test_five_nodes_at_once_become_a_ring(simulate: Simulate, seed: int) -> None:
    """From P1{founder} every slot goes straight to three members, within three seconds, and takes what it is given."""

    async def story() -> None:
        async with World(slots=SLOTS) as world:
            await ring(world)
            assert asyncio.get_running_loop().time() < 3.0
            assert all(config.startswith("P3") for config in decided(world).values())
            await fill(world)
            await whole(world, 5.0)

    simulate(story(), seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_join_moves_what_the_newcomer_is_to_hold(simulate: Simulate, seed: int) -> None:
    """A sixth node joins a ring in use: it takes over its slots with all that is in them, and only those change."""

    async def story() -> None:
        async with World(slots=SLOTS) as world:
            await ring(world)
            await fill(world)
            before = decided(world)
            await world.start(N5)
            await asyncio.sleep(1.0)
            await whole(world, 10.0)
            changed = {slot for slot, config in decided(world).items() if config != before[slot]}
            newcomers = {slot for slot, config in decided(world).items() if N5 in config}
            assert newcomers
            assert changed == newcomers
            await fill(world, 10)
            await whole(world, 5.0)

    simulate(story(), seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_return_in_time_moves_nothing(simulate: Simulate, seed: int) -> None:
    """A node is away for less than replace_after: no configuration changes, and it gets what it has missed."""

    async def story() -> None:
        async with World(slots=SLOTS) as world:
            await ring(world)
            await fill(world)
            before = decided(world)
            await world.crash(N1)
            await asyncio.sleep(1.5)
            for number, name in enumerate(NAMES, 50):
                by = next(uid for uid in world.members_of(name) if uid != N1)
                await world.add(by, name, f"op{number}")
                await world.append(by, world.message(by, name, 10 * number))
            await asyncio.sleep(SETTINGS.replace_after / 2)
            await world.start(N1)
            await asyncio.sleep(2.0)
            await whole(world, 10.0)
            assert decided(world) == before

    simulate(story(), seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_node_that_stays_away_is_replaced(simulate: Simulate, seed: int) -> None:
    """A node is lost with its disk, then another: after each, every slot is back on three live nodes."""

    async def story() -> None:
        async with World(slots=SLOTS) as world:
            await ring(world)
            await fill(world)
            for lost in (N2, N0):
                await world.lose_disk(Uid(lost))
                await asyncio.sleep(SETTINGS.replace_after)
                await whole(world, 10.0)
                await fill(world, 100 if lost == N2 else 200)
            await whole(world, 10.0)

    simulate(story(), seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_everything_survives_a_power_cut(simulate: Simulate, seed: int) -> None:
    """All nodes die at once, in the middle of operations, and start again: what was acknowledged is there."""

    async def story() -> None:
        async with World(slots=SLOTS) as world:
            await ring(world)
            await fill(world)
            busy = [asyncio.ensure_future(fill(world, 100 * number)) for number in range(1, 6)]
            await asyncio.sleep(0.03)
            for uid in sorted(world.processes):
                await world.crash(uid)
            await asyncio.gather(*busy, return_exceptions=True)
            for uid in sorted(world.disks):
                await world.start(uid)
            began = asyncio.get_running_loop().time()
            await asyncio.sleep(0.5)
            await fill(world, 1000)
            assert asyncio.get_running_loop().time() - began < 5.0
            await whole(world, 10.0)

    simulate(story(), seed)


def test_an_owner_that_missed_its_own_slot_hears_of_it(simulate: Simulate) -> None:
    """n3 is to own the slot, but is away while n0 and n2 decide that. When it is back, they tell it.

    Without that nobody would act for the slot: the others take n3 for the acting owner, and n3 knows of nothing.
    """

    async def story() -> None:
        async with World() as world:
            world.wishes[None, SLOT] = (N3, N0, N2)
            for uid in (N0, N2, N3):
                await world.start(uid, found=uid == N0)
            lost = [world.network.drop(joint_accepts(N3))]
            await until(lambda: at(world, N2) != "none")
            world.network.partition({N3}, {N0, N2})
            await until(lambda: at(world, N0).startswith("P3"))
            for tap in lost:
                tap.remove()
            world.network.heal()
            await whole(world, 5.0)
            assert await world.add(N3, "ann", "x") == b"x;"

    simulate(story())


def test_a_joint_configuration_nobody_chose_is_overtaken(simulate: Simulate) -> None:
    """The founder proposes {n1,n2,n3}, but only n1 hears; n0 learns of it, and then all three are gone for good.

    P1{n0} is untouched: n0 goes over to {n0,n4,n5}, although what it has heard of is a newer epoch.
    """

    async def story() -> None:
        async with World() as world:
            world.wishes[None, SLOT] = (N0,)
            await start(world, N0, N1, N2, N3)
            lost = [world.network.drop(joint_accepts(uid)) for uid in (N0, N2, N3)]
            assert await join(world, N0, N1, N2, N3) is None
            assert (at(world, N0), at(world, N1)) == ("P1{n0}", "J2{n0}>{n1,n2,n3}")
            hint(world, N0, N1)
            for uid in (N1, N2, N3):
                await world.lose_disk(uid)
            for tap in lost:
                tap.remove()
            await world.start(N4)
            await world.start(N5)
            world.wishes.clear()
            await whole(world, 15.0)

    simulate(story())


def test_a_lonely_joint_configuration_comes_to_light(simulate: Simulate) -> None:
    """A stray J4 that only n3 accepted: the members hear of it by gossip, carry it on, and follow the ring again.

    Until then n3, and whoever heard of it from n3, would hold back records for members that are none.
    """

    async def story() -> None:
        async with World() as world:
            for uid in (N0, N1, N2):
                await world.start(uid, found=uid == N0)
            await whole(world, 5.0)
            await world.start(N3)
            hint(world, N3, N0)
            world.wishes[None, SLOT] = world.suggested(N0, SLOT)
            await asyncio.sleep(0.2)
            lost = [world.network.drop(joint_accepts(uid)) for uid in (N0, N1, N2)]
            assert await join(world, N3, N3, N0, N1) is None
            assert at(world, N3).startswith("J4")
            for tap in lost:
                tap.remove()
            await world.append(N3, world.message(N3, "ann", 1))
            await until(lambda: at(world, N3).startswith("P"))
            await whole(world, 15.0)
            assert at(world, N3) == "P5{n3,n0,n1}"

    simulate(story())


def test_a_member_is_told_of_the_choice_that_it_missed_in_its_epoch(simulate: Simulate) -> None:
    """n0 accepts its own plain configuration, and nobody else does; while it is down the others choose another.

    Both are of one epoch. Unless it learns which was chosen, n0 has no vote in the slot's accounts from then on.
    """

    async def story() -> None:
        async with World(loops=False) as world:
            await start(world, N0, N1, N2)
            await move(world, N0, N0, N1, N2)
            joint = await join(world, N0, N1, N0, N2)
            assert joint is not None
            assert await sync(world, N0, joint)
            lost = world.network.drop(message(ConfigAccept, sender=N0))
            assert await settle(world, N0, joint) is None
            lost.remove()
            await world.crash(N0)
            assert await sync(world, N1, joint)
            chosen = await settle(world, N1, joint)
            assert chosen is not None
            await world.start(N0)
            assert held(world, N0).config.epoch == chosen.config.epoch
            assert held(world, N0).config != chosen.config
            world.wishes[None, SLOT] = chosen.config.new
            for process in world.processes.values():
                process.tasks.start(process.handover.run(), "hand-over")
            await until(lambda: held(world, N0).config == chosen.config)

    simulate(story())
