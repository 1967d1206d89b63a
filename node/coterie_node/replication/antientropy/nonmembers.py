"""Nodes that are no members of a slot, and may hold what was acknowledged in it: stand-ins, and members that it left.

They hand over what they hold by themselves (`handoff`), but when they are done nobody can tell who does not ask: a node
that was a member, and was replaced while it was away, has whole slots to go through. Whoever acts for a slot compares
it with them, and takes what it lacks: as soon as one is there again, and whenever a drain has to be certain.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from itertools import islice

import structlog

from coterie_protocol.errors import CoterieError
from coterie_protocol.identifiers import Uid

from ...runtime.ports import Clock, Peers, Tasks
from ..configuration import SlotTable
from .digests import SLOTS_AT_ONCE, Comparison
from .pages import AT_ONCE

log = structlog.get_logger()

PAUSE = 0.5
"""Seconds between two frames to one node, unless they are full: in a large ring many drains ask many nodes."""


class Outsiders:
    """Compares slots with nodes that are no members of them."""

    def __init__(self, table: SlotTable, peers: Peers, comparison: Comparison, clock: Clock, tasks: Tasks) -> None:
        self._table = table
        self._peers = peers
        self._comparison = comparison
        self._clock = clock
        self._tasks = tasks
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._compared: dict[Uid, dict[int, float]] = {}
        """When the last comparison of a slot with a node began of those that ended well since the node came."""
        self._due: dict[Uid, dict[int, None]] = {}
        self._comparing: set[Uid] = set()
        peers.watch(self._peer)

    def compared(self, slot: int, uids: Iterable[Uid], since: float) -> bool:
        """Say whether all that these hold of a slot was taken over after a time (Clock.now); if not, see to it."""
        missing = [uid for uid in uids if self._compared.get(uid, {}).get(slot, -1.0) < since]
        for uid in missing:
            self._compare_soon(uid, (slot,))
        return not missing

    def _peer(self, uid: Uid, alive: bool) -> None:
        self._compared.pop(uid, None)
        self._due.pop(uid, None)
        if alive:
            table = self._table
            self._compare_soon(uid, [slot for slot in table.slots_acted_for() if uid not in table.members(slot)])

    def _compare_soon(self, uid: Uid, slots: Iterable[int]) -> None:
        if not self._peers.alive(uid):
            return
        due = self._due.setdefault(uid, {})
        due.update(dict.fromkeys(slots))
        if due and uid not in self._comparing:
            self._comparing.add(uid)
            self._tasks.start(self._compare(uid), "compare with a node that is no member")

    async def _compare(self, uid: Uid) -> None:
        """Compare all slots that are due with a node; what becomes due meanwhile too."""
        try:
            while self._peers.alive(uid) and (due := self._due.get(uid)):
                batch = list(islice(due, SLOTS_AT_ONCE))
                for slot in batch:
                    del due[slot]
                answered = await self._round(uid, batch)
                if not answered or len(batch) < SLOTS_AT_ONCE:
                    await self._clock.sleep(PAUSE)
        finally:
            self._comparing.discard(uid)

    async def _round(self, uid: Uid, slots: Sequence[int]) -> bool:
        """Compare slots with a node, and take what it has; False when it did not answer."""
        began = self._clock.now()
        try:
            ahead = await self._comparison.slots_ahead(uid, slots)
        except CoterieError as error:
            # Who has to be certain asks again.
            log.info("slots not compared", outsider=uid, slots=len(slots), reason=error.detail)
            return False
        self._note(uid, set(slots).difference(ahead), began)
        await asyncio.gather(*(self._pull(slot, uid, began) for slot in ahead))
        return True

    async def _pull(self, slot: int, uid: Uid, began: float) -> None:
        async with self._gate:
            try:
                await self._comparison.pull(slot, uid)
            except CoterieError as error:
                log.info("slot not compared", slot=slot, outsider=uid, reason=error.detail)
            else:
                self._note(uid, (slot,), began)

    def _note(self, uid: Uid, slots: Iterable[int], began: float) -> None:
        """Note what was compared, unless the node has gone meanwhile: what it takes elsewhere is not known."""
        if self._peers.alive(uid):
            self._compared.setdefault(uid, {}).update(dict.fromkeys(slots, began))
