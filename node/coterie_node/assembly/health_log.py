"""Says in the log how the node is, each time that this has changed: in the words of /readyz, so that both agree."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from coterie_protocol.admin import Readiness

    from ..runtime.ports import Clock

log = structlog.get_logger()

LOOK = 0.5
"""Seconds between two looks: what passes within that time was nobody's business."""
LEFT = "nothing on its disk is needed any more: stop it; started again with its data directory, it joins again"
CAME_BACK = "this node had left its ring and joins it again; to keep it out, stop it and remove its data directory"


class Herald:
    """Watches `readiness`. `note_left` keeps, or forgets, that the node has left: who starts it again is told."""

    def __init__(
        self, readiness: Callable[[], Readiness], note_left: Callable[[bool], Awaitable[None]], clock: Clock, name: str
    ) -> None:
        self._readiness = readiness
        self._note_left = note_left
        self._clock = clock
        self._name = name
        self._said: tuple[bool, str, bool] | None = None

    async def run(self) -> None:
        """Look again and again; never returns."""
        while True:
            await self.look()
            await self._clock.sleep(LOOK)

    async def look(self) -> None:
        """Say how the node is, if it was otherwise at the last look."""
        found = self._readiness()
        now = (found.ready, found.state, bool(found.reasons))
        if now == self._said:
            return
        before, self._said = self._said, now
        why = "; ".join(found.reasons)
        if found.state == "left":
            log.info("has left the ring", name=self._name, what=LEFT)
            await self._note_left(True)
            return
        if before is not None and before[1] == "left":
            await self._note_left(False)
        if not found.ready:
            # A node that has been ready and is not any more needs somebody; one that starts, or leaves, does not.
            (log.warning if found.state == "ready" else log.info)(
                "not ready", name=self._name, state=found.state, why=why
            )
        elif found.reasons:
            log.warning("ready, but not for all", name=self._name, why=why)
        else:
            log.info("ready", name=self._name)
