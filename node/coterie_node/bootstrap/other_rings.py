"""What becomes of a node that meets nodes of another ring: it says so, or gives its own empty ring up for theirs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from ..logs.ration import Ration
from . import identity as identities
from .identity import Meeting, Membership

if TYPE_CHECKING:
    from coterie_protocol.nodes import PeerHello

    from ..runtime.ports import Clock, Store

log = structlog.get_logger()

MOST = 64
"""Other rings that are remembered."""


class Strangers:
    """The other rings that were met."""

    def __init__(
        self, expected: str, store: Store, clock: Clock, alone: Callable[[], bool], give_up: Callable[[], None]
    ) -> None:
        """Take the uid of the ring that was asked for, if one was."""
        self._expected = expected
        self._store = store
        self._clock = clock
        self._alone = alone
        self._give_up = give_up
        self._first: dict[str, float] = {}
        """When each was first met."""
        self._say = Ration(log.error, "another ring", clock.now)

    async def met(self, ring: Membership, hello: PeerHello) -> None:
        """Judge what a node of another ring said. Raises StoreError."""
        alone = self._alone()
        if len(self._first) >= MOST and hello.ring_uid not in self._first:
            del self._first[next(iter(self._first))]
        first = self._first.setdefault(hello.ring_uid, self._clock.now())
        decided = identities.meet(
            ring,
            hello,
            expected=self._expected,
            holds_data=not alone or await self._store.read(identities.in_use),
            seen_for=self._clock.now() - first,
        )
        if decided is Meeting.SAY:
            self._say(hello.ring_uid, what=identities.stranger(ring, hello))
        elif decided is Meeting.GIVE_UP:
            log.warning("gives its empty ring up to join another", ring_uid=hello.ring_uid)
            self._give_up()
