"""Moving: a node takes another position, which the owner of the arc keeps for it in the meantime."""

from __future__ import annotations

from typing import Any

from coterie_protocol.ring import Place, Placed

from .core import Core
from .effects import Owner
from .join import Done, Entry, Refusal
from .lookup import Lookups
from .placement import Grants


class Moving:
    """Moves this node."""

    def __init__(self, core: Core, lookups: Lookups, entry: Entry, grants: Grants) -> None:
        self._core = core
        self._lookups = lookups
        self._entry = entry
        self._grants = grants

    def move(self, now: float, position: int, done: Done) -> None:
        """Stand at a position; `done` is called with the reason when that cannot be."""
        pointers = self._core.pointers
        if not 0 <= position < pointers.slots:
            done(now, Refusal(f"position {position} is not one of the ring's slots 0 to {pointers.slots - 1}"))
        elif not pointers.member:
            done(now, Refusal("the node has not joined the ring yet; try again when it has"))
        elif position == pointers.me.position:
            done(now, None)
        else:
            self._lookups.start(now, position, lambda now, owner: self._found(now, position, owner, done))

    def _found(self, now: float, position: int, owner: Owner | None, done: Done) -> None:
        me = self._core.pointers.me
        if owner is None:
            done(now, Refusal("nobody could say who is there; try again when the ring is whole"))
            return
        if owner.owner.position == position:
            self._entry.enter(now, owner, position, done)
            return

        def answered(now: float, answer: Any) -> None:
            if isinstance(answer, Placed) and answer.position == position:
                self._entry.enter(now, owner, position, done)
            else:
                done(now, Refusal(f"{owner.owner.name} is giving away a place in this arc; try again shortly"))

        request = Place(me, 0, position)
        if owner.owner.uid == me.uid:
            answered(now, self._grants.place(now, request))
        else:
            self._core.ask(owner.owner, request, answered)
