"""Round-trip times to the near nodes, measured now and then over the links that stand.

An echo waits behind what is queued on the link, and for the other's event loop: what it measures is what a request
costs just now, not what the cable could do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping

from coterie_protocol.errors import CoterieError
from coterie_protocol.identifiers import Uid
from coterie_protocol.nodes import Ping, Pong

from ..runtime.ports import Clock, Peers

INTERVAL = 5.0
"""Seconds between two measurements of a peer. A node has some ten near ones: two small frames a second in all."""
LOOK = 1.0
"""Seconds between two looks at who is near: a new neighbour is measured within this."""
TIMEOUT = 5.0


class Echo:
    """Measures; `near` says to whom."""

    def __init__(self, peers: Peers, near: Callable[[], Iterable[Uid]], clock: Clock) -> None:
        self._peers = peers
        self._near = near
        self._clock = clock
        self._seconds: dict[Uid, float] = {}
        self._due: dict[Uid, float] = {}

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            now = self._clock.now()
            linked = self._linked()
            self._due = {uid: self._due.get(uid, now) for uid in linked}
            await asyncio.gather(*(self._measure(uid) for uid in linked if self._due[uid] <= now))
            await self._clock.sleep(LOOK)

    def seconds(self) -> Mapping[Uid, float]:
        """Return the last round trip to each near node that is alive."""
        return {uid: self._seconds[uid] for uid in self._linked() if uid in self._seconds}

    def _linked(self) -> list[Uid]:
        """Return whom to measure; forget the others: no more is kept than there are near nodes."""
        near = [uid for uid in dict.fromkeys(self._near()) if self._peers.alive(uid)]
        self._seconds = {uid: self._seconds[uid] for uid in near if uid in self._seconds}
        return near

    async def _measure(self, uid: Uid) -> None:
        begun = self._clock.now()
        self._due[uid] = begun + INTERVAL
        try:
            answer = await self._peers.request(uid, Ping(), TIMEOUT)
        except CoterieError:
            self._seconds.pop(uid, None)
            return
        if isinstance(answer, Pong):
            self._seconds[uid] = self._clock.now() - begun
