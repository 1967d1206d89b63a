"""A sharper storm: few nodes, and messages of one kind to one node held back or lost while the others go on.

What the slot protocol forbids comes about, as a rule, when one kind of message misses one node for the length of a
hand-over: even chances for all messages hardly ever bring that about. So here the chances are uneven, and nothing else
is scripted. Members may be impatient or patient, names are many and rarely used, wishes like to bring back who was
removed, and at most one register is damaged at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import replace
from typing import Any

from tests.sim.invariants import Witness
from tests.sim.loop import sim_loop
from tests.sim.memory_store import MemoryStore
from tests.sim.steps import SLOT, gossip, hint
from tests.sim.storm import IMPATIENT
from tests.sim.wire import Weather, message
from tests.sim.world import Process, World

from coterie_protocol.errors import CoterieError
from coterie_protocol.identifiers import Uid
from coterie_protocol.registers import (
    AccountAccept,
    AccountList,
    AccountPrepare,
    ConfigAccept,
    ConfigLearn,
    ConfigPrepare,
    KnownConfig,
)
from coterie_protocol.replication import SyncState

PATIENT = replace(IMPATIENT, round_timeout=0.4, account_timeout=1.5)
KINDS: tuple[tuple[type, ...], ...] = (
    (AccountAccept,),
    (AccountPrepare,),
    (ConfigAccept,),
    (ConfigLearn,),
    (ConfigAccept, ConfigLearn),
    (ConfigPrepare,),
    (SyncState, AccountList),
)
"""What goes astray together."""


class Siege:
    """Hand-overs and changes at the same time, under messages that go astray."""

    def __init__(self, world: World, nodes: tuple[Uid, ...]) -> None:
        self._world = world
        self._nodes = nodes
        self._rng = sim_loop().rng
        self._work: set[asyncio.Task[None]] = set()
        self._operations = 0
        self._damaged: Uid | None = None

    async def run(self, steps: int) -> None:
        """Let so many things begin, most of them before the last has ended."""
        world, rng = self._world, self._rng
        for uid in self._nodes:
            await self._start(uid, found=uid == self._nodes[0])
            hint(world, uid, self._nodes[0])
        await asyncio.sleep(0.1)
        await self._propose(self._nodes[0], self._nodes[: rng.choice((1, 3, 3))])
        for _ in range(steps):
            what = rng.random()
            if what < 0.06:
                await self._trap()
            elif what < 0.09:
                await self._doubt()
            elif what < 0.12:
                await self._rivals()
            elif what < 0.13:
                await self._blackout()
            elif what < 0.27:
                self._begin(self._propose(self._somebody(), self._wish()))
            elif what < 0.60:
                self._operations += 1
                name = f"{rng.randrange(1 + self._operations // 2)}"
                self._begin(self._change(self._somebody(), name, str(self._operations)))
            elif what < 0.85:
                self._begin(self._astray())
            elif what < 0.90:
                await self._restart(rng.choice(self._nodes))
            elif what < 0.93:
                world.network.cut(rng.choice(self._nodes), rng.choice(self._nodes))
            elif what < 0.97:
                world.network.heal()
            else:
                self._tell(rng.choice(self._nodes))
            await asyncio.sleep(rng.choice((0.0, 0.002, 0.02, 0.1)) * rng.random())
        world.network.heal()
        while self._work:
            await asyncio.wait(set(self._work))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    async def _start(self, uid: Uid, found: bool = False) -> None:
        settings = PATIENT if self._rng.random() < 0.6 else IMPATIENT
        await self._world.start(uid, found=found, settings=settings)

    # --- who, and what is wished for ---

    def _members(self) -> tuple[Uid, ...]:
        newest = self._world.witness.slots[SLOT].newest()
        assert newest is not None
        return newest.config.members

    def _somebody(self) -> Uid:
        """Return a member, mostly."""
        return self._rng.choice(self._members() if self._rng.random() < 0.8 else self._nodes)

    def _wish(self) -> tuple[Uid, ...]:
        """Return new members: those who are none, mostly, so that much is handed over and many come back."""
        members = self._members()
        others = [uid for uid in self._nodes if uid not in members]
        rng = self._rng
        count = min(rng.choice((1, 1, 3)), len(self._nodes))
        pool = others if len(others) >= count and rng.random() < 0.7 else list(self._nodes)
        return tuple(rng.sample(pool, count))

    # --- what happens ---

    async def _pause(self) -> None:
        if self._rng.random() < 0.4:
            await asyncio.sleep(self._rng.random() * 0.1)

    async def _propose(self, uid: Uid, wish: tuple[Uid, ...]) -> None:
        process = self._world.processes[uid]
        with suppress(CoterieError):
            joints = list((await process.call(lambda: process.proposer.join({SLOT: wish}))).values())
            for _ in range(self._rng.randint(1, 3)):
                await self._pause()
                if await process.call(lambda: process.sync.run(joints)):
                    await self._pause()
                    await process.call(lambda: process.proposer.settle(joints))
                    return

    async def _change(self, uid: Uid, name: str, operation: str) -> None:
        with suppress(CoterieError):
            await self._world.add(uid, name, operation)

    async def _astray(self) -> None:
        """Hold back, or lose, one kind of message to one or two nodes for a while."""
        rng = self._rng
        targets = rng.sample(self._nodes, rng.choice((1, 1, 2)))
        matches = message(*rng.choice(KINDS), to=targets)
        held = rng.random() < 0.6
        tap = self._world.network.hold(matches) if held else self._world.network.drop(matches)
        await asyncio.sleep(rng.choice((0.02, 0.1, 0.3)) * (0.2 + rng.random()))
        tap.release()

    async def _trap(self) -> None:
        """Hand over while some members lag or are not heard, and let a change under the old members arrive late."""
        rng, network = self._rng, self._world.network
        members = self._members()
        writer = rng.choice(members)
        others = [uid for uid in members if uid != writer]
        taps = [network.hold(message(AccountAccept, sender=writer, to=others))]
        lagging = {uid for uid in members if rng.random() < 0.35}
        unheard = {uid for uid in members if rng.random() < 0.35}
        if len(others) > 1 and rng.random() < 0.4:
            lagging, unheard = {rng.choice(others)}, {writer}
        taps.append(network.drop(message(ConfigAccept, ConfigLearn, to=lagging)))
        taps.append(network.drop(message(SyncState, AccountList, to=unheard)))
        if others and rng.random() < 0.5:
            taps.insert(0, network.drop(message(AccountAccept, to=rng.choice(others))))
        self._operations += 1
        name = f"{rng.randrange(1 + self._operations)}" if rng.random() < 0.4 else f"new{self._operations}"
        self._begin(self._change(writer, name, str(self._operations)))
        await asyncio.sleep(0.02)
        process = self._world.processes[rng.choice((*others, writer, rng.choice(self._nodes)))]
        wish = self._wish()
        moment = rng.randrange(4)
        with suppress(CoterieError):
            joints: list[KnownConfig] = []
            for _ in range(3):
                joints = joints or list((await process.call(lambda: process.proposer.join({SLOT: wish}))).values())
            if moment == 0:
                taps.pop(0).release()
            synced = await process.call(lambda: process.sync.run(joints))
            if moment == 1:
                taps.pop(0).release()
                await self._pause()
            if synced:
                await process.call(lambda: process.proposer.settle(joints))
            if moment == 2:
                taps.pop(0).release()
                await self._pause()
        for tap in taps:
            tap.release()
        await asyncio.sleep(0.02)
        if rng.random() < 0.5:
            # Whoever wrote has been away, and comes back with what it has.
            self._operations += 1
            await self._change(rng.choice(self._members()), name, str(self._operations))
            await self._propose(rng.choice(self._members()), (writer,))
        self._begin(self._read(rng.choice(self._members()), name))

    async def _read(self, uid: Uid, name: str) -> None:
        with suppress(CoterieError):
            await self._world.read(uid, name)

    async def _rivals(self) -> None:
        """Let one proposer reach only its new members, a second one go elsewhere, and the first one try again."""
        rng, network = self._rng, self._world.network
        members = self._members()
        outside = [uid for uid in self._nodes if uid not in members]
        if not outside:
            return
        one, two = rng.choice(outside), rng.choice(self._nodes)
        process = self._world.processes[one]
        wish = (one, *rng.sample(outside, rng.randrange(len(outside))))
        wish = tuple(dict.fromkeys(wish))
        lost = network.drop(message(ConfigAccept, sender=one, to=set(members)))
        await self._propose(one, wish)
        lost.remove()
        away = network.drop(message(ConfigPrepare, ConfigAccept, ConfigLearn, sender=two, to=wish))
        other = self._world.processes[two]
        with suppress(CoterieError):
            for _ in range(2):
                await other.call(lambda: other.proposer.join({SLOT: self._wish()}))
        if rng.random() < 0.4:
            # It goes on without telling the old members, and the first one changes something under what it holds.
            untold = network.drop(message(ConfigLearn, to=members))
            await self._propose(two, self._wish())
            self._operations += 1
            await self._change(one, f"new{self._operations}", str(self._operations))
            untold.remove()
            self._begin(self._read(rng.choice(self._members()), f"new{self._operations}"))
        away.remove()
        unheard = network.drop(message(ConfigPrepare, sender=one, to=set(members)))
        with suppress(CoterieError):
            for _ in range(3):
                await process.call(lambda: process.proposer.confirm([SLOT]))
        unheard.remove()

    async def _blackout(self) -> None:
        """Cut everybody's power at once."""
        for uid in self._nodes:
            await self._world.crash(uid)
        for uid in self._nodes:
            await self._start(uid)
        for uid in self._nodes:
            self._tell(uid)

    async def _doubt(self) -> None:
        """Damage a register that has just promised a ballot to somebody who is slow, and go on at lower ballots."""
        rng, world = self._rng, self._world
        if len(self._members()) < 3:
            await self._propose(self._somebody(), tuple(rng.sample(self._nodes, 3)))
        newest = world.witness.slots[SLOT].newest()
        assert newest is not None
        members = newest.config.members
        outside = [world.processes[uid] for uid in self._nodes if uid not in members]
        if newest.config.joint or len(members) < 3 or not outside:
            return
        slow = max(outside, key=self._patience)
        if self._patience(slow) < PATIENT.round_timeout:
            await world.crash(slow.uid)
            outside.remove(slow)
            slow = await world.start(slow.uid, settings=PATIENT)
            outside.append(slow)
            await asyncio.sleep(0.06)
        fellow = min((world.processes[uid] for uid in members), key=self._patience)
        reached, late = rng.sample([uid for uid in members if uid != fellow.uid], 2)
        if not self._may_be_damaged(reached, world.witness):
            with suppress(CoterieError):
                await fellow.call(lambda: fellow.proposer.confirm([SLOT]))
        if not self._may_be_damaged(reached, world.witness):
            return
        others = [reached, *(one.uid for one in outside if one is not slow)]
        with suppress(CoterieError):
            for _ in range(2):
                await fellow.call(lambda: fellow.proposer.confirm([SLOT]))
        slow.table.learn([newest])
        slow.table.choose(newest)  # As it is told by whoever chose it.
        slow.proposer._counter = fellow.proposer._counter + rng.randrange(40)  # As after rounds that failed.
        lost = world.network.drop(message(ConfigPrepare, sender=slow.uid, to=fellow.uid))
        held = world.network.hold(message(ConfigPrepare, sender=slow.uid, to=late))
        self._begin(self._propose(slow.uid, self._wish()))
        await asyncio.sleep(0.02)
        await self._restart(reached, damaged=True)
        await asyncio.sleep(0.06)
        third = min((world.processes[uid] for uid in others), key=self._patience)
        away = world.network.drop(message(ConfigPrepare, ConfigAccept, sender=third.uid, to=late))
        with suppress(CoterieError):
            await fellow.call(lambda: fellow.proposer.confirm([SLOT]))
            for _ in range(2):
                await third.call(lambda: third.proposer.join({SLOT: self._wish()}))
        away.remove()
        held.release()
        lost.remove()

    @staticmethod
    def _patience(process: Process) -> float:
        return process.accounts._settings.round_timeout

    async def _restart(self, uid: Uid, damaged: bool = False) -> None:
        """Restart a node; it may find its register damaged, if it is one of three and the last such one is whole."""
        world, rng = self._world, self._rng
        await world.crash(uid)
        if (damaged or rng.random() < 0.3) and self._may_be_damaged(uid, world.witness):
            self._damaged = uid
            await world.damage(uid, SLOT)
        await self._start(uid)
        if rng.random() < 0.7:
            self._tell(uid)

    def _may_be_damaged(self, uid: Uid, witness: Witness) -> bool:
        whole = self._damaged is None or (self._damaged, SLOT) in witness.registers
        return whole and (uid, SLOT) in witness.registers and len(self._members()) >= 3

    def _tell(self, uid: Uid) -> None:
        gossip(self._world, uid, self._nodes, self._rng)


async def siege(steps: int = 120) -> World:
    """Lay siege in a random climate."""
    rng = sim_loop().rng
    weather = Weather(
        delay=(0.0001, rng.choice((0.001, 0.002, 0.01))),
        loss=rng.choice((0.0, 0.0, 0.02)),
        duplication=rng.choice((0.0, 0.1)),
        late=rng.choice((0.0, 0.05)),
        fifo=False,
    )
    nodes = tuple(Uid(f"n{number}") for number in range(rng.choice((4, 4, 5, 6))))
    async with World(replication_factor=1, loops=False, weather=weather, settings=IMPATIENT) as world:
        slowest = rng.choice((0.003, 0.003, 0.01))
        world.disks |= {uid: MemoryStore(rng, (0.0005, slowest)) for uid in nodes}
        await Siege(world, nodes).run(steps)
        return world
