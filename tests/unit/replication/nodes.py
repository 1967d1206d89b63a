"""Several nodes' record rooms in one process: real dispatchers and rooms on the simulation's links, disks and clock."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import replace
from typing import Any

from tests.sim.clocks import SimClock
from tests.sim.loop import run, sim_loop
from tests.sim.memory_store import MemoryStore
from tests.sim.network import SimNetwork
from tests.sim.peers import SimPeers, process_context

from coterie_node.replication.antientropy.repair import Repair
from coterie_node.replication.antientropy.transfer import Offers
from coterie_node.replication.append.coordinator import Appender
from coterie_node.replication.commits import Arrivals
from coterie_node.replication.configuration import SlotTable
from coterie_node.replication.consensus.acceptors import Members
from coterie_node.replication.handoff import Strays
from coterie_node.replication.routing import Router
from coterie_node.replication.settings import ReplicationSettings
from coterie_node.runtime.dispatch import Dispatcher, TaskGroup
from coterie_node.runtime.ports import FIRST, NO_LIMIT_MS
from coterie_protocol.identifiers import Uid
from coterie_protocol.records import Record, State, record_digest
from coterie_protocol.registers import Ballot, Config, KnownConfig, SlotRegister

SLOTS = 8
SLOT = 3
SETTINGS = ReplicationSettings(repair_interval=5.0)
A, B, C, D, E = (Uid(name) for name in "abcde")


def known(
    epoch: int, members: Iterable[Uid], old: Iterable[Uid] = (), slot: int = SLOT, ballot: int | None = None
) -> KnownConfig:
    """Make a configuration, as its register holds it."""
    at = Ballot(ballot or epoch, "t")
    return KnownConfig(slot, at, Config(epoch, Ballot(epoch, "t"), tuple(old), tuple(members)))


class Ring:
    """A ring's suggestions, as a test sets them."""

    def __init__(self) -> None:
        self.suggested: dict[int, tuple[Uid, ...]] = {}
        self.next: list[Uid] = []

    async def members(self, slots: Sequence[int]) -> dict[int, tuple[Uid, ...]]:
        return {slot: self.suggested[slot] for slot in slots if slot in self.suggested}

    def standins(self, members: Iterable[Uid]) -> list[Uid]:
        excluded = set(members)
        return [uid for uid in self.next if uid not in excluded]


class Node:
    """One run of a node."""

    def __init__(self, network: SimNetwork, uid: Uid, disk: MemoryStore, k: int, settings: ReplicationSettings) -> None:
        self.uid = uid
        self.disk = disk
        self.tasks = TaskGroup()
        self.dispatcher = Dispatcher()
        self.clock = SimClock(network, uid)
        self.context = process_context(self)
        self.peers = SimPeers(network, uid, self.dispatcher, self.context, self.clock)
        self.ring = Ring()
        self.arrivals = Arrivals()
        self.arrived: list[Record] = []
        self.arrivals.watch(self.arrived.extend)
        self.table = SlotTable(self.peers, SLOTS, k)
        self.members = Members(self.table, disk, self.peers, self.dispatcher, self.tasks)
        self.router = Router(self.table, self.peers, self.ring, self.dispatcher, self.clock, random.Random(1))
        shared = (self.table, disk, self.peers)
        self.appender = Appender(*shared, self.ring, self.dispatcher, self.tasks, self.clock, self.arrivals, settings)
        self.offers = Offers(*shared, self.dispatcher, self.clock, self.arrivals, settings)
        self.strays = Strays(*shared, self.router.refresh, self.offers, self.clock, self.arrivals, settings)
        self.repair = Repair(*shared, self.offers, self.dispatcher, self.tasks, self.clock, self.arrivals, settings)

    async def take(self, config: KnownConfig) -> None:
        """Accept a configuration into the own register."""
        register = SlotRegister(config.ballot, config.ballot, config.config)
        await self.disk.transact(lambda tx: tx.put_slot_register(config.slot, register))
        self.table.stored(config)

    async def put(self, *records: Record) -> None:
        """Write records past everybody."""
        await self.disk.transact(lambda tx: tx.merge(records))

    async def hold(self, *records: Record) -> None:
        """Take records as a replica does."""
        self.arrivals.publish(await self.disk.transact(lambda tx: tx.merge(records)))

    async def held(self, slot: int = SLOT) -> dict[tuple[Any, ...], tuple[int, bytes]]:
        """Return what the disk holds of a slot: {key: (state, digest)}."""
        versions = await self.disk.read(lambda tx: tx.versions(slot, None, FIRST, 1 << 20, NO_LIMIT_MS))
        return {version.key: (version.state, version.digest) for version in versions}

    async def has(self, record: Record) -> bool:
        """Say whether the disk holds exactly this version."""
        held = await self.disk.read(lambda tx: tx.record(record.key))
        return held is not None and record_digest(held) == record_digest(record)


class Nodes:
    """Some nodes with links between all of them. Use it as `async with`."""

    def __init__(self, *uids: Uid, k: int = 3, settings: ReplicationSettings = SETTINGS, loops: bool = True) -> None:
        self.network = SimNetwork()
        self._uids = uids
        self._k = k
        self._settings = settings
        self._loops = loops
        self._disks: dict[Uid, MemoryStore] = {}
        self._nodes: dict[Uid, Node] = {}

    async def __aenter__(self) -> Nodes:
        for uid in self._uids:
            await self.start(uid)
        await asyncio.sleep(0.1)
        return self

    async def __aexit__(self, *_: object) -> None:
        for uid in list(self._nodes):
            await self.stop(uid)

    def __getitem__(self, uid: Uid) -> Node:
        return self._nodes[uid]

    async def start(self, uid: Uid) -> Node:
        """Start a node on its disk."""
        disk = self._disks.setdefault(uid, MemoryStore(sim_loop().rng))
        node = Node(self.network, uid, disk, self._k, self._settings)
        self._nodes[uid] = node
        node.table.load(await disk.read(lambda tx: list(tx.slot_registers())))
        self.network.start(node.peers)
        node.peers.want(other for other in self._uids if other != uid)
        if self._loops:
            node.tasks.start(node.repair.run(), "repair")
            node.tasks.start(node.strays.run(), "strays")
        return node

    async def stop(self, uid: Uid) -> None:
        """Kill a node."""
        node = self._nodes.pop(uid)
        self.network.stop(node.peers)
        node.peers.kill()
        await node.tasks.close()
        node.disk.crash()

    async def configure(self, config: KnownConfig, *others: Uid) -> None:
        """Have every running member (and others) accept a configuration."""
        for uid in dict.fromkeys((*config.config.members, *others)):
            if uid in self._nodes:
                await self._nodes[uid].take(config)


def simulated(
    test: Callable[[], Coroutine[Any, Any, None]],
) -> Callable[[], None]:
    """Run an async test in virtual time."""

    def wrapper() -> None:
        run(test())

    wrapper.__name__ = test.__name__
    return wrapper


async def until(holds: Callable[[], bool], seconds: float = 60.0) -> float:
    """Wait until something holds; return how long that took. Raises AssertionError when the time is over."""
    begun = sim_loop().time()
    while not holds():
        assert sim_loop().time() - begun < seconds, "it did not come to hold"
        await asyncio.sleep(0.01)
    return sim_loop().time() - begun


async def equal(nodes: Iterable[Node], slot: int = SLOT, seconds: float = 60.0) -> None:
    """Wait until some nodes hold the same."""
    begun = sim_loop().time()
    while True:
        held = [await node.held(slot) for node in nodes]
        if all(one == held[0] for one in held):
            return
        assert sim_loop().time() - begun < seconds, "they did not become equal"
        await asyncio.sleep(0.05)


def message(number: int, body: bytes = b"hello", slot: int = SLOT, state: int = State.PENDING, at: int = 0) -> Record:
    """Make a record; `at` is added to the time at which a simulation begins."""
    stored_at = 1_800_000_000_000 + at
    body = body if state in (State.PENDING, State.ARCHIVED) else b""
    return Record(
        slot, "ann", "bob", number.to_bytes(16, "big"), 0, state, body, len(body), b"", 1, stored_at, stored_at
    )


def moved(record: Record, state: State, body: bytes = b"") -> Record:
    """Make a further version of a record."""
    fields = {name: getattr(record, name) for name in record.__struct_fields__}
    return Record(**(fields | {"state": state, "body": body, "changed_at": record.changed_at + 1}))


def patient(**changes: Any) -> ReplicationSettings:
    """Return the tests' settings with changes."""
    return replace(SETTINGS, **changes)
