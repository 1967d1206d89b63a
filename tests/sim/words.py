"""Clients of bare replication: they add words to accounts and store messages, each repeated until it is acknowledged.

The witness checks every value that a proposer returns; `verdict` reads all accounts at the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from tests.sim.loop import sim_loop
from tests.sim.world import World

from coterie_protocol.errors import CoterieError
from coterie_protocol.identifiers import Uid
from coterie_protocol.records import State

Up = Callable[[str], Uid | None]
"""Finds a node that runs."""


class Words:
    """What clients have asked for, and what was acknowledged."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = sim_loop().rng
        self._names: set[str] = set()
        self._acknowledged: list[tuple[str, bytes]] = []
        self.attempted = 0
        self.stored = 0

    async def change(self, name: str, operation: str, where: Sequence[str], up: Up) -> None:
        """Add a word to an account, once, at one node after the other."""
        self._names.add(name)
        for one in where:
            uid = up(one)
            if uid is None:
                return
            self.attempted += 1
            try:
                await self._world.add(uid, name, operation)
            except CoterieError:
                await asyncio.sleep(self._rng.random() * 0.2)
            else:
                self._acknowledged.append((name, operation.encode()))
                return

    async def append(self, owner: str, number: int, state: str, where: Sequence[str], up: Up) -> None:
        """Store a version of a message."""
        world = self._world
        for one in where:
            uid = up(one)
            if uid is None:
                return
            try:
                copies = await world.append(uid, world.message(uid, owner, number, State[state.upper()]))
            except CoterieError:
                await asyncio.sleep(self._rng.random() * 0.2)
            else:
                assert copies >= world.witness.majority()
                self.stored += 1
                return

    async def verdict(self) -> None:
        """Read all accounts: what was acknowledged is there, and once."""
        for name in sorted(self._names):
            value = await self._last(name)
            operations = value.split(b";")[:-1]
            assert len(set(operations)) == len(operations), f"{name}: an operation happened twice: {value!r}"
            for of, operation in self._acknowledged:
                assert of != name or operation in operations, f"{name}: {operation!r} is missing in {value!r}"

    async def _last(self, name: str) -> bytes:
        for _ in range(50):
            for uid in sorted(self._world.processes):
                try:
                    return await self._world.read(uid, name)
                except CoterieError:
                    continue
            await asyncio.sleep(0.2)
        raise AssertionError(f"{name} cannot be read")
