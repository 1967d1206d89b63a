"""Failure: suspicion first, then confirmation over a fresh connection, and only then is a node dropped."""

from __future__ import annotations

from collections.abc import Callable

from coterie_protocol.nodes import NodeRef

from .core import Core
from .effects import Confirm


class Failures:
    """Suspicions of this node. `buried` is called when pointers were lost to a death."""

    def __init__(self, core: Core, buried: Callable[[float, NodeRef], None]) -> None:
        self._core = core
        self._buried = buried
        self._suspected: dict[str, NodeRef] = {}

    def suspect(self, ref: NodeRef) -> None:
        """Have a node confirmed, once at a time."""
        if ref.uid not in self._suspected:
            self._suspected[ref.uid] = ref
            self._core.emit(Confirm(ref, self._core.settings.probe_timeout))

    def unreachable(self, uid: str) -> None:
        """Take a lost link: a neighbour is suspected, a finger is let go at once (another one is found easily)."""
        pointers = self._core.pointers
        for ref in pointers.neighbours():
            if ref.uid == uid:
                self.suspect(ref)
        pointers.drop_finger(uid)

    def confirmed(self, now: float, uid: str, alive: bool) -> None:
        """Take the result of a confirmation."""
        ref = self._suspected.pop(uid, None)
        if ref is None:
            return
        if alive:
            self._core.pointers.heard_of(uid)
            return
        self._core.pointers.mark_dead(ref, now + self._core.settings.dead_for)
        self._buried(now, ref)
