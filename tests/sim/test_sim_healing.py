"""Registers damaged on one member's disk: whole again within seconds, and counted as under-replicated meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from tests.sim.loop import sim_loop
from tests.sim.steps import N0, N1, N2, until
from tests.sim.walk import NAMES, whole
from tests.sim.world import World

from coterie_node.runtime.ports import RegisterDamaged
from coterie_protocol.identifiers import Uid, slot_of_name

Simulate = Callable[..., Any]
SLOTS = 4
SEEDS = range(5)
THREE = (N0, N1, N2)


async def ring(world: World) -> None:
    """Found a ring of three nodes and store an operation of everyone's."""
    await asyncio.gather(*(world.start(uid, found=uid == N0) for uid in THREE))
    await whole(world, 10.0)
    for number, name in enumerate(NAMES):
        await world.add(N0, name, f"op{number}")
    await asyncio.sleep(1.0)


async def sound(world: World, uid: Uid, slot: int, name: str) -> bool:
    """Say whether a slot's register and one of its accounts are readable on a node's disk."""
    try:
        return await world.disks[uid].read(lambda tx: tx.slot_register(slot) and tx.account(slot, name)) is not None
    except RegisterDamaged:
        return False


async def heals(world: World, uid: Uid, slot: int, name: str) -> None:
    """Wait until a node has mended itself; it must know of its trouble before, and of none after."""
    assert not await sound(world, uid, slot, name)
    repair, seen = world.processes[uid].repair, set[bool]()

    def look() -> None:
        seen.add(slot in repair.under_replicated())

    sim_loop().after_step.append(look)  # It may be over within milliseconds.
    begun = sim_loop().time()
    while not await sound(world, uid, slot, name):
        await asyncio.sleep(0.1)
        assert sim_loop().time() - begun < 5.0
    await until(lambda: slot not in repair.under_replicated())
    sim_loop().after_step.remove(look)
    assert True in seen


@pytest.mark.parametrize("uid", THREE)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_damaged_configuration_heals_by_itself(simulate: Simulate, seed: int, uid: Uid) -> None:
    """A node's register of a slot fails its checksum after a restart; nobody proposes anything. It asks for a round."""

    async def story() -> None:
        async with World(slots=SLOTS) as world:
            await ring(world)
            slot = slot_of_name("ann", SLOTS)
            await world.crash(uid)
            world.disks[uid].damage_register(slot)
            del world.witness.registers[uid, slot]
            await world.start(uid)
            await heals(world, uid, slot, "ann")
            # Whole again: it votes, so that another may be away.
            await world.crash(next(other for other in THREE if other != uid))
            await asyncio.sleep(2.0)
            assert await world.add(uid, "ann", "after") == b"op0;after;"

    simulate(story(), seed)


@pytest.mark.parametrize("uid", THREE)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_damaged_account_heals_by_itself(simulate: Simulate, seed: int, uid: Uid) -> None:
    """An account that nobody asks for is damaged on a running node's disk."""

    async def story() -> None:
        async with World(slots=SLOTS) as world:
            await ring(world)
            slot = slot_of_name("ann", SLOTS)
            world.disks[uid].damage_account(slot, "ann")
            await heals(world, uid, slot, "ann")
            await world.crash(next(other for other in THREE if other != uid))
            await asyncio.sleep(2.0)
            assert await world.read(uid, "ann") == b"op0;"

    simulate(story(), seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_an_account_that_was_only_promised_heals_too(simulate: Simulate, seed: int) -> None:
    """The damaged row held a promise and no value: the round writes that there is none."""

    async def story() -> None:
        async with World(slots=SLOTS) as world:
            await ring(world)
            slot = slot_of_name("ann", SLOTS)
            process = world.processes[N0]
            config = process.table.known(slot)
            assert config is not None
            await process.call(lambda: process.accounts._prepare(config, ["nobody"]))
            await asyncio.sleep(0.5)  # A quorum is enough for that round: let the third one's promise be written, too.
            world.disks[N1].damage_account(slot, "nobody")
            await heals(world, N1, slot, "nobody")
            assert await world.read(N2, "nobody") == b""

    simulate(story(), seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_without_a_quorum_it_stays_damaged_and_says_so(simulate: Simulate, seed: int) -> None:
    """With one of the two others away there is no quorum but the damaged one's: it must not vote itself whole."""

    async def story() -> None:
        async with World(slots=SLOTS) as world:
            await ring(world)
            slot = slot_of_name("ann", SLOTS)
            await world.crash(N2)
            world.disks[N1].damage_account(slot, "ann")
            await asyncio.sleep(5.0)
            assert not await sound(world, N1, slot, "ann")
            assert slot in world.processes[N1].repair.under_replicated()
            await world.start(N2)
            await asyncio.sleep(5.0)
            assert await sound(world, N1, slot, "ann")

    simulate(story(), seed)
