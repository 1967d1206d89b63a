"""The rooms of replication and the ring, put together for one ring: what exists once a node belongs to one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from coterie_protocol.nodes import NodeRef
from coterie_protocol.registers import Ballot, Config, SlotRegister

from ..driver import Driver
from ..replication.antientropy.repair import Repair
from ..replication.antientropy.transfer import Offers
from ..replication.append.coordinator import Appender
from ..replication.commits import Arrivals
from ..replication.configuration import SlotTable
from ..replication.consensus.acceptors import Members
from ..replication.consensus.proposer import Proposer
from ..replication.consensus.registers import Accounts
from ..replication.consensus.scrub import Healing
from ..replication.expiry.collect import Ageing
from ..replication.expiry.rejoin import Returning
from ..replication.expiry.slot_clock import Calendar
from ..replication.handoff import Strays
from ..replication.reconfigure.handover import Handover
from ..replication.reconfigure.state_transfer import Sync
from ..replication.reconfigure.unsafe_recovery import Recovery
from ..replication.routing import Router
from ..ring.settings import PRESETS

if TYPE_CHECKING:
    import random

    from ..bootstrap.identity import Membership
    from ..replication.settings import ReplicationSettings
    from ..runtime.dispatch import Dispatcher, TaskGroup
    from ..runtime.ports import Clock, Peers, Store

START_SYNC_SECONDS = 60.0
"""How long the sync of the start may keep a node from being ready."""


class Replica:
    """One node's part in one ring."""

    def __init__(
        self,
        me: NodeRef,
        membership: Membership,
        preset: str,
        settings: ReplicationSettings,
        boot: str,
        store: Store,
        peers: Peers,
        dispatcher: Dispatcher,
        tasks: TaskGroup,
        clock: Clock,
        rng: random.Random,
        persist_position: Callable[[int], Awaitable[None]],
        candidates: Callable[[], list[NodeRef]],
        remember: Callable[[Sequence[NodeRef]], None],
    ) -> None:
        self._membership = membership
        self._store = store
        self._tasks = tasks
        self._me = me
        self._proposer_name = f"{me.uid}.{boot}"
        factor, slots = membership.replication_factor, membership.slots
        self.settings = settings
        self.arrivals = Arrivals()
        self.table = SlotTable(peers, slots, factor)
        self.driver = Driver(
            me,
            PRESETS[preset],
            factor,
            slots,
            peers,
            dispatcher,
            tasks,
            clock,
            rng,
            persist_position,
            candidates,
            remember,
        )
        self.members = Members(self.table, store, peers, dispatcher, tasks)
        self.router = Router(self.table, peers, self.driver, dispatcher, clock, rng)
        self.accounts = Accounts(self._proposer_name, self.table, peers, self.members, clock, rng, settings)
        self.appender = Appender(
            self.table, store, peers, self.driver, dispatcher, tasks, clock, self.arrivals, settings
        )
        self.calendar = Calendar(self.table, peers, dispatcher, clock, settings)
        self.ageing = Ageing(self.table, store, peers, dispatcher, clock, self.calendar, self.appender, settings)
        self.offers = offers = Offers(self.table, store, peers, dispatcher, clock, self.arrivals, settings)
        self.repair = Repair(self.table, store, peers, offers, dispatcher, tasks, clock, self.arrivals, settings)
        self.strays = Strays(self.table, store, peers, self.router.refresh, offers, clock, self.arrivals, settings)
        self._returning = Returning(self.table, store, peers, self.strays, clock, candidates)
        proposer = Proposer(self._proposer_name, self.table, peers, self.members, settings.round_timeout)
        sync = Sync(self.table, self.members, self.accounts, self.repair, settings)
        self.handover = Handover(self.table, peers, self.driver, proposer, sync, clock, rng, settings)
        self.healing = Healing(self.table, store, peers, proposer, self.accounts, self.router.refresh, clock, settings)
        self.recovery = Recovery(self._proposer_name, self.table, store, peers, self.driver, dispatcher, clock)
        self.synced = False
        """The sync of the start is done, or had its time."""

    async def start(self, was_away: Callable[[str], None] | None = None) -> bool:
        """Load what the disk says, take part in the ring, and begin the work that never ends.

        After a long absence `was_away` is told what is waited for. False: the ring has gone on without this node, which
        holds nothing any more and must return as a new one.
        """
        self.table.load(await self._store.read(lambda tx: list(tx.slot_registers())))
        if was_away is not None and await self._returning.run(was_away):
            return False
        founding = self._membership.founded and self._me.position < 0
        if founding:
            ballot = Ballot(1, self._proposer_name)
            config = Config(1, ballot, (), (self._me.uid,))
            await self.members.found(ballot, SlotRegister(ballot, ballot, config))
        self.driver.start(found=founding)
        self._tasks.keep(self.calendar.run, "clocks")
        await self.driver.joined()
        self._tasks.keep(self.repair.run, "repair")
        self._tasks.keep(self.strays.run, "strays")
        self._tasks.keep(self.handover.run, "handover")
        self._tasks.keep(self.ageing.run, "ageing")
        self._tasks.keep(self.healing.run, "healing")
        return True

    def in_touch(self) -> bool:
        """Say whether this node hears a majority of some slot's members, or is a member of none."""
        own = [slot for slot in self.table.own_slots() if self.table.member_of(slot)]
        return not own or any(self.calendar.time_ms(slot) is not None for slot in own)

    async def sync(self) -> None:
        """Bring the own slots up to date after the start; returns after START_SYNC_SECONDS at the latest."""
        try:
            async with asyncio.timeout(START_SYNC_SECONDS):
                await self.repair.start_sync()
        except TimeoutError:
            pass
        finally:
            self.synced = True
