"""Ring maintenance by Zave's rules: stabilize, from the successor and from its predecessor, and rectify."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from coterie_protocol.nodes import NodeRef
from coterie_protocol.ring import Beat, GetNeighbours, Neighbours, Notify, Nudge, Standing

from .core import Core
from .effects import StartTimer, Timer
from .failure import Failures
from .merge import TO_OTHER, Circles
from .placement import Grants


class Chord:
    """Keeps the pointers of one node right. `displaced` is called when another node holds this one's position."""

    def __init__(
        self,
        core: Core,
        failures: Failures,
        circles: Circles,
        grants: Grants,
        displaced: Callable[[float, NodeRef], None],
    ) -> None:
        self._core = core
        self._failures = failures
        self._circles = circles
        self._grants = grants
        self._displaced = displaced
        self._running = False
        self._again = False
        self._rectifying = False
        self._last = float("-inf")
        self._due = float("inf")

    # --- stabilize ---

    def soon(self, now: float) -> None:
        """Stabilize now, or as soon as the last round is long enough ago."""
        wait = self._last + self._core.settings.nudge - now
        if self._running:
            self._again = True
        elif wait <= 0:
            self.stabilize(now)
        elif self._due < now or self._due > now + wait:
            self._due = now + wait
            self._core.emit(StartTimer(Timer.NUDGE, wait))

    def stabilize(self, now: float) -> None:
        """Begin a round: ask the head for its pointers."""
        head = self._core.pointers.head
        if head is None or self._running:
            return
        self._running, self._again = True, False
        self._last, self._due = now, float("inf")
        self._ask(now, head, self._from_successor)

    def _ask(self, now: float, to: NodeRef, then: Callable[[float, NodeRef, Any], None]) -> None:
        message = GetNeighbours(self._core.standing(now))
        self._core.ask(to, message, lambda now, answer: then(now, to, answer))

    def _from_successor(self, now: float, asked: NodeRef, answer: Any) -> None:
        pointers = self._core.pointers
        head = pointers.head
        if head is None or head.uid != asked.uid:
            self._end(now, again=True)
            return
        if not isinstance(answer, Neighbours):
            self._failures.suspect(asked)
            self._end(now)
            return
        if not answer.standing.member:
            pointers.drop(asked.uid)
            self._end(now, again=True)
            return
        before = answer.predecessor
        # A node that is alone has just been joined, and the first notification is still on its way (or was lost).
        mutual = answer.standing.alone or (before is not None and before.uid == pointers.me.uid)
        if not self._circles.same(now, answer.standing, mutual):
            self._end(now)
            return
        pointers.successors = pointers.ordered((answer.standing.me, *answer.successors))
        head = pointers.head
        if head is None:
            self._end(now)
        elif before is not None and self._adoptable(now, before, head):
            self._ask(now, before, self._from_predecessor)
        else:
            self._notify(now)

    def _adoptable(self, now: float, ref: NodeRef, head: NodeRef) -> bool:
        pointers = self._core.pointers
        if ref.position == pointers.me.position and ref.uid != pointers.me.uid:
            self._core.send(ref, Beat(self._core.standing(now), TO_OTHER))
        return pointers.lies_between(pointers.me, ref, head) and not pointers.is_dead(now, ref)

    def _from_predecessor(self, now: float, asked: NodeRef, answer: Any) -> None:
        pointers = self._core.pointers
        if isinstance(answer, Neighbours) and answer.standing.member and not answer.standing.alone:
            before = answer.predecessor
            mutual = before is not None and before.uid == pointers.me.uid
            ref, head = answer.standing.me, pointers.head
            if (
                self._circles.same(now, answer.standing, mutual)
                and head is not None
                and self._adoptable(now, ref, head)
            ):
                pointers.heard_of(ref.uid)
                pointers.successors = pointers.ordered((ref, *answer.successors))
                # There may be another one before it.
                self._again = True
        self._notify(now)

    def _notify(self, now: float) -> None:
        self.notify(now)
        self._end(now)

    def notify(self, now: float) -> None:
        """Tell the head that this node stands before it."""
        head = self._core.pointers.head
        if head is not None:
            self._core.send(head, Notify(self._core.standing(now), head.incarnation))

    def _end(self, now: float, again: bool = False) -> None:
        self._running = False
        if again or self._again:
            self.soon(now)

    # --- the other side ---

    def neighbours(self, now: float, sender: Standing) -> Neighbours:
        """Answer a node that stabilizes, joins or rectifies."""
        pointers = self._core.pointers
        before = pointers.predecessor
        if sender.member and pointers.member:
            self._circles.same(now, sender, before is not None and before.uid == sender.me.uid)
        # A node that comes back to a place which is being given to another must know that it is taken.
        expected = self._grants.expected(now, sender.me.position, sender.me.uid)
        return Neighbours(self._core.standing(now), expected or before, pointers.successors)

    def rectify(self, now: float, message: Notify) -> None:
        """Take a node that holds itself to be the predecessor: it lies between, or the old one does not answer."""
        pointers, other = self._core.pointers, message.standing
        if not pointers.member or not other.member or message.incarnation < pointers.since:
            self._core.send(other.me, Beat(self._core.standing(now), TO_OTHER))
            return
        if other.me.position == pointers.me.position:
            return  # see `twin`
        if pointers.alone:
            pointers.predecessor = other.me
            pointers.successors = pointers.ordered((other.me,))
            self._core.circle.hear(now, other.circle, other.beat)
            self._grants.appeared(other.me)
            self.soon(now)
            return
        before = pointers.predecessor
        if not self._circles.same(now, other, before is not None and before.uid == other.me.uid):
            self._core.send(other.me, Beat(self._core.standing(now), TO_OTHER))
            return
        if before is None:
            self._take(other.me)
        elif before.uid != other.me.uid:
            if pointers.lies_between(before, other.me, pointers.me):
                self._take(other.me)
                self._core.send(before, Nudge())
            elif not self._rectifying:
                self._rectifying = True
                self._ask(now, before, lambda now, asked, answer: self._rectified(now, asked, answer, other.me))

    def _rectified(self, now: float, asked: NodeRef, answer: Any, other: NodeRef) -> None:
        self._rectifying = False
        pointers = self._core.pointers
        before = pointers.predecessor
        if not isinstance(answer, Neighbours):
            self._failures.suspect(asked)
            return
        if before is None or before.uid != asked.uid:
            return
        here = answer.standing
        if not here.member or here.alone:
            self._take(other)
            return
        # It lives where it was. Should it have gone over to another circle, this node will follow it.
        mutual = bool(answer.successors) and answer.successors[0].uid == pointers.me.uid
        self._circles.same(now, here, mutual)

    def _take(self, ref: NodeRef) -> None:
        self._core.pointers.predecessor = ref
        self._grants.appeared(ref)

    def twin(self, now: float, ref: NodeRef) -> None:
        """Meet a node at this one's position: the one with the greater uid takes another place."""
        if ref.uid < self._core.pointers.me.uid:
            self._displaced(now, ref)
        else:
            self._core.send(ref, Beat(self._core.standing(now), TO_OTHER))
