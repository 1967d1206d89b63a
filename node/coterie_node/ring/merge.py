"""Circles of one ring find each other and become one.

A node that is in the circle with the greater mark enters the other one, keeping its position; one that is alone enters
any circle of several. It first makes sure that it really is another circle: marks of one circle differ for a moment
whenever a node with a small uid joins or dies. Then its old neighbours are told, so that they follow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from coterie_protocol.nodes import NodeRef
from coterie_protocol.ring import Beat, Meet, Met, Nudge, Standing

from .contacts import Contacts
from .core import Core
from .effects import Owner, Timer
from .join import Entry, Joining, Refusal
from .lookup import Lookups

TO_SUCCESSOR, TO_PREDECESSOR, TO_OTHER = 1, -1, 0


class Circles:
    """What this node does about circles. `adopted` is called when the mark of its own circle has changed."""

    def __init__(
        self,
        core: Core,
        lookups: Lookups,
        entry: Entry,
        joining: Joining,
        contacts: Contacts,
        adopted: Callable[[float], None],
    ) -> None:
        self._core = core
        self._lookups = lookups
        self._entry = entry
        self._joining = joining
        self._contacts = contacts
        self._adopted = adopted
        self._checking = False

    def same(self, now: float, other: Standing, mutual: bool) -> bool:
        """Say whether another node's pointers may be used: it is a member of this node's own circle.

        Two nodes that point at each other are (`mutual`). Otherwise the marks must be equal; where the other's is the
        smaller one, this node makes sure whether it has met another circle.
        """
        core = self._core
        if not other.member:
            return False
        mine, _ = core.circle.mark(now)
        if mutual or (other.circle == mine and not core.pointers.alone and not other.alone):
            core.circle.hear(now, other.circle, other.beat)
            self.beat(now)
            return True
        self.consider(now, other)
        return False

    def beat(self, now: float) -> None:
        """Pass the mark on to the neighbours if it is news."""
        pointers = self._core.pointers
        head, before = pointers.head, pointers.predecessor
        if head is None or not self._core.circle.due(now):
            return
        standing = self._core.standing(now)
        self._core.send(head, Beat(standing, TO_SUCCESSOR))
        if before is not None and before.uid != head.uid:
            self._core.send(before, Beat(standing, TO_PREDECESSOR))

    def on_beat(self, now: float, message: Beat) -> None:
        """Take the mark of a neighbour, or of a node that has gone over to another circle."""
        pointers = self._core.pointers
        sender = message.standing.me.uid
        head, before = pointers.head, pointers.predecessor
        mutual = (message.role == TO_SUCCESSOR and before is not None and before.uid == sender) or (
            message.role == TO_PREDECESSOR and head is not None and head.uid == sender
        )
        self.same(now, message.standing, mutual)

    def farewell(self, now: float, old: list[NodeRef]) -> None:
        """Tell the neighbours of before that this node stands elsewhere now."""
        view = {ref.uid for ref in self._core.pointers.neighbours()}
        for ref in old:
            if ref.uid not in view:
                self._core.send(ref, Beat(self._core.standing(now), TO_OTHER))

    def meet(self, now: float) -> None:
        """Ask a remembered node out of sight for its circle."""
        core = self._core
        alone = core.pointers.alone
        core.timer(Timer.MEET, core.settings.meet_alone if alone else core.settings.meet)
        contact = self._contacts.next(core.pointers.view())
        if contact is not None:
            core.ask(contact, Meet(core.standing(now)), self._met)

    def on_meet(self, now: float, message: Meet) -> Met:
        """Answer a node out of sight."""
        self.consider(now, message.standing)
        return Met(self._core.standing(now))

    def _met(self, now: float, answer: Any) -> None:
        if isinstance(answer, Met):
            self._contacts.learn((answer.standing.me,))
            self.consider(now, answer.standing)

    def _better(self, now: float, other: Standing) -> bool:
        core = self._core
        if not core.pointers.member or not other.member:
            return False
        mine, _ = core.circle.mark(now)
        if core.pointers.alone:
            settled = now - core.alone_since >= core.settings.grace
            return not other.alone or (settled and other.circle < mine)
        return not other.alone and other.circle < mine

    def consider(self, now: float, other: Standing) -> None:
        """Enter the circle of another node if it is a better one, and really another."""
        if self._checking or self._entry.busy or not self._better(now, other):
            return
        self._checking = True
        position = self._core.pointers.me.position
        self._lookups.start(now, position, lambda now, found: self._checked(now, other, position, found), other.me)

    def _checked(self, now: float, other: Standing, position: int, found: Owner | None) -> None:
        self._checking = False
        core = self._core
        if found is None or not core.pointers.member or core.pointers.me.position != position:
            return
        if self._is_here(found):
            core.circle.hear(now, other.circle, other.beat)
            self.beat(now)
            # Whatever had to wait for this, on either side, is done now.
            core.send(other.me, Nudge())
            self._adopted(now)
        elif self._better(now, other):
            self._entry.enter(now, found, position, lambda now, why: self._entered(now, other, why))

    def _entered(self, now: float, other: Standing, refusal: Refusal | None) -> None:
        if refusal is not None and refusal.held:
            self._joining.displace(now, other.me)

    def _is_here(self, found: Owner) -> bool:
        """Say whether what another node found at this node's position is the circle that this node is in.

        It is if they point to this node in its present life, or to a neighbour of it in the life that this node knows
        it in: pointers may lag, but one that has begun another life may be in any circle.
        """
        pointers = self._core.pointers
        if found.owner.uid == pointers.me.uid and found.owner.incarnation >= pointers.since:
            return True
        theirs = {(ref.uid, ref.incarnation) for ref in (found.owner, *found.successors, found.predecessor) if ref}
        return any((ref.uid, ref.incarnation) in theirs for ref in pointers.neighbours())
