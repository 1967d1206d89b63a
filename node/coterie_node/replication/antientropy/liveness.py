"""When other nodes came and went: who may hold something that nobody else has, and cannot be asked for it now."""

from __future__ import annotations

from collections.abc import Container

from coterie_protocol.identifiers import Uid

from ...runtime.ports import Clock, Peers

SETTLED = 5.0
"""Seconds after which stand-ins have, as a rule, handed over what they took for a lost member to the others: they do so
as soon as they see one, again after a second, and again (`handoff`). Who has to be certain asks them (`nonmembers`)."""
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

    def gone_lately(self, but: Container[Uid]) -> int:
        """Count the nodes that went lately and are not back; `but` these."""
        now = self._clock.now()
        return sum(not alive and now - at < LATELY and uid not in but for uid, (at, alive) in self._seen.items())

    def present(self) -> list[Uid]:
        """Return the nodes that came and are there."""
        return [uid for uid, (_, alive) in self._seen.items() if alive]

    def quiet(self) -> bool:
        """Say whether nobody has come or gone lately, this node included."""
        now = self._clock.now()
        return not self.began_lately() and all(now - at >= LATELY for at, _ in self._seen.values())

    def began_lately(self) -> bool:
        """Say whether this node started so lately that it does not know who went before."""
        return self._clock.now() - self._started < LATELY
