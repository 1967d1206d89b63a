"""New connections, let in source by source: so many at once, then at a rate, first come first served.

A handshake costs as much as ten messages. Who opens connections over and over makes those behind the same address wait
for their turn; nobody else. Nobody is refused here, and who comes to a session gives its place back, so the clients of
a node that died are not held up. Free of sockets and clocks.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

MOST_SOURCES = 10_000
"""Sources that are remembered; those that have waited out everything are forgotten first."""


@dataclass(frozen=True)
class NewcomersRate:
    """How many connections of one source are let in."""

    at_once: int
    pause: float
    """Seconds after which one more."""


class Newcomers:
    """Who waits to be let in. `later(seconds, callback)` calls back; `now()` is in seconds."""

    def __init__(
        self, rate: NewcomersRate, now: Callable[[], float], later: Callable[[float, Callable[[], None]], object]
    ) -> None:
        self._rate = rate
        self._now = now
        self._later = later
        self._full_at: dict[str, float] = {}
        """When all places of a source will be free again: as in `chat.limits.TokenBucket`."""
        self._waiting: dict[str, dict[Hashable, Callable[[], None]]] = {}

    def come(self, source: str, who: Hashable, let_in: Callable[[], None]) -> None:
        """Call `let_in` at once or in its turn."""
        some = self._waiting.get(source)
        if some is not None:
            some[who] = let_in
            return
        wait = self._wait(source)
        if wait <= 0:
            self._spend(source)
            let_in()
            return
        self._waiting[source] = {who: let_in}
        self._later(wait, lambda: self._next(source))

    def go(self, source: str, who: Hashable) -> None:
        """Forget one that waits; again, or for one that does not, is harmless."""
        if (some := self._waiting.get(source)) is not None:
            some.pop(who, None)

    def give_back(self, source: str) -> None:
        """One was worth its place."""
        if source in self._full_at:
            self._full_at[source] -= self._rate.pause

    def _next(self, source: str) -> None:
        some = self._waiting[source]
        while some and self._wait(source) <= 0:
            who = next(iter(some))
            let_in = some.pop(who)
            self._spend(source)
            let_in()
        if some:
            self._later(max(self._wait(source), 0.001), lambda: self._next(source))
        else:
            del self._waiting[source]

    def _wait(self, source: str) -> float:
        now = self._now()
        wait = max(self._full_at.get(source, now), now) + self._rate.pause * (1 - self._rate.at_once) - now
        return wait if wait > 1e-9 else 0.0

    def _spend(self, source: str) -> None:
        now = self._now()
        at = max(self._full_at.pop(source, now), now)
        if len(self._full_at) >= MOST_SOURCES:
            self._full_at = {one: full for one, full in self._full_at.items() if full > now}
            while len(self._full_at) >= MOST_SOURCES:
                del self._full_at[next(iter(self._full_at))]
        self._full_at[source] = at + self._rate.pause
