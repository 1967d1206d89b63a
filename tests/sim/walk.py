"""One random walk: everything that can go wrong does, in an order that the seed decides, and then the storm ends.

The witness checks every step. Afterwards the world must become whole by itself, with everything acknowledged in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from tests.sim.invariants import Violation
from tests.sim.loop import sim_loop
from tests.sim.network import Weather
from tests.sim.world import World

from coterie_node.replication.settings import ReplicationSettings
from coterie_protocol.errors import CoterieError
from coterie_protocol.identifiers import Uid
from coterie_protocol.records import State

SETTINGS = ReplicationSettings(
    round_timeout=0.5,
    account_timeout=2.0,
    settle=0.2,
    confirm_after=0.5,
    gossip_interval=1.0,
    replace_after=2.0,
    append_timeout=2.0,
    standin_after=0.3,
    repair_interval=2.0,
    settled_ms=500,
    offer_retry=0.5,
)
NAMES = ("ann", "bob", "eve", "zoë")


class Walk:
    """A storm over a world of some seven nodes."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = sim_loop().rng
        self._work: set[asyncio.Task[None]] = set()
        self._operations = 0
        self._messages = 0
        self._born = 0
        self.acknowledged: list[tuple[str, bytes]] = []
        self.attempted = 0
        self.stored = 0

    async def run(self, steps: int) -> None:
        """Form a ring, walk so many steps, then end the storm and check."""
        await self._birth(found=True)
        for _ in range(self._world.replication_factor + self._rng.randint(0, 2)):
            await self._birth()
        await asyncio.sleep(self._rng.uniform(0.0, 3.0))
        actions: list[tuple[Callable[[], Coroutine[Any, Any, None]], int]] = [
            (self._operate, 8),
            (self._write, 10),
            (self._advance, 3),
            (self._crash, 3),
            (self._restart, 4),
            (self._lose_disk, 1),
            (self._divide, 2),
            (self._heal, 3),
            (self._freeze, 1),
            (self._spoil_disk, 1),
            (self._mislead, 3),
            (self._lead_right, 2),
            (self._meddle, 3),
        ]
        for _ in range(steps):
            (action,) = self._rng.choices([one for one, _ in actions], [weight for _, weight in actions])
            await action()
            await asyncio.sleep(self._rng.choice((0.0, 0.001, 0.01, 0.1, 0.5)) * self._rng.random() * 2)
        await self._calm()

    def _some(self) -> Uid:
        return self._rng.choice(sorted(self._world.processes))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    # --- what happens ---

    async def _birth(self, found: bool = False) -> None:
        uid = Uid(f"n{self._born}")
        self._born += 1
        await self._world.start(uid, found=found)

    async def _operate(self) -> None:
        self._operations += 1
        self._begin(self._change(self._rng.choice(NAMES), f"{self._operations}"))

    async def _change(self, name: str, operation: str) -> None:
        """A client that tries again, at any node, with the same operation id."""
        for _ in range(self._rng.randint(1, 6)):
            if not self._world.processes:
                return
            self.attempted += 1
            try:
                await self._world.add(self._some(), name, operation)
            except CoterieError:
                await asyncio.sleep(self._rng.random() * 0.2)
            else:
                self.acknowledged.append((name, operation.encode()))
                return

    async def _write(self) -> None:
        """Send some messages, each tried again at any node until it is acknowledged or given up."""
        for _ in range(self._rng.randint(1, 3)):
            self._messages += 1
            self._begin(self._send(NAMES[self._messages % len(NAMES)], self._messages, State.PENDING))

    async def _advance(self) -> None:
        """Archive, expire or delete a message, whether or not it has arrived."""
        if self._messages:
            number = self._rng.randint(1, self._messages)
            state = self._rng.choice((State.ARCHIVED, State.DELETED, State.EXPIRED))
            self._begin(self._send(NAMES[number % len(NAMES)], number, state))

    async def _send(self, owner: str, number: int, state: State) -> None:
        world = self._world
        for _ in range(self._rng.randint(1, 4)):
            if not world.processes:
                return
            uid = self._some()
            try:
                copies = await world.append(uid, world.message(uid, owner, number, state))
            except CoterieError:
                await asyncio.sleep(self._rng.random() * 0.2)
            else:
                assert copies >= world.witness.majority()
                self.stored += 1
                return

    async def _crash(self) -> None:
        if len(self._world.processes) > 1:
            await self._world.crash(self._some())

    async def _restart(self) -> None:
        down = sorted(set(self._world.disks) - set(self._world.processes))
        if down:
            await self._world.start(self._rng.choice(down))

    async def _lose_disk(self) -> None:
        """Lose one for good: the next only when the ring has repaired itself, as promised."""
        if self._quiet():
            await self._world.lose_disk(self._rng.choice(sorted(self._world.disks)))
            await self._birth()

    async def _spoil_disk(self) -> None:
        """Let a disk be full for a while, or the next fsync fail."""
        disk = self._world.disks[self._rng.choice(sorted(self._world.disks))]
        if self._rng.random() < 0.5:
            disk.failing_syncs = 1
            return
        disk.full = True

        async def make_room() -> None:
            await asyncio.sleep(self._rng.random() * 2)
            disk.full = False

        self._begin(make_room())

    def _quiet(self) -> bool:
        try:
            self._world.witness.quiescent(self._world.slots, set(self._world.disks), strict=False)
        except Violation:
            return False
        return True

    async def _divide(self) -> None:
        nodes = sorted(self._world.positions)
        if self._rng.random() < 0.5:
            self._world.network.cut(self._rng.choice(nodes), self._rng.choice(nodes))
        else:
            side = set(self._rng.sample(nodes, self._rng.randint(1, len(nodes) - 1)))
            self._world.network.partition(side, set(nodes) - side)

    async def _heal(self) -> None:
        self._world.network.heal()

    async def _freeze(self) -> None:
        uid = self._some()
        self._world.network.freeze(uid)

        async def thaw() -> None:
            await asyncio.sleep(self._rng.random() * 3)
            self._world.network.thaw(uid)

        self._begin(thaw())

    async def _mislead(self) -> None:
        """Let the ring suggest anybody, to one node or to all."""
        slot = self._rng.randrange(self._world.slots)
        who = self._rng.choice((None, self._some()))
        nodes = sorted(self._world.positions)
        self._world.wishes[who, slot] = tuple(self._rng.sample(nodes, min(len(nodes), self._rng.randint(1, 4))))

    async def _lead_right(self) -> None:
        self._world.wishes.clear()

    async def _meddle(self) -> None:
        """Let any node, member or not, propose what it likes."""
        process = self._world.processes[self._some()]
        slot = self._rng.randrange(self._world.slots)
        nodes = sorted(self._world.positions)
        wish = tuple(self._rng.sample(nodes, min(len(nodes), 3)))
        rounds = self._rng.choice(("confirm", "join", "carry"))

        async def meddle() -> None:
            try:
                if rounds == "confirm":
                    await process.call(lambda: process.proposer.confirm([slot]))
                    return
                joints = await process.call(lambda: process.proposer.join({slot: wish}))
                if rounds == "carry":
                    synced = await process.call(lambda: process.sync.run(list(joints.values())))
                    await process.call(lambda: process.proposer.settle(synced))
            except CoterieError:
                pass

        self._begin(meddle())

    # --- the end of the storm ---

    async def _calm(self) -> None:
        world = self._world
        world.network.weather = Weather()
        world.network.heal()
        world.wishes.clear()
        for uid in sorted(world.positions):
            if world.network.frozen(uid):
                world.network.thaw(uid)
        for uid in sorted(set(world.disks) - set(world.processes)):
            await world.start(uid)
        for disk in world.disks.values():
            disk.failing_syncs = 0
        while self._work:
            await asyncio.wait(set(self._work))
        await whole(world, 90.0)
        for name in NAMES:
            value = await self._last(name)
            operations = value.split(b";")[:-1]
            assert len(set(operations)) == len(operations), f"{name}: an operation happened twice: {value!r}"
            for of, operation in self.acknowledged:
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


async def whole(world: World, seconds: float) -> float:
    """Wait until every slot is whole and everything is where it belongs; return how long that took.

    Raises the Violation that still holds when the time is over.
    """
    begun = sim_loop().time()
    while True:
        try:
            strict = sim_loop().time() - begun > seconds
            world.witness.quiescent(world.slots, world.live(), strict=strict)
            holding = {uid: left for uid, one in world.processes.items() if (left := one.strays.remaining()) != (0, 0)}
            assert not strict or not holding, f"still held for others: {holding}"
            if not holding:
                return sim_loop().time() - begun
        except Violation:
            if world.witness.broken is not None:
                raise
        await asyncio.sleep(0.25)


async def walk(steps: int = 60) -> World:
    """Take a random walk in a random climate."""
    rng = sim_loop().rng
    weather = Weather(
        delay=(0.0001, rng.choice((0.001, 0.01, 0.1))),
        loss=rng.choice((0.0, 0.02, 0.15)),
        duplication=rng.choice((0.0, 0.05, 0.2)),
        late=rng.choice((0.0, 0.02, 0.1)),
        fifo=rng.random() < 0.3,
    )
    async with World(
        replication_factor=rng.choice((3, 3, 3, 5)),
        slots=rng.choice((1, 2, 4)),
        weather=weather,
        settings=SETTINGS,
        skew_ms=rng.choice((0, 0, 3000)),
    ) as world:
        await Walk(world).run(steps)
        return world
