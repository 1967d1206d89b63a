"""A node that was away for long: did the ring go on without it, slot by slot, and what may it still bring?

Tombstones go only while every member of a slot is there. So as long as a slot's newest configuration names this node,
nothing that it holds was forgotten meanwhile, however long it was away. Where the slot went on without it, deleted
messages may be forgotten by now: what is archived here may be one of them. There it brings only what is pending (too
old to matter, or still remembered), and drops the rest.

This runs before the node takes part in the ring, so that nobody makes it a member of anything meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from enum import Enum

import structlog

from coterie_protocol.errors import CoterieError
from coterie_protocol.identifiers import Uid
from coterie_protocol.nodes import NodeRef, Refs, WhoIs
from coterie_protocol.registers import ConfigKnown, ConfigQuery
from coterie_protocol.words import counted

from ...runtime.ports import Clock, Peers, Store, StoreError
from ..configuration import SlotTable
from ..handoff import TICK, Strays

log = structlog.get_logger()

ASK_TIMEOUT = 2.0
PAUSE = 0.5
"""Seconds between two rounds of questions."""
ASKED_AT_ONCE = 256
"""Slots of one question."""


class Verdict(Enum):
    """What became of a slot."""

    NAMED = "named"
    """Its newest configuration names this node."""
    GONE = "gone"
    """It has gone on to members of which this node is none."""
    UNKNOWN = "unknown"
    """Too few have answered to tell."""


class Returning:
    """Finds out what the ring did meanwhile, and hands over what may be handed over."""

    def __init__(
        self,
        table: SlotTable,
        store: Store,
        peers: Peers,
        strays: Strays,
        clock: Clock,
        candidates: Callable[[], Iterable[NodeRef]],
    ) -> None:
        """Take `candidates` to name nodes that may be of this ring."""
        self._table = table
        self._store = store
        self._peers = peers
        self._strays = strays
        self._clock = clock
        self._candidates = candidates
        self._me = peers.me
        self._heard: dict[int, set[Uid]] = {}

    async def run(self, say: Callable[[str], None]) -> bool:
        """Return whether the ring has gone on without this node altogether; then nothing is left to bring.

        `say` is told what is waited for: that can take as long as the members of its slots are away.
        """
        slots = await self._slots()
        gone = await self._judge(slots, say)
        if gone:
            log.warning("the ring went on without this node", slots=len(gone), still_named=len(slots) - len(gone))
            await self._hand_over(gone, say)
        return bool(gone) and len(gone) == len(slots)

    async def _slots(self) -> list[int]:
        """Return the slots of which this node was a member or holds records."""
        held = await self._store.read(lambda tx: tx.slots_with_records())
        own = (slot for slot in self._table.own_slots() if self._table.member_of(slot))
        return sorted(held.keys() | set(own))

    # --- did the ring go on? ---

    async def _judge(self, slots: Sequence[int], say: Callable[[str], None]) -> list[int]:
        """Return the slots that went on, once each slot's fate is known."""
        while True:
            verdicts = {slot: self.verdict(slot) for slot in slots}
            unknown = [slot for slot, verdict in verdicts.items() if verdict is Verdict.UNKNOWN]
            if not unknown:
                return [slot for slot, verdict in verdicts.items() if verdict is Verdict.GONE]
            left = f"{len(unknown)} of {counted(len(slots), 'slot')} are not known yet"
            say(f"asks whether the ring went on without it: {left}")
            if not await self._ask_all(unknown):
                await self._clock.sleep(PAUSE)

    def verdict(self, slot: int) -> Verdict:
        """Judge a slot by the newest configuration known, and by who was asked whether there is a newer one."""
        known = self._table.known(slot)
        if known is None:
            return Verdict.UNKNOWN
        config = known.config
        if self._me not in config.members:
            return Verdict.UNKNOWN if config.joint else Verdict.GONE
        # A newer one is chosen only by a quorum of this one: whoever has heard another quorum knows of it.
        return Verdict.NAMED if config.quorum(self._heard.get(slot, set()) | {self._me}) else Verdict.UNKNOWN

    async def _ask_all(self, slots: Sequence[int]) -> bool:
        """Ask everybody who may know; say whether anything was learnt."""
        members = {uid for slot in slots for uid in self._table.members(slot)} - {self._me}
        found = await asyncio.gather(*(self._contact(ref) for ref in self._candidates() if ref.uid != self._me))
        uids = sorted(members | {uid for uid in found if uid is not None})
        self._peers.want(members)
        await self._learn_addresses([uid for uid in uids if self._peers.ref(uid) is None], uids)
        news = await asyncio.gather(*(self._ask(uid, slots) for uid in uids if self._peers.ref(uid) is not None))
        return any(news)

    async def _contact(self, ref: NodeRef) -> Uid | None:
        if ref.uid and self._peers.alive(ref.uid):
            return ref.uid
        try:
            return (await self._peers.contact(ref.host, ref.peer_port, ASK_TIMEOUT)).uid
        except CoterieError:
            return None

    async def _learn_addresses(self, unknown: Sequence[Uid], uids: Sequence[Uid]) -> None:
        for uid in uids if unknown else ():
            if self._peers.alive(uid):
                with suppress(CoterieError):
                    reply = await self._peers.request(uid, WhoIs(list(unknown)), ASK_TIMEOUT)
                    if isinstance(reply, Refs):
                        self._peers.learn(reply.nodes)

    async def _ask(self, uid: Uid, slots: Sequence[int]) -> bool:
        news = False
        for start in range(0, len(slots), ASKED_AT_ONCE):
            try:
                reply = await self._peers.request(
                    uid, ConfigQuery(list(slots[start : start + ASKED_AT_ONCE])), ASK_TIMEOUT
                )
            except CoterieError:
                break
            if isinstance(reply, ConfigKnown):
                newer = {known.slot for known in self._table.learn(reply.items)}
                for known in reply.items:
                    # Who answered about an older configuration has not been asked about the newer one.
                    heard = self._heard.setdefault(known.slot, set())
                    if known.slot in newer:
                        heard.clear()
                    news |= known.slot in newer or uid not in heard
                    heard.add(uid)
        return news

    # --- what may be brought ---

    async def _hand_over(self, slots: Sequence[int], say: Callable[[str], None]) -> None:
        """Have the slots' members confirm what is pending here, and drop everything else."""
        self._strays.only_pending.update(slots)
        while left := await self._left(slots):
            say(f"the ring went on without it: hands over what is pending, {counted(left, 'record')} to go")
            await self._strays.round()
            await self._clock.sleep(TICK)

    async def _left(self, slots: Sequence[int]) -> int:
        try:
            held = await self._store.read(lambda tx: tx.slots_with_records())
        except StoreError as error:
            log.warning("cannot look for what is left to hand over", reason=str(error))
            return 1
        return sum(held.get(slot, 0) for slot in slots)
