"""Hand-over: the one mechanism behind join, leave, crash, replacement and a shifted node.

The acting owner of a slot compares the slot's members with what the ring suggests. When they differ for long enough it
(1) commits the joint configuration, (2) brings the new members up to date, (3) commits the new configuration alone:
rules 5 to 8 and 12 of the slot protocol. Slots go in batches, and every point can be resumed by any member, because
what is found joint is simply carried on.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import structlog

from coterie_protocol.errors import CoterieError
from coterie_protocol.identifiers import Uid
from coterie_protocol.registers import ConfigEpochs, KnownConfig, majority, majority_of

from ...runtime.ports import Clock, Peers, StoreError, Suggestions
from ..configuration import SlotTable
from ..consensus.proposer import Proposer
from ..settings import ReplicationSettings
from .state_transfer import Sync

if TYPE_CHECKING:
    import random

log = structlog.get_logger()

BATCHES_AT_ONCE = 2
"""One is copied while another changes its configurations, which is a few fsyncs and little work."""


class Handover:
    """Follows the ring's suggestions for the slots that this node acts for."""

    def __init__(
        self,
        table: SlotTable,
        peers: Peers,
        suggestions: Suggestions,
        proposer: Proposer,
        sync: Sync,
        clock: Clock,
        rng: random.Random,
        settings: ReplicationSettings,
    ) -> None:
        self._table = table
        self._peers = peers
        self._suggestions = suggestions
        self._proposer = proposer
        self._sync = sync
        self._clock = clock
        self._rng = rng
        self._settings = settings
        self._stable: dict[int, tuple[tuple[Uid, ...], float]] = {}
        self._acting_since: dict[int, float] = {}
        self._gossiped = 0.0
        self.phases: Counter[str] = Counter()
        """How many slots are in which phase of hand-over on this node just now."""
        self.completed = 0
        """Hand-overs that this node has carried through since its start."""

    async def run(self) -> None:
        """Compare and act, round after round, until cancelled. A failed round is logged and tried again."""
        while True:
            await self._clock.sleep(self._settings.handover_round * self._rng.uniform(0.8, 1.2))
            try:
                await self.round()
                self._gossip()
            except (CoterieError, StoreError) as error:
                log.info("hand-over round not completed", reason=str(error))
            except Exception:
                # Whatever it was, slots must go on being looked after: the next round finds everything as it is.
                log.exception("hand-over round failed")
            finally:
                self.phases.clear()

    async def round(self) -> None:
        """Carry out one round for everything that is due."""
        wishes = await self._due()
        batch = self._settings.handover_batch
        slots = sorted(wishes)
        self.phases["joining"] = len(slots)
        gate = asyncio.Semaphore(BATCHES_AT_ONCE)
        parts = [slots[start : start + batch] for start in range(0, len(slots), batch)]
        # To the end, whatever becomes of one: the next round must not find a batch under way.
        ends = await asyncio.gather(
            *(self._carry({slot: wishes[slot] for slot in part}, gate) for part in parts), return_exceptions=True
        )
        for end in ends:
            if isinstance(end, CoterieError | StoreError):
                log.info("slots not handed over yet", reason=str(end))
            elif isinstance(end, Exception):
                log.error("slots not handed over yet", exc_info=end)
            elif end is not None:
                raise end
        unsure = self._unconfirmed()
        for start in range(0, len(unsure), batch):
            part = unsure[start : start + batch]
            chosen = await self._proposer.confirm(part)
            self._proposer.announce(chosen.values(), {})

    async def _carry(self, wishes: Mapping[int, tuple[Uid, ...]], gate: asyncio.Semaphore) -> None:
        async with gate:
            joints = await self._proposer.join(wishes)
            self._proposer.announce(joints.values(), {})
            self.phases["joining"] -= len(joints)
            self.phases["syncing"] += len(joints)
            synced = await self._sync.run(list(joints.values()))
            self.phases["syncing"] -= len(joints)
            self.phases["settling"] += len(synced)
            done = await self._proposer.settle(synced)
            self.phases["settling"] -= len(synced)
            self.completed += len(done)
            if done:
                log.info("slots handed over", slots=len(done), left=self.phases.total())

    async def _due(self) -> dict[int, tuple[Uid, ...]]:
        """Return the slots to hand over now, with the members wished for."""
        acting = self._table.slots_acted_for()
        now = self._clock.now()
        known_acting = set(acting)
        for slot in [slot for slot in self._acting_since if slot not in known_acting]:
            del self._acting_since[slot]
        for slot in acting:
            self._acting_since.setdefault(slot, now)
        suggested = await self._suggestions.members(acting) if acting else {}
        now = self._clock.now()
        due: dict[int, tuple[Uid, ...]] = {}
        for slot in acting:
            known = self._table.known(slot)
            if known is None:
                continue
            if known.config.joint:
                due[slot] = self._onward(known)
                continue
            wish = suggested.get(slot, ())
            if wish == known.config.new or not self._acceptable(known, wish):
                self._stable.pop(slot, None)
                continue
            held, since = self._stable.get(slot, ((), now))
            if held != wish:
                self._stable[slot] = (wish, now)
            elif now - since >= self._settings.settle:
                due[slot] = wish
        return due

    def _onward(self, known: KnownConfig) -> tuple[Uid, ...]:
        """Return the members to wish for where a joint configuration is known.

        Whoever acts carries it on; its one successor is fixed (rule 7). But it may never have been chosen, and those
        who had accepted it may be gone for good: then the old members go over to themselves, and are rid of it.
        """
        config = known.config
        reachable = majority(config.new, {uid for uid in config.new if self._table.live(uid)})
        return config.new if reachable else config.old

    def _acceptable(self, known: KnownConfig, wish: tuple[Uid, ...]) -> bool:
        """Say whether a suggestion may be followed: K live nodes, and no member that may still return."""
        enough = len(set(wish)) == self._table.replication_factor or self._regrows(known, wish)
        if not enough or not all(self._table.live(uid) for uid in wish):
            return False
        return not any(self._may_return(uid) for uid in known.config.new if uid not in wish)

    def _regrows(self, known: KnownConfig, wish: tuple[Uid, ...]) -> bool:
        """Say whether a slot that began anew after an accepted loss gets a majority of K copies, where K are not there.

        So many disks are what an acknowledgement promises; the rest comes with the nodes that come.
        """
        config, needed = known.config, majority_of(self._table.replication_factor)
        grows = set(config.new) < set(wish)
        return bool(config.generation) and grows and len(set(wish)) >= needed > len(config.new)

    def _may_return(self, uid: Uid) -> bool:
        if self._table.live(uid):
            return False
        since = self._peers.down_since(uid)
        return since is not None and self._clock.now() - since < self._settings.replace_after

    def _unconfirmed(self) -> list[int]:
        """Return the slots that this node acts for whose configuration it does not know to be chosen."""
        limit = self._clock.now() - self._settings.confirm_after
        found = []
        for slot, since in self._acting_since.items():
            known = self._table.known(slot)
            if since <= limit and known is not None and not self._table.is_chosen(known):
                found.append(slot)
        return sorted(found)

    def _gossip(self) -> None:
        """Tell fellow members the epochs of shared slots, so that a lost announcement is made good."""
        now = self._clock.now()
        if now - self._gossiped < self._settings.gossip_interval:
            return
        self._gossiped = now
        shared: dict[Uid, list[tuple[int, int]]] = {}
        for slot, epoch, uids in self._epochs():
            for uid in uids:
                shared.setdefault(uid, []).append((slot, epoch))
        for uid, items in shared.items():
            if self._peers.alive(uid):
                self._peers.send(uid, ConfigEpochs(items), bulk=True)

    def _epochs(self) -> Iterable[tuple[int, int, tuple[Uid, ...]]]:
        """Yield (slot, epoch of the own register, who else may know better) for every own register.

        If it is not known to be chosen, another may have been, in the same epoch, while this node was away: without
        that one it has no vote. So it says the epoch before, too: whoever knows what was chosen since answers with it.
        """
        for slot in self._table.own_slots():
            own, known = self._table.own(slot), self._table.known(slot)
            if own is None or known is None:
                continue
            others = dict.fromkeys((*own.config.members, *known.config.members))
            others.pop(self._peers.me, None)
            yield slot, own.config.epoch, tuple(others)
            if not self._table.is_chosen(own):
                yield slot, own.config.epoch - 1, tuple(others)
