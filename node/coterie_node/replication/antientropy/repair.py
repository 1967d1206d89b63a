"""Repair: members of a slot compare digests on any change and every 30 s, and exchange only what differs.

What this node knows of its fellow members follows from these comparisons: whether a fellow is in sync (it had all that
this node had, at a time since it last came up and under the slot's present configuration), and whether this node itself
has caught up (it has compared with a majority, itself included, since it started, became a member, or last lost sight
of a fellow: with whom that one has acknowledged something, only the others can tell).
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import islice

import structlog

from coterie_protocol.errors import CoterieError, Unavailable
from coterie_protocol.identifiers import Uid
from coterie_protocol.registers import Ballot, KnownConfig, majority

from ...runtime.ports import Clock, Handlers, Peers, Store, Tasks
from ..commits import Arrivals
from ..configuration import SlotTable
from ..settings import ReplicationSettings
from .digests import SLOTS_AT_ONCE, Comparison
from .liveness import SETTLED, Sightings
from .nonmembers import Outsiders
from .pages import AT_ONCE
from .transfer import Offers

log = structlog.get_logger()

TICK = 0.5
"""Seconds after which what differed, or could not be compared, is compared again."""
CAUGHT_UP_TIMEOUT = 4.0

Identity = tuple[int, Ballot]


class Repair:
    """Keeps the slots that this node is a member of equal to its fellow members'."""

    def __init__(
        self,
        table: SlotTable,
        store: Store,
        peers: Peers,
        offers: Offers,
        handlers: Handlers,
        tasks: Tasks,
        clock: Clock,
        arrivals: Arrivals,
        settings: ReplicationSettings,
    ) -> None:
        self._table = table
        self._peers = peers
        self._tasks = tasks
        self._clock = clock
        self._settings = settings
        self._me = peers.me
        self._sightings = Sightings(peers, clock)
        self._gate = asyncio.Semaphore(AT_ONCE)
        self.comparison = Comparison(store, peers, offers, handlers, clock, arrivals)
        self._outsiders = Outsiders(table, peers, self.comparison, clock, tasks)
        self._fellows: dict[int, tuple[Uid, ...]] = {}
        """Own slots, and who else is a member of each."""
        self._shared: dict[Uid, set[int]] = {}
        """The same by fellow."""
        self._due: dict[Uid, dict[int, int]] = {}
        """Slots to compare now, with how often they were found to differ."""
        self._again: dict[Uid, dict[int, int]] = {}
        """The same for the next tick."""
        self._comparing: set[Uid] = set()
        self._patrolled: set[Uid] = set()
        self._in_sync: dict[Uid, dict[int, Identity]] = {}
        """Slots in which a fellow was found in sync since it last came up, and under which configuration."""
        self._behind: set[int] = set()
        """Own slots in which this node has not caught up yet."""
        self._met: dict[int, set[Uid]] = {}
        """Own slots, and with whom this node has compared them since a fellow was last lost."""
        self._hurried: set[int] = set()
        self._waiting: dict[int, list[asyncio.Future[None]]] = {}
        table.watch(self._changed)
        peers.watch(self._peer)
        for slot in table.slots_known():
            known = table.known(slot)
            assert known is not None
            self._changed(slot, known)

    async def run(self) -> None:
        """Compare again what is not equal yet, and everything every `repair_interval`, until cancelled."""
        patrol_at = self._clock.now() + self._settings.repair_interval
        while True:
            await self._clock.sleep(min(TICK, self._settings.repair_interval))
            again, self._again = self._again, {}
            for uid, slots in again.items():
                self._due.setdefault(uid, {}).update(slots)
            for uid in list(self._due):
                self._start(uid)
            if self._clock.now() >= patrol_at:
                patrol_at = self._clock.now() + self._settings.repair_interval
                for uid in list(self._shared):
                    self._patrol(uid)

    # --- one slot, now ---

    async def pull(self, slot: int, uid: Uid) -> None:
        """Take over every record that another node has and this one lacks, unsettled ones too. Raises Unavailable."""
        await self.comparison.pull(slot, uid)
        self._compared(slot, uid)

    async def push(self, slot: int, uid: Uid) -> None:
        """Give another node every record that it lacks, unsettled ones too. Raises Unavailable."""
        await self.comparison.push(slot, uid)

    # --- what is known ---

    def is_caught_up(self, slot: int) -> bool:
        """Say whether this node has compared a slot with a majority of its members (or is none of them)."""
        return slot not in self._behind

    def is_complete(self, slot: int) -> bool:
        """Say whether this node has everything of a slot that was acknowledged before and can be had now.

        A majority of the members is not enough for that: while members were away, stand-ins had a part in what was
        acknowledged. So all members must have been compared, or be away for so long that stand-ins have handed over
        what they hold to those that are there.
        """
        now = self._clock.now()
        return slot not in self._behind and all(
            (since := self._peers.down_since(uid)) is not None and now - since >= SETTLED for uid in self._unmet(slot)
        )

    def is_certain(self, slot: int, since: float) -> bool:
        """Say whether, on top of that, nothing that was acknowledged before a time (Clock.now) can be elsewhere.

        A member and a stand-in may have acknowledged something together and then gone, together. So the slot is not
        certain as long as a majority of K nodes cannot be asked: members that were not compared, and others that went
        lately. Who went before this node started is not known: one more, for a while. And unless all has been quiet,
        everybody else who is there has to be asked, however long ago they came: until it has handed over all that it
        holds for others, a node that was a member, or stood in for one, may hold it alone.
        """
        if not self.is_complete(slot):
            return False
        unmet = self._unmet(slot)
        away = len(unmet) + self._sightings.gone_lately(but=unmet)
        if unmet and self._sightings.began_lately():
            away += 1
        if away > self._table.replication_factor // 2:
            return False
        if not unmet and self._sightings.quiet():
            return True
        holders = self._holders(slot)
        others = [uid for uid in self._sightings.present() if uid not in holders]
        return self._outsiders.compared(slot, others, since)

    def _unmet(self, slot: int) -> list[Uid]:
        """Return the members with whom this node has not compared a slot since a fellow was last lost."""
        met = self._met.get(slot)
        if met is None:
            return []
        return [
            uid for uid in self._holders(slot) if uid != self._me and uid not in met and not self.in_sync(slot, uid)
        ]

    def _holders(self, slot: int) -> tuple[Uid, ...]:
        """Return the members that have the slot: the old ones while it is joint."""
        known = self._table.known(slot)
        return () if known is None else known.config.old or known.config.new

    async def caught_up(self, slot: int, timeout: float = CAUGHT_UP_TIMEOUT) -> None:
        """Return once this node has compared a slot with a majority of its members, itself included.

        That is since its start, since it became a member, or since it last lost a fellow. Raises Unavailable.
        """
        if slot not in self._behind:
            return
        self._hurry(slot)
        try:
            async with asyncio.timeout(timeout):
                await self._when_caught_up(slot)
        except TimeoutError:
            raise Unavailable("this node has not yet caught up with the slot's other members; try again") from None

    async def start_sync(self) -> None:
        """Return once this node has caught up with every slot of its own; the work goes on by itself."""
        while self._behind:
            await self._when_caught_up(next(iter(self._behind)))

    def in_sync(self, slot: int, uid: Uid) -> bool:
        """Say whether a fellow member is known to have what this node had when they last compared."""
        known = self._table.known(slot)
        return known is not None and self._in_sync.get(uid, {}).get(slot) == known.config.identity

    def under_replicated(self, acting: Collection[int] | None = None) -> list[int]:
        """Return the slots that this node acts for and whose members are too few, joint, not alive or not in sync.

        And those of which a register of this node is damaged: nobody but itself knows that it abstains, so it counts
        these, whoever acts for them. `acting` are the slots that it acts for, where the caller knows them already.
        """
        if acting is None:
            acting = self._table.slots_acted_for()
        living = {uid: self._in_sync.get(uid, {}) for uid in self._shared if self._peers.alive(uid)}
        found = [slot for slot in acting if slot in self._fellows and not self._whole(slot, living)]
        return sorted({*found, *self._table.damaged}) if self._table.damaged else found

    def _whole(self, slot: int, living: Mapping[Uid, Mapping[int, Identity]]) -> bool:
        """Say whether nothing is missing. Called for hundreds of slots at each scrape: it takes no detours."""
        known = self._table.known(slot)
        if known is None or slot in self._behind:
            return False
        config = known.config
        if config.old or len(config.new) < self._table.replication_factor:
            return False
        identity = config.identity
        for uid in self._fellows[slot]:
            equal = living.get(uid)
            if equal is None or equal.get(slot) != identity:
                return False
        return True

    # --- what happens ---

    def _changed(self, slot: int, known: KnownConfig) -> None:
        """Follow a slot's configuration."""
        before = self._fellows.pop(slot, None)
        for uid in before or ():
            self._shared[uid].discard(slot)
        if self._me not in known.config.members:
            self._met.pop(slot, None)
            self._catch_up(slot)
            return
        fellows = self._fellows[slot] = tuple(uid for uid in known.config.members if uid != self._me)
        if before is None:
            self._behind.add(slot)
            self._met[slot] = set()
        for uid in fellows:
            self._shared.setdefault(uid, set()).add(slot)
            # While joint, hand-over brings the new members up to date; doing it here too would send everything twice.
            if not known.config.joint and self._in_sync.get(uid, {}).get(slot) != known.config.identity:
                self._compare_soon(uid, (slot,))
        self._look_behind(slot)

    def _peer(self, uid: Uid, alive: bool) -> None:
        self._due.pop(uid, None)
        self._again.pop(uid, None)
        self._in_sync.pop(uid, None)
        slots = self._shared.get(uid)
        if not slots:
            return
        if alive:
            self._compare_soon(uid, [slot for slot in self._waiting if slot in slots])
            self._compare_soon(uid, sorted(slots))
        else:
            self._fall_behind(slots)

    def _fall_behind(self, slots: Iterable[int]) -> None:
        """Compare slots with the fellows that are left: what a lost one has acknowledged may be on any of them."""
        left: dict[Uid, list[int]] = {}
        for slot in sorted(slots):
            self._behind.add(slot)
            self._met[slot] = set()
            for uid in self._fellows[slot]:
                left.setdefault(uid, []).append(slot)
        for uid, shared in left.items():
            self._compare_soon(uid, shared)

    def _compared(self, slot: int, uid: Uid) -> None:
        """Note that everything that a fellow had of a slot is here."""
        met = self._met.get(slot)
        if met is not None:
            met.add(uid)
            self._look_behind(slot)

    def _look_behind(self, slot: int) -> None:
        members = self._holders(slot)
        if slot not in self._behind or not members:
            return
        compared = self._met[slot]
        have = compared | {self._me} if self._me in members else compared
        if majority(members, have):
            self._catch_up(slot)

    def _catch_up(self, slot: int) -> None:
        self._behind.discard(slot)
        for future in self._waiting.pop(slot, ()):
            if not future.done():
                future.set_result(None)

    async def _when_caught_up(self, slot: int) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(slot, []).append(future)
        try:
            await future
        finally:
            waiting = self._waiting.get(slot, [])
            if future in waiting:
                waiting.remove(future)
                if not waiting:
                    del self._waiting[slot]

    def _hurry(self, slot: int) -> None:
        """Compare a slot now, past everything that is due."""
        if slot in self._hurried:
            return
        live = [uid for uid in self._fellows.get(slot, ()) if self._peers.alive(uid)]
        if live:
            self._hurried.add(slot)
            self._tasks.start(self._compare_now(slot, live), "catch up with a slot")

    async def _compare_now(self, slot: int, uids: Sequence[Uid]) -> None:
        try:
            await asyncio.gather(*(self._round(uid, {slot: self._due.get(uid, {}).pop(slot, 0)}) for uid in uids))
        finally:
            self._hurried.discard(slot)

    # --- comparing ---

    def _compare_soon(self, uid: Uid, slots: Sequence[int]) -> None:
        if self._peers.alive(uid):
            due = self._due.setdefault(uid, {})
            for slot in slots:
                due.setdefault(slot, 0)
            self._start(uid)

    def _start(self, uid: Uid) -> None:
        if uid not in self._comparing and self._due.get(uid) and self._peers.alive(uid):
            self._comparing.add(uid)
            self._tasks.start(self._compare(uid), "compare with a member")

    async def _compare(self, uid: Uid) -> None:
        """Compare all slots that are due with a fellow; what else becomes due meanwhile too."""
        try:
            while self._peers.alive(uid) and (due := self._due.get(uid)):
                batch = dict(islice(due.items(), SLOTS_AT_ONCE))
                for slot in batch:
                    del due[slot]
                try:
                    await self._round(uid, batch)
                except Exception:
                    log.exception("slots not compared", member=uid, slots=len(batch))
                    self._again.setdefault(uid, {}).update(batch)
        finally:
            self._comparing.discard(uid)

    async def _round(self, uid: Uid, batch: dict[int, int]) -> None:
        """Compare slots with a fellow, all records counted, and mend those that differ."""
        shared = self._shared.get(uid, set())
        identities = {slot: self._identity(slot) for slot in batch if slot in shared}
        if not identities:
            return
        try:
            differing = await self.comparison.differing_slots(uid, list(identities), 0)
        except CoterieError as error:
            log.info("slots not compared", member=uid, slots=len(identities), reason=error.detail)
            self._again.setdefault(uid, {}).update(batch)
            return
        for slot, identity in identities.items():
            if slot not in differing:
                self._compared(slot, uid)
                self._equal(slot, uid, identity)
        await asyncio.gather(*(self._mend(slot, uid, batch[slot], identities[slot]) for slot in sorted(differing)))

    async def _mend(self, slot: int, uid: Uid, found: int, identity: Identity | None) -> None:
        """Pull what differs. The fellow does so too; what it still lacks at the next tick is pushed."""
        async with self._gate:
            try:
                equal = await self.comparison.pull(slot, uid)
                self._compared(slot, uid)
                if found and not equal:
                    # Under way there is always something; what comes later reaches both by append.
                    await self.comparison.push(slot, uid)
                    equal = True
            except CoterieError as error:
                log.info("slot not compared", slot=slot, member=uid, reason=error.detail)
                self._in_sync.get(uid, {}).pop(slot, None)
                equal = False
            except Exception:
                log.exception("slot not compared", slot=slot, member=uid)
                self._in_sync.get(uid, {}).pop(slot, None)
                equal = False
        if equal:
            self._equal(slot, uid, identity)
        else:
            self._again.setdefault(uid, {})[slot] = found + 1

    def _joint(self, slot: int) -> bool:
        known = self._table.known(slot)
        return known is not None and known.config.joint

    def _identity(self, slot: int) -> Identity | None:
        known = self._table.known(slot)
        return known.config.identity if known is not None else None

    def _equal(self, slot: int, uid: Uid, identity: Identity | None) -> None:
        """Note that a fellow is in sync, unless the comparison began under a configuration that is no more.

        Two comparisons of a slot may be under way (one was hurried): the one that ends last need not be the one that
        began last, and what it found out about the old configuration must not hide the other's finding.
        """
        if identity is None or not self._peers.alive(uid):
            return
        if identity == self._identity(slot):
            self._in_sync.setdefault(uid, {})[slot] = identity
        elif slot in self._shared.get(uid, ()) and not self.in_sync(slot, uid):
            self._compare_soon(uid, (slot,))

    # --- in case that nothing was noticed ---

    def _patrol(self, uid: Uid) -> None:
        if self._shared[uid] and uid not in self._patrolled and self._peers.alive(uid):
            self._patrolled.add(uid)
            self._tasks.start(self._compare_settled(uid), "compare settled records")

    async def _compare_settled(self, uid: Uid) -> None:
        """Compare what has settled; what differs in that is compared as if it were new."""
        settled_ms = self._settings.settled_ms
        slots = sorted(self._shared[uid])
        self._compare_soon(uid, [slot for slot in slots if not self._joint(slot) and not self.in_sync(slot, uid)])
        try:
            for start in range(0, len(slots), SLOTS_AT_ONCE):
                for slot in sorted(
                    await self.comparison.differing_slots(uid, slots[start : start + SLOTS_AT_ONCE], settled_ms)
                ):
                    async with self._gate:
                        await self.comparison.pull(slot, uid, settled_ms)
                    self._compare_soon(uid, (slot,))
        except CoterieError as error:
            log.info("settled records not compared", member=uid, reason=error.detail)
        finally:
            self._patrolled.discard(uid)
