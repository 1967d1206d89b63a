"""Many nodes in one process: the real ring, replication and admin view, without sockets and disks.

A machine holds some ten node processes, and a page must be seen with three hundred. Here each node is a real `Replica`
with a real `View` on it; only links (`MemoryPeers`) and disks (the simulation's `MemoryStore`) are memory. The ring
begins as it would be long after the last join (`tests.sim.ring.perfect`); whoever is killed and started afterwards is
missed, replaced and found again by the nodes' own code.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from tests.sim.memory_store import MemoryStore
from tests.sim.ring.perfect import perfect

from coterie_node.api.ports import Facts
from coterie_node.api.view import View
from coterie_node.assembly.replica import Replica
from coterie_node.bootstrap.identity import Membership
from coterie_node.replication.settings import ReplicationSettings
from coterie_node.ring import PRESETS, Ring, Timer
from coterie_node.ring.placement import first_members
from coterie_node.runtime.dispatch import Dispatcher, TaskGroup
from coterie_node.version import VERSION
from coterie_protocol.admin import MessageCounts
from coterie_protocol.errors import CoterieError, Unavailable
from coterie_protocol.identifiers import Uid, slot_of_name
from coterie_protocol.nodes import NodeRef
from coterie_protocol.records import Record
from coterie_protocol.registers import Ballot, Config, SlotRegister

REPLICATION_FACTOR = 3
RESET_NOTICED = 0.05
"""Seconds until the other end of a link learns that a process has died."""
RING_UID = "5ca1ab1e" * 4
BORN = Ballot(1, "long ago")
PEOPLE_A_NODE = 40
SETTLED_WITHIN = 20.0


class OffsetClock:
    """Time that began before the process did: the ring is older than its stage."""

    def __init__(self, age: float) -> None:
        self._zero = time.monotonic() - age

    def now(self) -> float:
        return time.monotonic() - self._zero

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Wires:
    """Who runs, and who has a link to whom."""

    def __init__(self, clock: OffsetClock) -> None:
        self.clock = clock
        self.running: dict[Uid, MemoryPeers] = {}
        self.refs: dict[Uid, NodeRef] = {}

    def up(self, peers: MemoryPeers) -> None:
        self.running[peers.me] = peers
        for other in list(self.running.values()):
            if peers.me in other.wanted:
                other.link(peers.me)

    def down(self, peers: MemoryPeers) -> None:
        del self.running[peers.me]
        for other in peers.links.values():
            asyncio.get_running_loop().call_later(RESET_NOTICED, other.lost, peers)


class MemoryPeers:
    """`ports.Peers` of one process."""

    def __init__(self, wires: Wires, me: Uid, dispatcher: Dispatcher) -> None:
        self.me = me
        self.wanted: set[Uid] = set()
        self.links: dict[Uid, MemoryPeers] = {}
        self._wires = wires
        self._dispatcher = dispatcher
        self._watchers: list[Callable[[Uid, bool], None]] = []
        self._down: dict[Uid, float] = {}
        self._since = wires.clock.now()

    def alive(self, uid: Uid) -> bool:
        return uid in self.links

    def down_since(self, uid: Uid) -> float | None:
        return None if uid in self.links else self._down.get(uid, self._since)

    def learn(self, refs: Iterable[NodeRef]) -> None:
        for ref in refs:
            held = self._wires.refs.get(ref.uid)
            if held is None or ref.incarnation > held.incarnation:
                self._wires.refs[ref.uid] = ref

    def ref(self, uid: Uid) -> NodeRef | None:
        return self._wires.refs.get(uid)

    def want(self, uids: Iterable[Uid]) -> None:
        for uid in uids:
            if uid != self.me:
                self.wanted.add(uid)
                self.link(uid)

    def link(self, uid: Uid) -> MemoryPeers | None:
        """Return the process at the other end of a link, which is made if it can be."""
        other = self._wires.running.get(uid)
        if self._wires.running.get(self.me) is not self or other is None:
            return None
        if self.links.get(uid) is not other:
            self._linked(other)
            other._linked(self)
        return other

    def _linked(self, other: MemoryPeers) -> None:
        self.links[other.me] = other
        self._down.pop(other.me, None)
        for callback in self._watchers:
            callback(other.me, True)

    def lost(self, other: MemoryPeers) -> None:
        """Notice that a process is gone; it may have been followed by another of the same node already."""
        if self.links.get(other.me) is other:
            del self.links[other.me]
            self._down[other.me] = self._wires.clock.now()
            for callback in self._watchers:
                callback(other.me, False)

    def send(self, uid: Uid, message: Any, *, bulk: bool = False) -> bool:
        other = self.link(uid)
        if other is None:
            return False
        asyncio.get_running_loop().call_soon(other._dispatcher.event, self.me, message)
        return True

    async def request(self, uid: Uid, message: Any, timeout: float, *, bulk: bool = False) -> Any:
        assert uid != self.me, "a node's own uid is never passed to it"
        other = self.link(uid)
        if other is None:
            raise Unavailable(f"no link to {uid}")
        try:
            async with asyncio.timeout(timeout):
                return await other._dispatcher.request(self.me, message)
        except TimeoutError:
            raise Unavailable(f"{uid} did not answer in time") from None

    def watch(self, callback: Callable[[Uid, bool], None]) -> None:
        self._watchers.append(callback)

    async def contact(self, host: str, port: int, timeout: float) -> NodeRef:
        raise Unavailable("here all are known by their uid")

    async def probe(self, ref: NodeRef, timeout: float) -> bool:
        return ref.uid in self._wires.running


@dataclass
class MemoryNode:
    """A node: its disk, and its process if it runs."""

    ref: NodeRef
    store: MemoryStore
    tasks: TaskGroup | None = None
    replica: Replica | None = None
    peers: MemoryPeers | None = None
    view: View | None = None

    @property
    def name(self) -> str:
        return self.ref.name


class MemoryRing:
    """A ring of so many nodes; use it as `async with`. `names` in the order of positions.

    `bulk`: bytes a second that hand-over sends from a node. Memory is so quick that nobody would see it otherwise.
    """

    def __init__(self, names: Sequence[str], seed: int = 1, replace_after: float = 5.0, bulk: int = 1 << 26) -> None:
        nodes = len(names)
        self.rng = random.Random(seed)
        self.slots = max(1024, 1 << (10 * nodes - 1).bit_length())
        self._preset = "local" if nodes <= 10 else "cluster" if nodes <= 100 else "wan"
        # What a node does each quarter of a second, three hundred need not do in one process.
        round_ = 0.25 if nodes <= 10 else 0.5 if nodes <= 100 else 4.0
        self._settings = ReplicationSettings(
            replace_after=replace_after,
            handover_round=round_,
            gossip_interval=60.0,
            repair_interval=600.0,
            bulk_bytes_per_second=bulk,
        )
        world = perfect(seed, PRESETS[self._preset], nodes, self.slots, names=names)
        self._begun: dict[str, Ring] = {node.uid: node.ring for node in world.live() if node.ring is not None}
        self._clock = OffsetClock(world.now)
        self._wires = Wires(self._clock)
        self.nodes = [
            MemoryNode(ring.me, MemoryStore(random.Random(self.rng.getrandbits(64)))) for ring in self._begun.values()
        ]

    async def __aenter__(self) -> MemoryRing:
        await self._furnish()
        for node in self.nodes:
            await self._start(node, self._begun[node.ref.uid])
        deadline = time.monotonic() + SETTLED_WITHIN
        while any(node.replica.repair.under_replicated() for node in self.nodes if node.replica is not None):
            assert time.monotonic() < deadline, "members that hold the same have not found that out"
            await asyncio.sleep(0.05)
        return self

    async def __aexit__(self, *_: object) -> None:
        # All at once: one after the other, those that are left would replace each that has gone.
        await asyncio.gather(*(self.kill(node) for node in self.nodes if node.tasks is not None))

    def named(self, name: str) -> MemoryNode | None:
        """Return the node of a name."""
        return next((node for node in self.nodes if node.name == name), None)

    async def kill(self, node: MemoryNode) -> None:
        """End a process at once."""
        assert node.tasks is not None
        assert node.peers is not None
        assert node.replica is not None
        self._wires.down(node.peers)
        node.replica.driver.close()
        tasks, node.tasks, node.replica, node.peers, node.view = node.tasks, None, None, None, None
        await tasks.close()

    async def start(self, node: MemoryNode) -> None:
        """Start a node that does not run."""
        await self._start(node, None)

    async def write(self, count: int) -> None:
        """Have people write to each other: so many messages, acknowledged by a majority each."""
        await asyncio.gather(*(self._message() for _ in range(count)))

    async def _message(self) -> None:
        owner = self._person()
        slot = slot_of_name(owner, self.slots)
        for node in self.nodes:
            if node.replica is not None and node.replica.table.acts(slot):
                try:
                    await node.replica.appender.append_one(self._record(slot, owner))
                except CoterieError:
                    continue  # Its owner is just changing: people's clients would try again, here others write.
                return

    # --- how it begins ---

    async def _furnish(self) -> None:
        """Write configurations and records to the disks, as a settled ring holds them."""
        refs = [node.ref for node in self.nodes]
        stores = {node.ref.uid: node.store for node in self.nodes}
        registers: dict[Uid, list[tuple[int, SlotRegister]]] = {uid: [] for uid in stores}
        at = 0
        homes: dict[int, tuple[Uid, ...]] = {}
        for slot in range(self.slots):
            while at < len(refs) and refs[at].position < slot:
                at += 1
            members = first_members((refs[(at + step) % len(refs)] for step in range(len(refs))), REPLICATION_FACTOR)
            homes[slot] = members
            register = SlotRegister(BORN, BORN, Config(1, BORN, (), members))
            for uid in members:
                registers[uid].append((slot, register))
        mail: dict[Uid, list[Record]] = {uid: [] for uid in stores}
        for _ in range(PEOPLE_A_NODE * len(refs)):
            owner = self._person()
            slot = slot_of_name(owner, self.slots)
            record = self._record(slot, owner)
            for uid in homes[slot]:
                mail[uid].append(record)

        async def fill(uid: Uid, store: MemoryStore) -> None:
            def write(tx: Any) -> None:
                for slot, register in registers[uid]:
                    tx.put_slot_register(slot, register)
                tx.merge(mail[uid])

            await store.transact(write)

        await asyncio.gather(*(fill(uid, store) for uid, store in stores.items()))

    def _person(self) -> str:
        """Name somebody; some are written to much more often than others, as people are."""
        return f"person{int(math.exp(self.rng.uniform(0.0, math.log(40 * len(self.nodes)))))}"

    def _record(self, slot: int, owner: str) -> Record:
        now = self._clock.wall_ms()
        return Record(
            slot, owner, "somebody", self.rng.randbytes(16), 0, 0, self.rng.randbytes(120), 120, b"", 1, now, now
        )

    # --- processes ---

    async def _start(self, node: MemoryNode, begun: Ring | None) -> None:
        assert node.tasks is None
        node.ref = node.ref if begun else _next_life(node.ref, self._clock.wall_ms())
        dispatcher, tasks = Dispatcher(), TaskGroup()
        peers = MemoryPeers(self._wires, node.ref.uid, dispatcher)
        peers.learn((node.ref,))
        replica = Replica(
            node.ref,
            Membership(RING_UID, REPLICATION_FACTOR, self.slots, False),
            self._preset,
            self._settings,
            f"{self.rng.getrandbits(64):x}",
            node.store,
            peers,
            dispatcher,
            tasks,
            self._clock,
            random.Random(self.rng.getrandbits(64)),
            _kept,
            lambda: self._some_others(node),
            lambda near: None,
        )
        facts = Facts(
            ring_uid=lambda: RING_UID,
            version=VERSION,
            sessions=lambda: node.ref.position % 7,
            synced=lambda: replica.synced,
            store_fault=str,
            waiting_for=str,
            messages=lambda: MessageCounts(replica.appender.acknowledged, replica.appender.acknowledged, 0),
        )
        node.view = View(
            replica.driver,
            replica.table,
            replica.repair,
            replica.strays,
            replica.recovery,
            peers,
            node.store,
            self._clock,
            facts,
        )
        node.view.register(dispatcher)
        node.tasks, node.replica, node.peers = tasks, replica, peers
        self._wires.up(peers)
        if begun is not None:
            await self._take_up(node.store, replica, tasks, begun)
        else:
            tasks.start(_run(replica), f"node {node.name}")

    async def _take_up(self, store: MemoryStore, replica: Replica, tasks: TaskGroup, ring: Ring) -> None:
        """Do what `Replica.start` does, but with a ring that has settled already: not with a circle of its own."""
        driver, core, settings = replica.driver, ring._core, PRESETS[self._preset]
        table = replica.table
        table.load(await store.read(lambda tx: list(tx.slot_registers())))
        for slot in table.own_slots():
            if (known := table.own(slot)) is not None:
                table.choose(known)  # Long ago: nobody has to make sure of that again.
        replica.synced = True
        driver._ring = ring
        driver._joined.set()
        for timer, period in (
            (Timer.STABILIZE, settings.stabilize),
            (Timer.FINGERS, settings.fingers),
            (Timer.MEET, settings.meet),
        ):
            core.timer(timer, period * self.rng.random())
        driver._run(core.take())
        driver._changed()
        for room in (replica.handover, replica.repair, replica.strays):
            tasks.start(room.run(), type(room).__name__)

    def _some_others(self, node: MemoryNode) -> list[NodeRef]:
        """Name some nodes, as a disk remembers them."""
        others = [other.ref for other in self.nodes if other is not node and other.tasks is not None]
        return self.rng.sample(others, min(4, len(others)))


async def _run(replica: Replica) -> None:
    """Begin as a process of a node does."""
    await replica.start()
    await replica.sync()


async def _kept(position: int) -> None:
    """Keep a position: here it stays with the node's reference."""


def _next_life(ref: NodeRef, wall_ms: int) -> NodeRef:
    return msgspec.structs.replace(ref, incarnation=wall_ms)
