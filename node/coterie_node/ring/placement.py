"""Where a node stands: the middle of the widest arc, granted by the arc's owner to one node at a time.

Also the arithmetic of suggestions: which nodes along the ring should hold a slot.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from coterie_protocol.identifiers import Uid
from coterie_protocol.nodes import NodeRef
from coterie_protocol.ring import Place, Placed

from .core import Core
from .interval import between, midpoint, width

MAX_HOPS = 6
"""How often a node that asks for a place is sent on to a wider arc."""


def first_members(chain: Iterable[NodeRef], count: int) -> tuple[Uid, ...]:
    """Return the first `count` distinct nodes of a chain of successors that do not want to leave."""
    uids = dict.fromkeys(ref.uid for ref in chain if not ref.leaving)
    return tuple(uids)[:count]


class Grants:
    """Grants positions in this node's own arc: one at a time, kept until the node appears or the time is over."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._granted: tuple[NodeRef, float] | None = None
        """The node that is expected, at the position kept for it, and until when."""

    def appeared(self, ref: NodeRef) -> None:
        """Note a new predecessor: the node that a position was kept for may be there."""
        if self._granted is not None and (ref.uid == self._granted[0].uid or ref.position == self._granted[0].position):
            self._granted = None

    def place(self, now: float, message: Place) -> Placed:
        """Answer a node that asks for a position."""
        pointers, settings = self._core.pointers, self._core.settings
        wait = Placed(-1, None, int(settings.busy * 1000))
        if not pointers.member or (pointers.predecessor is None and not pointers.alone):
            return wait
        if pointers.alone and now - self._core.alone_since < settings.reservation:
            # Most likely its circle is somewhere else, and knows better what is free.
            return wait
        me, slots = pointers.me, pointers.slots
        start = me.position if pointers.predecessor is None else pointers.predecessor.position
        if message.wish >= 0:
            return self._wished(now, message, start) or wait
        own = width(start, me.position, slots)
        middle = midpoint(start, me.position, slots)
        taken = middle is None or self._reserved(now, message.node.uid, start)
        wider = self._widest(own if taken else own + 1)
        if wider is not None and message.hops < MAX_HOPS:
            return Placed(-1, wider, 0)
        if middle is None or taken:
            return wait
        if self._granted is not None and self._granted[0].uid == message.node.uid and self._inside(start):
            middle = self._granted[0].position
        return self._keep(now, message.node, middle)

    def _wished(self, now: float, message: Place, start: int) -> Placed | None:
        pointers = self._core.pointers
        inside = between(start, message.wish, pointers.me.position, pointers.slots)
        if not inside or self._reserved(now, message.node.uid, start):
            return None
        return self._keep(now, message.node, message.wish)

    def _keep(self, now: float, node: NodeRef, position: int) -> Placed:
        expected = msgspec.structs.replace(node, position=position)
        self._granted = (expected, now + self._core.settings.reservation)
        return Placed(position, None, 0)

    def expected(self, now: float, position: int, uid: str) -> NodeRef | None:
        """Return the node other than `uid` for which just this position is being kept."""
        if self._granted is None or now >= self._granted[1]:
            return None
        ref = self._granted[0]
        return ref if ref.position == position and ref.uid != uid else None

    def _inside(self, start: int) -> bool:
        pointers = self._core.pointers
        return self._granted is not None and between(
            start, self._granted[0].position, pointers.me.position, pointers.slots
        )

    def _reserved(self, now: float, uid: str, start: int) -> bool:
        if self._granted is None or self._granted[0].uid == uid:
            return False
        return now < self._granted[1] and self._inside(start)

    def _widest(self, least: int) -> NodeRef | None:
        """Return the successor with the widest arc of at least `least` slots that has room for another node."""
        pointers = self._core.pointers
        best, before = None, pointers.me
        for ref in pointers.successors:
            size = width(before.position, ref.position, pointers.slots)
            if size >= max(least, 2):
                best, least = ref, size + 1
            before = ref
        return best
