"""Log lines that strangers can cause, at a rate that they cannot set: a disk must not fill because somebody knocks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

PAUSE = 60.0
"""Seconds between two lines about one source, and before what was left out is told."""
BURST = 10
"""Lines at once about all sources together ..."""
REFILL = 6.0
"""... and the seconds after which there may be one more."""
MOST_SOURCES = 1024
"""Sources that are remembered; the oldest goes."""


class Ration:
    """One kind of line. Call it with the source and what is to be said; most of what comes too fast is only counted."""

    def __init__(self, say: Callable[..., Any], event: str, now: Callable[[], float] | None = None) -> None:
        """`now` gives seconds; the running loop's unless it is told."""
        self._say = say
        self._event = event
        self._now = now
        self._sources: dict[str, float] = {}
        self._full_at = 0.0
        self._suppressed = 0
        self._later: asyncio.TimerHandle | None = None

    def __call__(self, source: str, **values: Any) -> None:
        """Log the line, or count it."""
        now = asyncio.get_running_loop().time() if self._now is None else self._now()
        said = self._sources.get(source)
        full_at = max(self._full_at, now) + REFILL
        if (said is not None and now - said < PAUSE) or full_at - now > BURST * REFILL:
            self._suppressed += 1
            if self._later is None:
                self._later = asyncio.get_running_loop().call_later(PAUSE, self.tell)
            return
        self._full_at = full_at
        self._sources.pop(source, None)
        self._sources[source] = now
        if len(self._sources) > MOST_SOURCES:
            del self._sources[next(iter(self._sources))]
        self._say(self._event, source=source, **values)

    def tell(self) -> None:
        """Say how many lines were left out, if any were."""
        if self._later is not None:
            self._later.cancel()
            self._later = None
        if self._suppressed:
            self._say(self._event, source="several, or one again", suppressed=self._suppressed)
            self._suppressed = 0
