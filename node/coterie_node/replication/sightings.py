"""When other nodes came and went: who may hold something that nobody else has, and cannot be asked for it now."""

from __future__ import annotations

from collections.abc import Container

from coterie_protocol.identifiers import Uid

from .ports import Clock, Peers

SETTLED = 5.0
"""Seconds after which stand-ins have handed over what they took for a lost member to the others: they do so as soon as
they see one, again after a second, and again (`strays`)."""
LATELY = 120.0
"""Seconds after which a node that went is not expected back with something that nobody else has."""
MOST = 1024
"""Nodes of which it is known when they came or went last."""


class Sightings:
    """Follows who comes and goes."""

    def __init__(self, peers: Peers, clock: Clock) -> None:
        self._clock = clock
        self._seen: dict[Uid, tuple[float, bool]] = {}
        """When nodes last came (True) or went."""
        self._started = clock.now()
        peers.watch(self._peer)

    def _peer(self, uid: Uid, alive: bool) -> None:
        self._seen.pop(uid, None)
        self._seen[uid] = (self._clock.now(), alive)
        if len(self._seen) > MOST:
            del self._seen[next(iter(self._seen))]

    def unsettled(self, but: Container[Uid]) -> int:
        """Count the nodes that went lately, or came so lately that they have not handed over yet; `but` these."""
        now = self._clock.now()
        return sum(
            now - at < (SETTLED if alive else LATELY) for uid, (at, alive) in self._seen.items() if uid not in but
        )

    def began_lately(self) -> bool:
        """Say whether this node started so lately that it does not know who went before."""
        return self._clock.now() - self._started < LATELY
