"""How a node that belongs to no ring finds one: it asks whoever discovery names, until somebody offers a membership."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import structlog

from coterie_protocol.errors import CoterieError

from ..peer.errors import Unreachable
from . import identity as identities
from .identity import Membership, WrongRing

if TYPE_CHECKING:
    from ..config.settings import Address, NodeConfig
    from ..discovery.base import Discovery
    from ..peer.links import Links
    from ..runtime.ports import Clock

log = structlog.get_logger()

GREET_TIMEOUT = 1.0
PAUSE = 0.2
"""Seconds between two rounds, give or take a fifth: nodes that start together do not ask together."""


class Search:
    """Looks for a ring to join."""

    def __init__(
        self,
        config: NodeConfig,
        discovery: Discovery,
        links: Links,
        clock: Clock,
        rng: random.Random,
        say: Callable[[str], None],
    ) -> None:
        """`say` is told what the node waits for, each time that this has changed."""
        self._config = config
        self._discovery = discovery
        self._links = links
        self._clock = clock
        self._rng = rng
        self._say = say
        self._waiting = ""

    async def find(self) -> Membership:
        """Wait until a ring answers.

        Raises WrongRing when a seed's ring is not the one that was asked for, and Unreachable when a seed could never
        reach this node where it listens: whoever named the seed can mend that. What other ways of discovery name comes
        and goes: then that is said, and the node goes on waiting.
        """
        refusals: list[str] = []
        while True:
            self._wait(refusals)
            refusals = []
            asked = [asyncio.ensure_future(self._offer_at(at)) for at in await self._discovery.addresses()]
            try:
                for answer in asyncio.as_completed(asked):
                    try:
                        found = await answer
                    except (WrongRing, Unreachable) as error:
                        if self._config.discovery == "static":
                            raise
                        refusals.append(str(error))
                        continue
                    if found is not None:
                        return found
            finally:
                for one in asked:
                    one.cancel()
                await asyncio.gather(*asked, return_exceptions=True)
            await self._clock.sleep(PAUSE * self._rng.uniform(0.8, 1.2))

    def _wait(self, refusals: Sequence[str]) -> None:
        """Say what the node waits for; in the log when that has changed."""
        founder = self._config.founder
        parts = [f"waiting for a ring to answer at {self._discovery.describe()}", *sorted(refusals)]
        if founder and not self._config.ring_uid:
            parts.append(f"{founder} is to found it")
        waiting = "; ".join(parts)
        if waiting != self._waiting:
            self._waiting = waiting
            self._say(waiting)
            log.info("looking for a ring", what=waiting)

    async def _offer_at(self, at: Address) -> Membership | None:
        """Return the membership that who answers at an address offers; None for nobody.

        Raises WrongRing, Unreachable.
        """
        try:
            hello = await self._links.greet(at.host, at.port, GREET_TIMEOUT)
        except Unreachable:
            raise
        except CoterieError as error:
            log.debug("nobody there", address=str(at), reason=error.detail)
            return None
        config = self._config
        return identities.join(
            hello,
            expected=config.ring_uid,
            replication_factor=config.replication_factor,
            slots=config.slots,
        )
