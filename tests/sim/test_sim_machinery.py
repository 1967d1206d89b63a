"""The simulation itself: virtual time, one order of events a seed, and the faults that it makes."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable
from typing import Any

import pytest
from tests.sim.invariants import Violation, Witness
from tests.sim.loop import Deadlock, run, sim_loop
from tests.sim.memory_store import MemoryStore
from tests.sim.steps import N0, N1, N2, SLOT, start
from tests.sim.walk import walk
from tests.sim.wire import message
from tests.sim.world import World

from coterie_protocol.errors import CoterieError, Unavailable
from coterie_protocol.registers import (
    ZERO,
    Ballot,
    Config,
    ConfigKnown,
    ConfigLearn,
    ConfigQuery,
    SlotRegister,
)

Simulate = Callable[..., Any]


def test_time_passes_only_for_timers(simulate: Simulate) -> None:
    async def story() -> float:
        await asyncio.gather(asyncio.sleep(3600), asyncio.sleep(1800))
        return sim_loop().time()

    assert simulate(story()) == pytest.approx(3600)


def test_waiting_for_nobody_is_a_deadlock(simulate: Simulate) -> None:
    async def story() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Deadlock):
        simulate(story())


def test_one_seed_is_one_story() -> None:
    def digest(seed: int) -> str:
        world = run(walk(30), seed)
        return hashlib.sha256(f"{world.log}{world.network.counts}{world.witness.story}".encode()).hexdigest()

    assert digest(7) == digest(7)
    assert digest(7) != digest(8)


def test_a_crash_forgets_what_was_not_synced(simulate: Simulate) -> None:
    async def story() -> None:
        disk = MemoryStore(random.Random(1))
        await disk.transact(lambda tx: tx.put_meta("one", b"1"))
        asyncio.ensure_future(disk.transact(lambda tx: tx.put_meta("two", b"2"))).cancel()
        late = asyncio.ensure_future(disk.transact(lambda tx: tx.put_meta("three", b"3")))
        await asyncio.sleep(0)
        disk.crash()
        with pytest.raises(asyncio.CancelledError):
            await late
        assert await disk.read(lambda tx: tx.meta("one")) == b"1"

    simulate(story())


def test_a_request_to_a_dead_node_ends_when_the_link_breaks(simulate: Simulate) -> None:
    async def story() -> None:
        async with World(loops=False) as world:
            await start(world, N0, N1)
            held = world.network.hold(message(ConfigQuery, to=N1))
            asking = asyncio.ensure_future(world.processes[N0].peers.request(N1, ConfigQuery([SLOT]), 30.0))
            await held.caught()
            before = sim_loop().time()
            await world.crash(N1)
            with pytest.raises(Unavailable):
                await asking
            assert sim_loop().time() - before < 0.1
            assert not world.processes[N0].peers.alive(N1)
            assert not world.processes[N0].peers.send(N1, ConfigLearn([]))

    simulate(story())


def test_silence_takes_longer_to_notice_and_works_one_way(simulate: Simulate) -> None:
    async def story() -> None:
        async with World(loops=False) as world:
            await start(world, N0, N1, N2)
            peers = {uid: process.peers for uid, process in world.processes.items()}
            world.network.cut(N1, N0)
            await asyncio.sleep(0.5)
            assert peers[N0].alive(N1)
            await asyncio.sleep(1.0)
            assert not peers[N0].alive(N1)
            assert peers[N0].down_since(N1) == pytest.approx(1.2, abs=0.1)
            assert peers[N1].alive(N0)
            assert peers[N2].alive(N1)
            world.network.heal()
            await asyncio.sleep(0.5)
            assert peers[N0].alive(N1)

    simulate(story())


def test_a_frozen_node_answers_when_it_thaws(simulate: Simulate) -> None:
    async def story() -> None:
        async with World(loops=False) as world:
            await start(world, N0, N1)
            world.network.freeze(N1)
            asking = asyncio.ensure_future(world.processes[N0].peers.request(N1, ConfigQuery([SLOT]), 5.0))
            await asyncio.sleep(0.5)
            assert not asking.done()
            world.network.thaw(N1)
            assert isinstance(await asking, ConfigKnown)

    simulate(story())


def test_what_a_dead_process_still_awaits_is_unknown(simulate: Simulate) -> None:
    async def story() -> None:
        async with World(replication_factor=1, loops=False) as world:
            await start(world, N0)
            adding = asyncio.ensure_future(world.add(N0, "ann", "x"))
            await asyncio.sleep(0.0001)
            await world.crash(N0)
            with pytest.raises(CoterieError):
                await adding

    simulate(story())


def test_the_witness_sees_what_goes_back() -> None:
    witness = Witness(3)
    one = Config(1, Ballot(1, "a"), (), (N0,))
    witness.slot_register(N0, SLOT, SlotRegister(Ballot(5, "a"), Ballot(1, "a"), one))
    with pytest.raises(Violation, match="the promise went back"):
        witness.slot_register(N0, SLOT, SlotRegister(Ballot(4, "a"), Ballot(1, "a"), one))
    with pytest.raises(Violation, match="accepted went back"):
        witness.slot_register(N0, SLOT, SlotRegister(Ballot(6, "a"), ZERO, None))
