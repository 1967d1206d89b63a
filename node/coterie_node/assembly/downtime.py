"""How long a node was away: it writes down now and then that it is in touch with its ring.

*Away* is stopped as well as cut off: both mean that it missed what the others forgot meanwhile. Whether that matters
is for `replication/expiry/rejoin.py` to find out, before the node takes part. A clock that is wrong can therefore do no
harm: it only makes the node ask needlessly. One that went back says nothing about the absence: the node asks then, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from ..runtime.ports import StoreError

if TYPE_CHECKING:
    from ..bootstrap.identity import Meta
    from ..runtime.ports import Clock, Store
    from .replica import Replica

log = structlog.get_logger()

MOST_PAUSE = 60.0
"""Seconds between two notes ..."""
PARTS = 10
"""... and not more than this part of the time that a node may be away."""
BACK_MS = 3_600_000
"""A clock that is so much behind the last note has been set back."""
_KEY = "alive"


def note(tx: Meta, wall_ms: int) -> None:
    """Write down that the node is in touch with its ring."""
    tx.put_meta(_KEY, str(wall_ms).encode())


def long_away(tx: Meta, wall_ms: int, safe_seconds: float) -> str:
    """Return how long the node was away, in words; empty when that is not too long, or it never was there."""
    last = tx.meta(_KEY)
    if last is None:
        return ""
    try:
        away_ms = wall_ms - int(last)
    except ValueError:
        return "for an unknown time (its note of it cannot be read)"
    if away_ms < -BACK_MS:
        return "for an unknown time (its clock was set back)"
    return f"for {away_ms / 86_400_000:.1f} days" if away_ms > safe_seconds * 1000 else ""


class Watch:
    """Writes down now and then that the node is in touch; tells when it was cut off for too long."""

    def __init__(
        self, replica: Replica, store: Store, clock: Clock, safe_seconds: float, cut_off: Callable[[], None]
    ) -> None:
        """Take `cut_off` to be called when contact comes back too late: nothing may be offered from then on."""
        self._replica = replica
        self._store = store
        self._clock = clock
        self._safe = safe_seconds
        self._cut_off = cut_off
        self._last = clock.now()
        self._over = False

    async def run(self) -> None:
        """Look and write, until cancelled or cut off."""
        while not self._over:
            if self._replica.in_touch():
                await self._touch()
            await self._clock.sleep(min(MOST_PAUSE, self._safe / PARTS))

    def peer(self, alive: bool) -> None:
        """Take the news of a link: the first one after too long comes before anything is offered over it."""
        if alive and not self._over and self._clock.now() - self._last > self._safe:
            self._over = True
            days = (self._clock.now() - self._last) / 86_400
            self._replica.offers.closed = "this node was cut off for too long and starts again"
            log.error("was cut off from its ring for too long: starts again, and asks what became of it", days=days)
            self._cut_off()

    async def _touch(self) -> None:
        self._last = self._clock.now()
        wall_ms = self._clock.wall_ms()
        try:
            await self._store.transact(lambda tx: note(tx, wall_ms))
        except StoreError as error:
            log.warning("cannot write down that this node is alive", reason=str(error))
