"""Asks discovery in the background, so that who needs addresses has them at hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import structlog

from ..config.settings import Address
from .base import Discovery

if TYPE_CHECKING:
    from ..runtime.ports import Clock

log = structlog.get_logger()

QUICK = 0.5
"""Seconds between two questions while the node is alone or has just started: everybody may have moved."""
CALM = 5.0
"""The same when all is well: one look-up, a name server's or none at all."""
SETTLING = 30.0
"""Seconds from the start for which it is quick in any case: small circles that found each other first look on."""


class Lookout:
    """Keeps what discovery knows. `alone` says whether the node sees no other node of its ring."""

    def __init__(self, discovery: Discovery, clock: Clock, alone: Callable[[], bool]) -> None:
        self._discovery = discovery
        self._clock = clock
        self._alone = alone
        self.addresses: Sequence[Address] = ()
        """What discovery answered last."""

    async def run(self) -> None:
        """Ask again and again; never returns."""
        begun = self._clock.now()
        while True:
            try:
                self.addresses = await self._discovery.addresses()
            except Exception:
                log.exception("discovery failed")  # the ring goes on with the nodes that it knows
            settling = self._clock.now() - begun < SETTLING
            await self._clock.sleep(QUICK if settling or self._alone() else CALM)
