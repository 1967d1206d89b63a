"""Performs plans and scenario files: each line is one step in a world of simulated nodes, and of people.

start 5               so many new nodes, the first of all as the founder; `start n2`: on what its disk holds
tick 2s               time passes
whole 30s             the world becomes whole by itself within that time
crash n2, crash n2 torn   a process dies; `torn`: in the middle of a write, which is gone
lose n2               a node is lost for good, with its disk
replace n2            the same, but only if everything is whole, as promised; and a new node joins
partition n1 n2 | n3  the network falls apart; `cut n1 n2`: what n1 sends to n2 is lost; `heal` mends it
freeze n2, thaw n2    a process stands still, and goes on; `freeze n2 3s`: for so long
disk n3 full          or `slow`, `failing` (the next fsync) or `fine`; `disk n3 full 2s`: for so long
flip n3 record 7      a bit flips in a record that n3 holds, when all is whole; or in the `register` of a slot
check n3              all bodies on a disk are read
clock n2 +30s         a wall clock jumps; `clock n2 drift 0.01` gains 10 ms a second, `rate 1.01` runs fast, sleep too
weather loss 0.1      as the option; `weather fair`
suggest n1 0 n2 n3    n1's ring suggests these for slot 0; `suggest all 0 n2 n3`; `suggest right`
propose n1 0 carry n2 n3  n1 proposes these for slot 0 (`join`: only begins it), or `confirm`s what is there
calm                  all faults end, all nodes run, and nothing is under way; at the end of each walk, with all checks

With people:
register ann n1       ann asks a node for her name; without one, any node
login ann n2          she logs in on a new device; `roam ann n3`: she goes to another node
send ann bob 3        ann writes three messages to bob
read ann n2           a node reads her account
settled 30s           everybody has sent, received and archived everything within that time

With bare replication:
change ann 7 n1 n2    a client adds word 7 to an account, and tries again at these nodes
append ann 7 pending n1   a client stores a version of a message in the same way

A step that makes no sense when it comes, such as a crash of what has crashed, does nothing: so a plan can be cut. Who
is asked and does not run is replaced by the next who does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from tests.sim.chatting import ChatWorld
from tests.sim.clocks import Clockwork
from tests.sim.invariants import Violation
from tests.sim.loop import run, sim_loop
from tests.sim.people import People
from tests.sim.plan import Plan, seconds, weather
from tests.sim.settling import SETTINGS, whole
from tests.sim.wire import Weather
from tests.sim.words import Words
from tests.sim.world import Process, World

from coterie_protocol.errors import CoterieError
from coterie_protocol.identifiers import Uid

SLOW = (0.1, 0.6)
"""Seconds that an fsync takes on a slow disk."""
FSYNC = (0.0005, 0.003)
PATIENCE = 90.0
"""Seconds in which a world must become whole after all faults have ended, and people must be done after that."""


class Stage:
    """A world in which steps are performed."""

    def __init__(self, world: World, people: People | None) -> None:
        self.world = world
        self.people = people
        self.words = Words(world)
        self._born = 0
        self._work: set[asyncio.Task[None]] = set()
        self._verbs: dict[str, Callable[..., Awaitable[None]]] = {
            "start": self._start,
            "tick": self._tick,
            "whole": self._whole,
            "crash": self._crash,
            "lose": self._lose,
            "replace": self._replace,
            "partition": self._partition,
            "cut": self._cut,
            "heal": self._heal,
            "freeze": self._freeze,
            "thaw": self._thaw,
            "disk": self._disk,
            "flip": self._flip,
            "check": self._check,
            "clock": self._clock,
            "weather": self._weather,
            "suggest": self._suggest,
            "propose": self._propose,
            "calm": self.calm,
            "settled": self._settled,
            "register": self._register,
            "login": self._login,
            "roam": self._roam,
            "send": self._send,
            "read": self._read,
            "change": self._change,
            "append": self._append,
        }

    async def perform(self, step: str) -> None:
        """Take one step. Raises ValueError for one that does not exist."""
        verb, *words = step.split()
        if verb not in self._verbs:
            raise ValueError(f"no such step: {step}")
        await self._verbs[verb](*words)

    def begin(self, work: Coroutine[object, object, None]) -> None:
        """Begin something that may last beyond the step."""
        task = asyncio.ensure_future(work)
        self._work.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._work.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.world.failed(error)

    def up(self, name: str) -> Uid | None:
        """Return a node that runs: this one, or else the next by name; None if none does."""
        running = sorted(self.world.processes)
        return next((uid for uid in running if uid >= name), running[0] if running else None)

    async def _later(self, after: str, action: Callable[[], None]) -> None:
        await asyncio.sleep(seconds(after))
        action()

    # --- time and nodes ---

    async def _tick(self, time: str) -> None:
        await asyncio.sleep(seconds(time))

    async def _start(self, who: str) -> None:
        if not who.isdecimal():
            if who in self.world.disks and who not in self.world.processes:
                await self.world.start(Uid(who))
            return
        for _ in range(int(who)):
            self._born += 1
            await self.world.start(Uid(f"n{self._born}"), found=self._born == 1)

    async def _whole(self, time: str) -> None:
        await whole(self.world, seconds(time))

    async def _crash(self, who: str, how: str = "") -> None:
        if who in self.world.processes:
            await self.world.crash(Uid(who), torn=True if how == "torn" else None)

    async def _lose(self, who: str) -> None:
        if who in self.world.disks:
            await self.world.lose_disk(Uid(who))

    async def _replace(self, who: str) -> None:
        if who in self.world.disks and self.is_whole():
            await self.world.lose_disk(Uid(who))
            await self._start("1")

    def is_whole(self) -> bool:
        """Say whether everything is where it belongs, on the disks of all nodes, running or not."""
        try:
            self.world.witness.quiescent(self.world.slots, set(self.world.disks), strict=False)
        except Violation:
            return False
        return True

    # --- the network ---

    async def _partition(self, *words: str) -> None:
        sides = " ".join(words).split("|")
        self.world.network.partition(*([Uid(name) for name in side.split()] for side in sides))

    async def _cut(self, sender: str, to: str) -> None:
        self.world.network.cut(Uid(sender), Uid(to))

    async def _heal(self) -> None:
        self.world.network.heal()

    async def _weather(self, *words: str) -> None:
        self.world.network.weather = replace(weather(list(words)), streams=self.people is not None)

    async def _freeze(self, who: str, time: str = "") -> None:
        if who not in self.world.processes:
            return
        self.world.network.freeze(Uid(who))
        if time:
            self.begin(self._later(time, lambda: self.world.network.thaw(Uid(who))))

    async def _thaw(self, who: str) -> None:
        if self.world.network.frozen(Uid(who)):
            self.world.network.thaw(Uid(who))

    # --- disks and clocks ---

    async def _disk(self, who: str, state: str, time: str = "") -> None:
        disk = self.world.disks.get(Uid(who))
        if disk is None:
            return

        def fine() -> None:
            disk.full, disk.failing_syncs, disk.fsync = False, 0, FSYNC

        if state == "full":
            disk.full = True
        elif state == "failing":
            disk.failing_syncs = 1
        elif state == "slow":
            disk.fsync = SLOW
        elif state == "fine":
            fine()
        else:
            raise ValueError(f"no such state of a disk: {state}")
        if time:
            self.begin(self._later(time, fine))

    async def _flip(self, who: str, what: str, number: str) -> None:
        world, uid = self.world, Uid(who)
        if uid not in world.disks or not self.is_whole():
            return
        if what == "record":
            promised = sorted(key for key in world.witness.promised if uid in world.witness.copies.get(key, {}))
            if promised:
                world.damage_record(uid, promised[int(number) % len(promised)])
        elif (uid, slot := int(number) % world.slots) in world.witness.registers:
            if uid in world.processes:
                await world.crash(uid)
            await world.damage(uid, slot)
            await world.start(uid)

    async def _check(self, who: str) -> None:
        if who in self.world.disks:
            self.world.disks[Uid(who)].check()

    async def _clock(self, who: str, what: str, value: str = "") -> None:
        clockwork = self.world.clockworks.setdefault(Uid(who), Clockwork())
        if what == "drift":
            # What is true until now stays: only from here on it goes another way.
            passed_ms = sim_loop().time() * 1000
            clockwork.offset_ms += int(passed_ms * (clockwork.drift - float(value)))
            clockwork.drift = float(value)
        elif what == "rate":
            clockwork.rate = float(value)
        else:
            clockwork.offset_ms += int(seconds(what) * 1000)

    # --- the ring's suggestions ---

    async def _suggest(self, who: str, slot: str = "", *wish: str) -> None:
        if who == "right":
            self.world.wishes.clear()
            return
        node = None if who == "all" else Uid(who)
        if nodes := self._existing(wish):
            self.world.wishes[node, int(slot) % self.world.slots] = nodes

    async def _propose(self, who: str, slot: str, how: str, *wish: str) -> None:
        if (uid := self.up(who)) is not None:
            process, number = self.world.processes[uid], int(slot) % self.world.slots
            if (nodes := self._existing(wish)) or how == "confirm":
                self.begin(self._proposed(process, number, how, nodes))

    def _existing(self, names: Sequence[str]) -> tuple[Uid, ...]:
        """Return these nodes, or none if one is lost: to wish for it is one failure more than may come at once."""
        return tuple(Uid(name) for name in names) if all(name in self.world.disks for name in names) else ()

    async def _proposed(self, process: Process, slot: int, how: str, wish: tuple[Uid, ...]) -> None:
        with suppress(CoterieError):
            if how == "confirm":
                await process.call(lambda: process.proposer.confirm([slot]))
                return
            joints = await process.call(lambda: process.proposer.join({slot: wish}))
            if how == "carry":
                synced = await process.call(lambda: process.sync.run(list(joints.values())))
                await process.call(lambda: process.proposer.settle(synced))

    # --- people ---

    def _people(self) -> People:
        if self.people is None:
            raise ValueError("there are no people in this world: its kind is replication")
        return self.people

    async def _register(self, name: str, where: str = "") -> None:
        self._people().register(name, Uid(where) if where else None)

    async def _login(self, name: str, where: str = "") -> None:
        self._people().login(name, Uid(where) if where else None)

    async def _roam(self, name: str, where: str = "") -> None:
        self._people().roam(name, Uid(where) if where else None)

    async def _send(self, name: str, to: str, count: str = "1") -> None:
        self._people().write(name, to, int(count))

    async def _read(self, name: str, where: str) -> None:
        people, uid = self._people(), self.up(where)
        if uid is not None:
            self.begin(people.read(name, self.world.processes[uid]))

    async def _settled(self, time: str) -> None:
        people = self._people()
        until = sim_loop().time() + seconds(time)
        while left := people.unfinished():
            assert sim_loop().time() < until, left
            await asyncio.sleep(0.1)

    # --- clients of bare replication ---

    async def _change(self, name: str, operation: str, *where: str) -> None:
        self.begin(self.words.change(name, operation, where, self.up))

    async def _append(self, owner: str, number: str, state: str, *where: str) -> None:
        self.begin(self.words.append(owner, int(number), state, where, self.up))

    # --- the end of the storm ---

    async def calm(self) -> None:
        """End all faults, wait until nothing is under way and everything is whole, and check everything."""
        world = self.world
        world.network.weather = Weather(streams=self.people is not None)
        world.network.heal()
        world.wishes.clear()
        for uid in sorted(world.positions):
            if world.network.frozen(uid):
                world.network.thaw(uid)
        for disk in world.disks.values():
            disk.full, disk.failing_syncs, disk.fsync = False, 0, FSYNC
            disk.check()
        for uid in sorted(set(world.disks) - set(world.processes)):
            await world.start(uid)
        while len(world.disks) < world.replication_factor:
            await self._start("1")
        while self._work:
            await asyncio.wait(set(self._work))
        await whole(world, PATIENCE)
        if self.people is None:
            await self.words.verdict()
        else:
            await self._settled(f"{PATIENCE}s")
            await whole(world, PATIENCE)
            self.people.verdict()


async def perform(plan: Plan) -> World:
    """Perform a plan, and check everything at its end."""
    world, people = world_of(plan)
    async with world:
        stage = Stage(world, people() if people else None)
        try:
            for step in plan.steps:
                await stage.perform(step)
            await stage.calm()
        finally:
            if stage.people is not None:
                stage.people.stop()
    return world


def world_of(plan: Plan) -> tuple[World, Callable[[], People] | None]:
    """Make the world of a plan, and its people once it has begun."""
    options: dict[str, Any] = {
        "replication_factor": plan.factor,
        "slots": plan.slots,
        "weather": plan.weather,
        "settings": SETTINGS,
        "skew_ms": plan.skew_ms,
    }
    if plan.kind == "replication":
        return World(**options), None
    world = ChatWorld(**options)
    return world, lambda: People(world)


def play(plan: Plan) -> World:
    """Perform a plan on a loop of its own."""
    return run(_performed(plan), plan.seed)


async def _performed(plan: Plan) -> World:
    return await perform(plan)
