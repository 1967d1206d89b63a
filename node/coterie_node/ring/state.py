"""A node's pointers: predecessor, successor list, fingers, and whom it knows to be dead.

Lists are kept in the ring's order by construction: an entry that does not lie further round than the one before it
ends the list. So a list is never longer than the ring is and never names its own node (effective length
min(r, N - 1)).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import msgspec

from coterie_protocol.identifiers import slot_bits
from coterie_protocol.nodes import NodeRef

from .effects import Owner
from .interval import within

DEAD_MOST = 4096
"""So many dead are remembered; beyond that whoever would be forgotten first is."""


class Pointers:
    """The routing state of one node. Positions are slot numbers."""

    def __init__(self, me: NodeRef, slots: int, length: int) -> None:
        self.me = me
        self.slots = slots
        self.length = length
        self.bits = slot_bits(slots)
        self.since = me.incarnation
        """The incarnation with which this node entered its circle."""
        self.member = False
        self.predecessor: NodeRef | None = None
        self.successors: tuple[NodeRef, ...] = ()
        self.fingers: dict[int, NodeRef] = {}
        """By exponent i: the owner of the slot 2**i after this node."""
        self._dead: dict[str, tuple[int, float]] = {}

    @property
    def alone(self) -> bool:
        """Say whether this node is a circle of its own."""
        return self.member and not self.successors

    @property
    def head(self) -> NodeRef | None:
        """Return the first successor."""
        return self.successors[0] if self.successors else None

    def neighbours(self) -> list[NodeRef]:
        """Return the successors and, unless it is one of them, the predecessor."""
        found = list(self.successors)
        if self.predecessor is not None and all(ref.uid != self.predecessor.uid for ref in found):
            found.append(self.predecessor)
        return found

    def view(self) -> set[str]:
        """Return the uids of all nodes that this one points to, and its own."""
        uids: set[str] = {ref.uid for ref in self.successors}
        uids.update(ref.uid for ref in self.fingers.values())
        uids.add(self.me.uid)
        if self.predecessor is not None:
            uids.add(self.predecessor.uid)
        return uids

    def lies_between(self, start: NodeRef, x: NodeRef, end: NodeRef) -> bool:
        """Say whether node `x` stands strictly between two others."""
        start_position, size = start.position, self.slots
        return 0 < (x.position - start_position) % size < (end.position - start_position - 1) % size + 1

    def ordered(self, refs: Iterable[NodeRef]) -> tuple[NodeRef, ...]:
        """Return a list as this node may hold it: in order, without itself, at most `length` long.

        Who is held to be dead stays in a list that somebody else told: it may have come back, and to leave it out would
        skip it. It is dropped when it becomes the head, or when the list's source has noticed too.
        """
        refs = tuple(refs)
        if refs[: self.length] == self.successors and (len(self.successors) == self.length or refs == self.successors):
            return self.successors  # nothing new, as almost always
        me, slots = self.me, self.slots
        held = {ref.uid: ref for ref in self.neighbours()}
        found: list[NodeRef] = []
        seen = set()
        last = 0
        for ref in refs:
            if ref.uid == me.uid:
                if ref.position == me.position:
                    break
                continue
            known = held.get(ref.uid)
            if known is not None and known.incarnation > ref.incarnation:
                if known.position != ref.position:
                    continue
                ref = known
            if not 0 <= ref.position < slots or ref.uid in seen:
                continue
            far = (ref.position - me.position) % slots
            if far == 0:
                continue
            if far <= last:
                break
            found.append(ref)
            seen.add(ref.uid)
            last = far
            if len(found) == self.length:
                break
        return tuple(found)

    def renew(self, position: int) -> None:
        """Begin another life, at this position: what points to this node from before points to one that has left."""
        self.me = msgspec.structs.replace(self.me, position=position, incarnation=self.me.incarnation + 1)
        self.since = self.me.incarnation

    def refresh(self, ref: NodeRef, since: int) -> None:
        """Take a node's own newest reference. One that has begun another life is not where it was pointed to."""
        if not self._holds_older(ref):
            return  # Almost every message comes through here, and almost none says anything new.

        def renewed(held: NodeRef) -> NodeRef | None:
            if held.uid != ref.uid or held.incarnation >= ref.incarnation:
                return held
            return ref if held.incarnation >= since and held.position == ref.position else None

        if any(held.uid == ref.uid and held.incarnation < ref.incarnation for held in self.successors):
            self.successors = tuple(now for held in self.successors if (now := renewed(held)) is not None)
        if self.predecessor is not None:
            self.predecessor = renewed(self.predecessor)
        for exponent, held in list(self.fingers.items()):
            now = renewed(held)
            if now is None:
                del self.fingers[exponent]
            else:
                self.fingers[exponent] = now

    def _holds_older(self, ref: NodeRef) -> bool:
        uid, before = ref.uid, self.predecessor
        if before is not None and before.uid == uid and before.incarnation < ref.incarnation:
            return True
        for held in (*self.successors, *self.fingers.values()):
            if held.uid == uid and held.incarnation < ref.incarnation:
                return True
        return False

    # --- the dead ---

    def is_dead(self, now: float, ref: NodeRef) -> bool:
        """Say whether this very incarnation was lately confirmed to be dead."""
        entry = self._dead.get(ref.uid)
        if entry is None:
            return False
        if entry[1] <= now:
            del self._dead[ref.uid]
            return False
        return entry[0] >= ref.incarnation

    def mark_dead(self, ref: NodeRef, until: float) -> None:
        """Note that a node was confirmed to be dead."""
        self._dead[ref.uid] = (ref.incarnation, until)
        if len(self._dead) > DEAD_MOST:
            del self._dead[min(self._dead, key=lambda uid: self._dead[uid][1])]
        self.drop(ref.uid)

    def heard_of(self, uid: str) -> None:
        """Note that a node lives: it has just said something."""
        self._dead.pop(uid, None)

    def drop(self, uid: str) -> None:
        """Remove a node from every pointer.

        Zave pads the tail of the shortened list with the identifier after its last entry, an entry that stands for
        nobody. Here the list is simply shorter: it is refilled by *head + the head's list, cut at r*, whereas hers
        drops the last entry of a list that always has r; an entry that stands for nobody is never followed, skips
        nobody, and is never anywhere but at the end, so both are the same. An entry that is dead may go wherever it
        stands: what lies between its neighbours in the list, and is not the dead node, was skipped before too.
        """
        if any(ref.uid == uid for ref in self.successors):
            self.successors = tuple(ref for ref in self.successors if ref.uid != uid)
        if self.predecessor is not None and self.predecessor.uid == uid:
            self.predecessor = None
        self.drop_finger(uid)

    def drop_finger(self, uid: str) -> None:
        """Remove a node from the fingers only."""
        for exponent in [exponent for exponent, ref in self.fingers.items() if ref.uid == uid]:
            del self.fingers[exponent]

    # --- routing ---

    def owner(self, slot: int, avoid: Collection[str] = ()) -> Owner | None:
        """Return who owns a slot if that can be told from here: this node itself, or its successor.

        `avoid` are uids that are passed over as if they were dead.
        """
        if self.alone:
            return Owner(self.me, None, (), 0)
        before = self.predecessor
        if before is not None and within(before.position, slot, self.me.position, self.slots):
            return Owner(self.me, before, self.successors, 0)
        after = self.successors
        if avoid:
            after = tuple(ref for ref in after if ref.uid not in avoid)
        if after and within(self.me.position, slot, after[0].position, self.slots):
            return Owner(after[0], self.me, after[1:], 0)
        return None

    def closest_preceding(self, now: float, slot: int, count: int, avoid: Collection[str] = ()) -> tuple[NodeRef, ...]:
        """Return the known nodes that stand nearest before a slot, nearest first."""
        me, slots = self.me.position, self.slots
        reach = (slot - me - 1) % slots + 1
        best: dict[int, NodeRef] = {}
        for ref in (*self.successors, *self.fingers.values()):
            far = (ref.position - me) % slots
            if 0 < far < reach and ref.uid not in avoid and not self.is_dead(now, ref):
                best[far] = ref
        return tuple(best[far] for far in sorted(best, reverse=True)[:count])
