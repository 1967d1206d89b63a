"""Finding who acts for a slot, and asking it.

A node caches the configurations that it has learnt, so that the usual request goes straight to the acting owner. A
stale entry costs one more hop, never a wrong answer: whoever is asked checks for itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from coterie_protocol.errors import CoterieError, ErrorCode, StaleEpoch, Unavailable
from coterie_protocol.identifiers import Uid
from coterie_protocol.registers import ConfigKnown, ConfigQuery, KnownConfig

from ..runtime.ports import Clock, Peers, Suggestions
from .configuration import SlotTable

if TYPE_CHECKING:
    import random

ATTEMPT_TIMEOUT = 3.0
"""How long one node is asked before the next is tried."""
QUERY_TIMEOUT = 1.0
PAUSE = 0.05

RETRIED = frozenset(
    {
        ErrorCode.UNAVAILABLE,
        ErrorCode.UNKNOWN_SLOT,
        ErrorCode.BUSY,
        ErrorCode.SHUTTING_DOWN,
        ErrorCode.STALE_EPOCH,
    }
)


class Local(Protocol):
    """Answers requests on this node (`dispatch.Dispatcher`)."""

    async def request(self, sender: Uid, message: Any) -> Any:
        """Answer, or raise CoterieError."""
        ...


class Router:
    """Routes requests to acting owners."""

    def __init__(
        self,
        table: SlotTable,
        peers: Peers,
        suggestions: Suggestions,
        local: Local,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._table = table
        self._peers = peers
        self._suggestions = suggestions
        self._local = local
        self._clock = clock
        self._rng = rng
        table.watch(self._learnt)

    def acting(self, slot: int) -> Uid | None:
        """Return the slot's acting owner as far as this node knows; None when it knows no live member."""
        return self._table.acting(slot)

    async def locate(self, slot: int, timeout: float) -> Uid:
        """Return the slot's acting owner, asking the ring when nothing that is known helps. Raises Unavailable."""
        deadline = self._clock.now() + timeout
        while True:
            if (uid := self._table.acting(slot)) is not None:
                return uid
            for uid in await self._candidates(slot):
                if await self._query(slot, uid) and (found := self._table.acting(slot)) is not None:
                    return found
            if self._clock.now() >= deadline:
                raise Unavailable("none of the nodes that hold this name can be reached; try again")
            await self._clock.sleep(PAUSE * self._rng.uniform(0.5, 1.5))

    async def call(self, slot: int, message: Any, timeout: float) -> Any:
        """Ask the slot's acting owner; follow newer configurations and dead owners until the time is over.

        The message may be carried out more than once, so it must be idempotent. Raises Unavailable, or the CoterieError
        that was answered.
        """
        deadline = self._clock.now() + timeout
        last: CoterieError | None = None
        while (left := deadline - self._clock.now()) > 0:
            try:
                uid = await self.locate(slot, left)
                if uid == self._peers.me:
                    return await self._local.request(uid, message)
                return await self._peers.request(uid, message, min(left, ATTEMPT_TIMEOUT))
            except CoterieError as error:
                if error.wire_code not in RETRIED:
                    raise
                last = error
                if isinstance(error, StaleEpoch) and self._table.learn(error.known):
                    continue
            if last is not None and last.wire_code is ErrorCode.UNAVAILABLE and self._table.lacks(slot):
                break  # It has been tried for as long as one attempt takes; who asks may try again.
            await self._clock.sleep(PAUSE * self._rng.uniform(0.5, 1.5))
            if last is not None and last.wire_code is ErrorCode.UNKNOWN_SLOT:
                await self.refresh(slot)
        if lacks := self._table.lacks(slot):
            raise Unavailable(lacks)  # and not whoever happened to be asked last, who may be well
        if last is not None and last.wire_code in (ErrorCode.BUSY, ErrorCode.UNAVAILABLE):
            raise last
        raise Unavailable("nobody who holds this name could answer in time; try again")

    async def refresh(self, slot: int) -> None:
        """Ask the members that are known, and those whom the ring suggests, for their newest configuration."""
        for uid in await self._candidates(slot):
            await self._query(slot, uid)

    async def _candidates(self, slot: int) -> list[Uid]:
        """Return who may know the slot: its known members, then those whom the ring suggests."""
        suggested = (await self._suggestions.members([slot])).get(slot, ())
        known = self._table.members(slot)
        return [uid for uid in dict.fromkeys((*known, *suggested)) if uid != self._peers.me]

    async def _query(self, slot: int, uid: Uid) -> bool:
        try:
            reply = await self._peers.request(uid, ConfigQuery([slot]), QUERY_TIMEOUT)
        except CoterieError:
            return False
        if isinstance(reply, ConfigKnown):
            self._table.learn(reply.items)
        return True

    def _learnt(self, _: int, known: KnownConfig) -> None:
        """Keep links to the members: whether they live is what makes one of them the acting owner."""
        self._peers.want(uid for uid in known.config.members if uid != self._peers.me)
