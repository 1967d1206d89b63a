"""What has changed in the part of the circle that a node sees: who joined, left, failed or moved.

A node sees its successor list and its predecessor. That the list's end comes nearer or goes further, because somebody
joined or went in between, is no change of those at its end: only the stretch that both views cover is compared.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from coterie_protocol.nodes import NodeRef

from .interval import distance

JOINED, LEFT, MOVED, FAILED = "joined", "left", "moved", "failed"
CHANGES = (JOINED, LEFT, MOVED, FAILED)


class Sight(NamedTuple):
    """What a node sees of its circle."""

    me: NodeRef
    predecessor: NodeRef | None
    successors: tuple[NodeRef, ...]


def whole(sight: Sight) -> bool:
    """Say whether the view holds the whole circle: the list goes round to the predecessor.

    That a list is short says nothing: one that has just lost an entry is, until it is filled again.
    """
    successors, before = sight.successors, sight.predecessor
    return not successors or (before is not None and before.uid == successors[-1].uid)


def changes(old: Sight, new: Sight, length: int, slots: int) -> Counter[str]:
    """Count what has changed from one view to the next.

    A node that had said that it leaves has left; one that is gone without a word has failed. `length` is the most
    entries that a list may have: from one that is shorter nobody was pushed out. When this node itself moves, its two
    views begin at different places: then only its own move counts.
    """
    found: Counter[str] = Counter()
    if old.me.position != new.me.position:
        if old.me.position >= 0:
            found[MOVED] += 1
        return found
    before = {ref.uid: ref for ref in old.successors}
    after = {ref.uid: ref for ref in new.successors}
    in_old = _reach(old, slots)
    in_new = _reach(new, slots) if len(new.successors) >= length else slots
    for uid, ref in after.items():
        held = before.get(uid)
        if held is not None:
            found[MOVED] += held.position != ref.position
        elif distance(new.me.position, ref.position, slots) < in_old:
            found[JOINED] += 1
    for uid, ref in before.items():
        if uid not in after and distance(old.me.position, ref.position, slots) < in_new:
            found[LEFT if ref.leaving else FAILED] += 1
    return +found


class History:
    """Adds up what has changed, as soon as a view has held for a whole period.

    A dead node is named again by neighbours that have not noticed yet: counted at each change of a view, one death
    would be several.
    """

    def __init__(self, sight: Sight, length: int, slots: int) -> None:
        self._length = length
        self._slots = slots
        self._counted = sight
        self._last = sight
        self.totals: Counter[str] = Counter()
        """How many nodes joined, left, moved and failed, since the start."""

    def look(self, sight: Sight) -> None:
        """Look at the view; to be called once a period."""
        if sight == self._last and sight != self._counted:
            self.totals += changes(self._counted, sight, self._length, self._slots)
            self._counted = sight
        self._last = sight


def size(sight: Sight, slots: int) -> int:
    """Return how many nodes the circle has: exactly if all of it is in view, else by how densely they stand here."""
    successors = sight.successors
    if whole(sight):
        return 1 + len(successors)
    first = sight.predecessor or sight.me
    seen = len(successors) + (first is not sight.me)
    return max(seen + 1, round(seen * slots / distance(first.position, successors[-1].position, slots)))


def _reach(sight: Sight, slots: int) -> int:
    """Return how far round a view tells who is there: to its last entry, or all the way."""
    if whole(sight):
        return slots
    return distance(sight.me.position, sight.successors[-1].position, slots)
