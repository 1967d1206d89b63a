"""Heartbeats: says on every link that this node lives, and cuts the links on which nothing was heard for too long."""

from __future__ import annotations

import math
from collections.abc import Mapping

from coterie_protocol.identifiers import Uid

from ..runtime.ports import Clock
from .address_book import Book
from .link import Link
from .settings import PeerSettings

LOOKS_PER_BEAT = 2


class Pulse:
    """Looks at all links twice a heartbeat.

    Silence is counted in looks, not in seconds. When this process itself stood still (stopped, starved, a blocked
    loop), no looks were made meanwhile, so no peer is blamed for it: what waits in the sockets is read before the next
    one. A peer that is silent for `silence` seconds of ours is found within that time, early by up to one look.
    """

    def __init__(self, links: Mapping[Uid, Link], book: Book, clock: Clock, settings: PeerSettings) -> None:
        self._links = links
        self._book = book
        self._clock = clock
        self._interval = settings.heartbeat / LOOKS_PER_BEAT
        self._patience = max(2 * LOOKS_PER_BEAT, math.ceil(settings.silence / self._interval) - 1)
        self._reason = f"silent for {settings.silence:g} s"

    async def run(self) -> None:
        """Beat until cancelled."""
        turn = 0
        while True:
            await self._clock.sleep(self._interval)
            turn += 1
            for link in list(self._links.values()):
                if turn % LOOKS_PER_BEAT == 0:
                    link.beat()
                if link.look() >= self._patience:
                    link.end(self._reason)
            self._book.tell()
