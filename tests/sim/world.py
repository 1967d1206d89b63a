"""A world of simulated nodes: the real rooms of replication on simulated disks, links and clocks.

A crash forgets what no fsync had reached and stops all work of the process in the middle; a restart begins from the
disk with a fresh proposer name; a lost disk comes back as a node of another uid. What the ring suggests is scripted,
and can be told to be wrong.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, TypeVar

import structlog
from tests.sim.clocks import Clockwork, SimClock
from tests.sim.invariants import Witness
from tests.sim.loop import sim_loop
from tests.sim.memory_store import MemoryStore
from tests.sim.network import SimNetwork
from tests.sim.peers import SimPeers, process_context
from tests.sim.watched import WatchedStore, whole_disk
from tests.sim.wire import Weather

from coterie_node.replication.antientropy.repair import Repair
from coterie_node.replication.antientropy.transfer import Offers
from coterie_node.replication.append.coordinator import Appender
from coterie_node.replication.commits import Arrivals
from coterie_node.replication.configuration import SlotTable
from coterie_node.replication.consensus.acceptors import Members
from coterie_node.replication.consensus.proposer import Proposer
from coterie_node.replication.consensus.registers import Accounts
from coterie_node.replication.consensus.scrub import Healing
from coterie_node.replication.expiry.collect import Ageing
from coterie_node.replication.expiry.rejoin import Returning
from coterie_node.replication.expiry.slot_clock import Calendar
from coterie_node.replication.handoff import Strays
from coterie_node.replication.reconfigure.handover import Handover
from coterie_node.replication.reconfigure.state_transfer import Sync
from coterie_node.replication.routing import Router
from coterie_node.replication.settings import ReplicationSettings
from coterie_node.runtime.dispatch import Dispatcher, TaskGroup
from coterie_node.runtime.ports import StoreError
from coterie_protocol.errors import Unavailable
from coterie_protocol.identifiers import Uid, slot_of_name
from coterie_protocol.nodes import NodeRef
from coterie_protocol.records import Record, RecordKey, State
from coterie_protocol.registers import Ballot, Config, SlotRegister

T = TypeVar("T")

SETTINGS = ReplicationSettings(replace_after=10.0, gossip_interval=1.0, confirm_after=0.5, repair_interval=2.0)
"""The real ones, but for waits that would only make simulated time longer."""


class ScriptedSuggestions:
    """`ports.Suggestions` of one node: a ring that has settled, unless the script says otherwise."""

    def __init__(self, world: World, me: Uid) -> None:
        self._world = world
        self._me = me

    async def members(self, slots: Sequence[int]) -> dict[int, tuple[Uid, ...]]:
        """Return the members that the ring, or the script, suggests."""
        return {slot: wish for slot in slots if (wish := self._world.suggested(self._me, slot))}

    def standins(self, members: Iterable[Uid]) -> list[Uid]:
        """Return the next live successors of this node that are not among the members."""
        excluded = {self._me, *members}
        return [uid for uid in self._world.circle_from(self._world.positions[self._me]) if uid not in excluded]


class Tasks(TaskGroup):
    """A process's background tasks."""

    def kill(self) -> None:
        """Begin nothing any more."""
        self._closed = True


class Process:
    """One run of a node: everything that a crash ends."""

    def __init__(
        self,
        world: World,
        uid: Uid,
        disk: MemoryStore,
        registers: Iterable[tuple[int, SlotRegister]],
        boot: int,
        settings: ReplicationSettings,
    ) -> None:
        self.uid = uid
        self.name = f"{uid}/{boot}"
        self.dead = False
        self.context = process_context(self)
        self.tasks = Tasks()
        self.dispatcher = Dispatcher()
        skew_ms = sim_loop().rng.randint(-world.skew_ms, world.skew_ms)
        self.clock = SimClock(world.network, uid, world.clockworks.setdefault(uid, Clockwork()), skew_ms)
        self.peers = SimPeers(world.network, uid, self.dispatcher, self.context, self.clock)
        self.store = WatchedStore(disk, uid, world.witness)
        self.suggestions = ScriptedSuggestions(world, uid)
        self.arrivals = Arrivals()
        self._rng = random.Random(sim_loop().rng.getrandbits(64))
        self.table = SlotTable(self.peers, world.slots, world.replication_factor)
        self.table.load(registers)
        self.members = Members(self.table, self.store, self.peers, self.dispatcher, self.tasks)
        self.proposer = Proposer(self.name, self.table, self.peers, self.members, settings.round_timeout)
        self.accounts = Accounts(self.name, self.table, self.peers, self.members, self.clock, self._rng, settings)
        self.router = Router(self.table, self.peers, self.suggestions, self.dispatcher, self.clock, self._rng)
        self.appender = Appender(
            self.table,
            self.store,
            self.peers,
            self.suggestions,
            self.dispatcher,
            self.tasks,
            self.clock,
            self.arrivals,
            settings,
        )
        self.calendar = Calendar(self.table, self.peers, self.dispatcher, self.clock, settings)
        self.ageing = Ageing(
            self.table, self.store, self.peers, self.dispatcher, self.clock, self.calendar, self.appender, settings
        )
        self.offers = Offers(self.table, self.store, self.peers, self.dispatcher, self.clock, self.arrivals, settings)
        self.repair = Repair(
            self.table,
            self.store,
            self.peers,
            self.offers,
            self.dispatcher,
            self.tasks,
            self.clock,
            self.arrivals,
            settings,
        )
        self.strays = Strays(
            self.table,
            self.store,
            self.peers,
            self.router.refresh,
            self.offers,
            self.clock,
            self.arrivals,
            settings,
        )
        self.returning = Returning(
            self.table, self.store, self.peers, self.strays, self.clock, lambda: world.network.refs.values()
        )
        self.sync = Sync(self.table, self.members, self.accounts, self.repair, settings)
        self.handover = Handover(
            self.table, self.peers, self.suggestions, self.proposer, self.sync, self.clock, self._rng, settings
        )

        self.healing = Healing(
            self.table,
            self.store,
            self.peers,
            self.proposer,
            self.accounts,
            self.router.refresh,
            self.clock,
            settings,
        )

    def stop(self) -> list[asyncio.Task[Any]]:
        """Die: from here on it writes, sends and hears nothing. Return its tasks, cancelled."""
        self.dead = True
        self.tasks.kill()
        self.peers.kill()
        self.store.kill()
        tasks = sim_loop().owned_by(self)
        for task in tasks:
            task.cancel()
        return tasks

    async def call(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run something as this process. Raises Unavailable when the process dies meanwhile: the outcome is unknown."""
        if self.dead:
            raise Unavailable(f"{self.name} is dead")
        context = self.context.copy()
        task: asyncio.Task[T] = context.run(asyncio.ensure_future, work())
        try:
            return await task
        except asyncio.CancelledError:
            if self.dead:
                raise Unavailable(f"{self.name} has died") from None
            raise


class World:
    """Nodes, disks, wires and the witness. Use it as `async with`.

    Without `loops` nothing is handed over, repaired or given up by itself: the script says when.
    """

    def __init__(
        self,
        *,
        replication_factor: int = 3,
        slots: int = 1,
        weather: Weather | None = None,
        settings: ReplicationSettings = SETTINGS,
        loops: bool = True,
        skew_ms: int = 0,
    ) -> None:
        self.replication_factor = replication_factor
        self.slots = slots
        self.settings = settings
        self.network = SimNetwork(weather)
        self.witness = Witness(replication_factor)
        self.disks: dict[Uid, MemoryStore] = {}
        self.clockworks: dict[Uid, Clockwork] = {}
        """The machines' clocks; who is missing here has a good one."""
        self.processes: dict[Uid, Process] = {}
        self.positions: dict[Uid, float] = {}
        self.wishes: dict[tuple[Uid | None, int], tuple[Uid, ...]] = {}
        """What the script suggests instead of the ring, by (node or None for all, slot)."""
        self.log: list[str] = []
        self.skew_ms = skew_ms
        """How far a process's wall clock may be off, either way."""
        self._loops = loops
        self._boots: dict[Uid, int] = {}
        self._failure: BaseException | None = None
        self._old_config: dict[str, Any] = {}

    async def __aenter__(self) -> World:
        self._old_config = structlog.get_config()
        structlog.configure(processors=[self._take_log], cache_logger_on_first_use=False)
        sim_loop().after_step.append(self.check)
        return self

    async def __aexit__(self, *error: object) -> None:
        sim_loop().after_step.remove(self.check)
        try:
            for uid in list(self.processes):
                await self.crash(uid)
        finally:
            structlog.configure(**self._old_config)
        if error[1] is None:
            self.check()
        elif isinstance(error[1], BaseException):
            error[1].add_note("last log lines:\n  " + "\n  ".join(self.log[-30:]))

    def check(self) -> None:
        """Raise what the witness or a log line of a failure complained of."""
        if self.witness.broken is not None:
            raise self.witness.broken
        if self._failure is not None:
            raise self._failure

    def failed(self, error: BaseException) -> None:
        """Note that something beside the nodes has gone wrong: the run ends with it."""
        self._failure = self._failure or error

    def _take_log(self, _: Any, level: str, event: Any) -> Any:
        error = event.get("exc_info")
        if error is True:
            error = sys.exc_info()[1]
        details = " ".join(f"{key}={value}" for key, value in event.items() if key != "event")
        self.log.append(f"{sim_loop().time():.4f} {level} {event['event']} {details}")
        if isinstance(error, BaseException) and not isinstance(error, StoreError) and self._failure is None:
            self._failure = error
        raise structlog.DropEvent

    # --- nodes ---

    async def start(
        self,
        uid: Uid,
        *,
        found: bool = False,
        settings: ReplicationSettings | None = None,
        was_away: bool = False,
    ) -> Process:
        """Start a node: on its disk if it has one, otherwise as a new one.

        One that `was_away` for long asks first whether the ring went on without it; if so, its disk is emptied.
        """
        assert uid not in self.processes
        disk = self.disks.setdefault(uid, MemoryStore(sim_loop().rng))
        self.positions.setdefault(uid, self._free_position(uid))
        self._boots[uid] = self._boots.get(uid, 0) + 1
        registers, accounts, records = await disk.read(lambda tx: whole_disk(tx, self.slots))
        self.witness.compare_disk(uid, registers, accounts, records)
        self.network.refs[uid] = NodeRef(uid, uid, 0, uid, 1, 2, 3, self._boots[uid])
        process = Process(self, uid, disk, registers.items(), self._boots[uid], settings or self.settings)
        self.processes[uid] = process
        self.network.start(process.peers)
        process.peers.want(other for other in self.positions if other != uid)
        if found:
            ballot = Ballot(1, process.name)
            register = SlotRegister(ballot, ballot, Config(1, ballot, (), (uid,)))
            await process.call(lambda: process.members.found(ballot, register))
        if was_away and await process.call(lambda: process.returning.run(self.log.append)):
            await self.lose_disk(uid)
            return process
        process.context.copy().run(self._start_loops, process)
        return process

    def _start_loops(self, process: Process) -> None:
        if self._loops:
            process.tasks.keep(process.handover.run, "hand-over")
            process.tasks.keep(process.healing.run, "healing")
            process.tasks.keep(process.repair.run, "repair")
            process.tasks.keep(process.strays.run, "strays")
            process.tasks.keep(process.calendar.run, "clocks")
            process.tasks.keep(process.ageing.run, "ageing")

    async def crash(self, uid: Uid, *, torn: bool | None = None) -> None:
        """Kill a process (SIGKILL, or the power): what was not synced is forgotten."""
        process = self.processes.pop(uid)
        self.network.stop(process.peers)
        tasks = process.stop()
        self.disks[uid].crash(torn=torn)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def restart(self, uid: Uid) -> Process:
        """Kill a process and start it again at once."""
        await self.crash(uid)
        return await self.start(uid)

    async def damage(self, uid: Uid, slot: int) -> None:
        """Damage a slot's register on the disk of a node that is down: it fails its checksum from now on."""
        disk = self.disks[uid]
        registers, accounts, records = await disk.read(lambda tx: whole_disk(tx, self.slots))
        self.witness.compare_disk(uid, registers, accounts, records)
        disk.damage_register(slot)
        del self.witness.registers[uid, slot]

    def damage_record(self, uid: Uid, key: RecordKey) -> None:
        """Flip a bit in a record on a disk: the copy counts as lost, though nobody has noticed."""
        self.disks[uid].damage_record(key)
        self.witness.record_damaged(uid, key)

    async def lose_disk(self, uid: Uid) -> None:
        """Lose a node for good, with its disk."""
        if uid in self.processes:
            await self.crash(uid)
        del self.disks[uid]
        del self.positions[uid]
        self.witness.disk_lost(uid)

    def live(self) -> set[Uid]:
        """Return the nodes that run and are not frozen."""
        return {uid for uid in self.processes if not self.network.frozen(uid)}

    # --- what the ring suggests ---

    def _free_position(self, uid: Uid) -> float:
        """Return the middle of the widest arc, as a real ring does."""
        taken = sorted(self.positions.values())
        if not taken:
            return 0.0
        arcs = [(after - at, at) for at, after in zip(taken, [*taken[1:], taken[0] + 1.0], strict=True)]
        width, at = max(arcs, key=lambda arc: (arc[0], -arc[1]))
        return (at + width / 2) % 1.0

    def circle_from(self, position: float) -> list[Uid]:
        """Return the live nodes clockwise from a position on."""
        return sorted(self.live(), key=lambda uid: ((self.positions[uid] - position) % 1.0, uid))

    def suggested(self, me: Uid, slot: int) -> tuple[Uid, ...]:
        """Return whom a node's ring suggests for a slot."""
        wish = self.wishes.get((me, slot), self.wishes.get((None, slot)))
        return tuple(self.circle_from(slot / self.slots)[: self.replication_factor]) if wish is None else wish

    def members_of(self, name: str) -> tuple[Uid, ...]:
        """Return the members of a name's slot by its newest decided configuration."""
        newest = self.witness.slots[slot_of_name(name, self.slots)].newest()
        assert newest is not None
        return newest.config.members

    # --- users ---

    async def add(self, uid: Uid, name: str, operation: str) -> bytes:
        """Append an operation to an account through a node, once; return the committed value.

        Raises Unavailable (unknown: it may have happened) and what the node answers.
        """
        token = operation.encode()

        def append(value: bytes | None) -> bytes:
            held = value or b""
            return held if token in held.split(b";") else held + token + b";"

        return await self._change(uid, name, append)

    async def read(self, uid: Uid, name: str) -> bytes:
        """Read an account through a node, linearizably."""
        process = self.processes[uid]
        return await self._operate(process, name, lambda: process.accounts.read(name))

    async def _change(self, uid: Uid, name: str, function: Callable[[bytes | None], bytes | None]) -> bytes:
        process = self.processes[uid]
        return await self._operate(process, name, lambda: process.accounts.change(name, function))

    async def _operate(
        self, process: Process, name: str, work: Callable[[], Coroutine[Any, Any, bytes | None]]
    ) -> bytes:
        slot = slot_of_name(name, self.slots)
        before = self.witness.longest(slot, name)
        value = await process.call(work) or b""
        self.witness.acknowledged_value(slot, name, value, before)
        return value

    async def append(self, uid: Uid, record: Record) -> int:
        """Append a record through a node; return the number of copies. Raises Unavailable (unknown), DUPLICATE_ID."""
        process = self.processes[uid]
        copies = await process.call(lambda: process.appender.append_one(record))
        self.witness.acknowledged_record(record)
        return copies

    def message(self, uid: Uid, owner: str, number: int, state: State = State.PENDING) -> Record:
        """Write the version of a message that a node would store now."""
        now = self.processes[uid].clock.wall_ms()
        body = b"" if state in (State.EXPIRED, State.DELETED) else b"%d as %s" % (number, state.name.encode())
        key = (slot_of_name(owner, self.slots), owner, "sender", number.to_bytes(16, "big"), 0)
        return Record(*key, int(state), body, len(body), b"", 1, now, now)
