"""Fingers: the owners of the slots half, a quarter, an eighth … of the circle away. They shorten lookups, no more."""

from __future__ import annotations

from .core import Core
from .effects import Owner, Timer
from .interval import distance, within
from .lookup import Lookups


class Fingers:
    """Refreshes one finger at a time."""

    def __init__(self, core: Core, lookups: Lookups) -> None:
        self._core = core
        self._lookups = lookups
        self._next = 0
        self._first = True

    def restart(self) -> None:
        """Set all fingers anew: the node stands elsewhere now."""
        self._next = 0
        self._first = True
        self._core.timer(Timer.FINGERS, self._core.settings.fingers_first)

    def tick(self, now: float) -> None:
        """Refresh the next finger that the successor list does not give anyway."""
        pointers, settings = self._core.pointers, self._core.settings
        wanted = self._beyond_successors()
        for exponent in [exponent for exponent in pointers.fingers if exponent not in wanted]:
            del pointers.fingers[exponent]
        if not wanted:
            self._core.timer(Timer.FINGERS, settings.fingers)
            return
        slot = (pointers.me.position + (1 << wanted[self._next % len(wanted)])) % pointers.slots
        self._lookups.start(now, slot, lambda now, found: self._found(slot, found))
        self._next += 1
        if self._next >= len(wanted):
            self._next, self._first = 0, False
        self._core.timer(Timer.FINGERS, settings.fingers_first if self._first else settings.fingers)

    def _beyond_successors(self) -> list[int]:
        pointers = self._core.pointers
        if len(pointers.successors) < pointers.length:
            return []
        reach = distance(pointers.me.position, pointers.successors[-1].position, pointers.slots)
        return [exponent for exponent in range(pointers.bits - 1, -1, -1) if 1 << exponent > reach]

    def _found(self, slot: int, found: Owner | None) -> None:
        pointers = self._core.pointers
        if found is None or found.owner.uid == pointers.me.uid:
            return
        for exponent in self._beyond_successors():
            target = (pointers.me.position + (1 << exponent)) % pointers.slots
            if target == slot or (
                found.predecessor is not None
                and within(found.predecessor.position, target, found.owner.position, pointers.slots)
            ):
                pointers.fingers[exponent] = found.owner
