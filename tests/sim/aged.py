"""Short lives: messages are sent, archived and deleted while nodes go away and come back, and tombstones go in seconds.

Whoever was away holds what the others have deleted. It must not come back.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from tests.sim.loop import sim_loop
from tests.sim.walk import SETTINGS, whole
from tests.sim.wire import Weather
from tests.sim.world import World

from coterie_protocol.errors import CoterieError
from coterie_protocol.identifiers import Uid
from coterie_protocol.records import State

NODES = tuple(Uid(f"n{number}") for number in range(3))
SHORT = replace(
    SETTINGS, replace_after=30.0, message_ttl=1000.0, tombstone_ttl=5.0, clock_interval=0.5, ageing_interval=0.5
)
"""A tombstone lives longer than a message is under way, and nobody is replaced meanwhile."""


async def _life(world: World, number: int) -> None:
    """Send, archive and delete a message, each until it is acknowledged."""
    rng = sim_loop().rng
    for state in (State.PENDING, State.ARCHIVED, State.DELETED):
        while True:
            try:
                uid = rng.choice(sorted(world.processes))
                await world.append(uid, world.message(uid, "ann", number, state))
                break
            except CoterieError:
                await asyncio.sleep(0.1)
        await asyncio.sleep(rng.random() * 2)


async def aged(steps: int = 40) -> World:
    """Let messages live and nodes go away; in the end everything is where it belongs, or gone."""
    rng = sim_loop().rng
    weather = Weather(delay=(0.0001, 0.01), loss=rng.choice((0.0, 0.02)), duplication=0.05, late=0.02, fifo=False)
    async with World(weather=weather, settings=SHORT) as world:
        for uid in NODES:
            await world.start(uid, found=uid == NODES[0])
        await whole(world, 60.0)
        lives = []
        for number in range(steps):
            what = rng.random()
            away = sorted(set(NODES) - set(world.processes))
            if what < 0.5:
                lives.append(asyncio.ensure_future(_life(world, number)))
            elif what < 0.7 and not away:
                await world.crash(rng.choice(NODES))
            elif what < 0.8 and away:
                await world.start(away[0])
            elif what < 0.9:
                world.network.cut(*rng.sample(NODES, 2))
            else:
                world.network.heal()
            await asyncio.sleep(rng.random() * 2)
        world.network.heal()
        for uid in sorted(set(NODES) - set(world.processes)):
            await world.start(uid)
        await asyncio.gather(*lives)
        await asyncio.sleep(3 * SHORT.tombstone_ttl)
        await whole(world, 60.0)
        return world
