"""A storm of proposers over one slot: small configurations, wishes that share no member, everything at the same time.

Only safety is at stake, so nothing has to become whole afterwards. It finds what a walk's orderly hand-overs hide.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import replace
from typing import Any

from tests.sim.loop import sim_loop
from tests.sim.steps import SLOT, gossip, hint
from tests.sim.walk import SETTINGS
from tests.sim.wire import Weather
from tests.sim.world import World

from coterie_protocol.errors import CoterieError
from coterie_protocol.identifiers import Uid

IMPATIENT = replace(SETTINGS, round_timeout=0.03, account_timeout=0.3, sync_attempts=2)
NODES = tuple(Uid(f"n{number}") for number in range(6))
NAMES = ("ann", "bob")


class Storm:
    """Proposers that know nothing of each other."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = sim_loop().rng
        self._work: set[asyncio.Task[None]] = set()
        self._operations = 0

    async def run(self, steps: int) -> None:
        """Let so many things begin, most of them before the last has ended."""
        world, rng = self._world, self._rng
        for uid in NODES:
            await world.start(uid, found=uid == NODES[0])
            hint(world, uid, NODES[0])
        await asyncio.sleep(0.1)
        for _ in range(steps):
            what = rng.random()
            uid = rng.choice(sorted(world.processes))
            if what < 0.35:
                self._begin(self._propose(uid))
            elif what < 0.70:
                self._operations += 1
                self._begin(self._change(uid, rng.choice(NAMES), str(self._operations)))
            elif what < 0.76:
                await world.restart(uid)
            elif what < 0.82:
                world.network.cut(uid, rng.choice(NODES))
            elif what < 0.90:
                world.network.heal()
            else:
                self._begin(self._tell(uid))
            await asyncio.sleep(rng.choice((0.0, 0.002, 0.01, 0.05)) * rng.random())
        while self._work:
            await asyncio.wait(set(self._work))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    async def _pause(self) -> None:
        if self._rng.random() < 0.5:
            await asyncio.sleep(self._rng.random() * 0.1)

    async def _propose(self, uid: Uid) -> None:
        """Carry a hand-over as far as it goes, with pauses in which others can come between."""
        process = self._world.processes[uid]
        wish = tuple(self._rng.sample(NODES, self._rng.choice((1, 1, 2, 3))))
        try:
            joints = await process.call(lambda: process.proposer.join({SLOT: wish}))
            await self._pause()
            synced = await process.call(lambda: process.sync.run(list(joints.values())))
            await self._pause()
            await process.call(lambda: process.proposer.settle(synced))
        except CoterieError:
            pass

    async def _change(self, uid: Uid, name: str, operation: str) -> None:
        with suppress(CoterieError):
            await self._world.add(uid, name, operation)

    async def _tell(self, uid: Uid) -> None:
        gossip(self._world, uid, NODES, self._rng)


async def storm(steps: int = 120) -> World:
    """Let a storm loose in a random climate."""
    rng = sim_loop().rng
    weather = Weather(
        delay=(0.0001, rng.choice((0.002, 0.01, 0.03))),
        loss=rng.choice((0.0, 0.05, 0.2)),
        duplication=rng.choice((0.0, 0.1)),
        late=rng.choice((0.0, 0.05)),
        fifo=False,
    )
    async with World(replication_factor=1, loops=False, weather=weather, settings=IMPATIENT) as world:
        await Storm(world).run(steps)
        return world
