"""Entering a circle: at the first join, after a restart, on meeting another circle, and when moving.

Zave's *join*: the node copies its successor's whole list and sets its predecessor. Until that moment it is outside, or
still in its old circle; there is nothing in between.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from coterie_protocol.nodes import NodeRef
from coterie_protocol.ring import GetNeighbours, Neighbours, Place, Placed

from .contacts import Contacts
from .core import Core
from .effects import Joined, Owner, Persist, Timer
from .lookup import Lookups

MAX_STEPS = 8
"""How often a joining node goes on from a successor to that one's predecessor, which lies nearer."""


class Refusal(NamedTuple):
    """Why a node could not enter. `held`: another node has this position."""

    detail: str
    held: bool = False


_UNWRITTEN = Refusal("the position could not be written to disk; see the node's log")

Done = Callable[[float, Refusal | None], None]
"""Called with the reason why it failed, None when it is done."""


class Entry:
    """One entering at a time. `entered` is called right after, with the neighbours that the node had before."""

    def __init__(self, core: Core, entered: Callable[[float, list[NodeRef]], None]) -> None:
        self._core = core
        self._entered = entered
        self._persisted: Callable[[float, bool], None] | None = None
        self._kept = core.pointers.me.position
        """The position that is on disk."""
        self.busy = False

    def enter(self, now: float, found: Owner, position: int, done: Done) -> None:
        """Enter the circle in which a lookup of `position` found this owner."""
        me = self._core.pointers.me
        if self.busy:
            done(now, Refusal("the node is just taking another place; try again shortly"))
            return
        if found.owner.position == position and found.owner.uid != me.uid:
            done(now, _held(position, found.owner))
            return
        chain = [ref for ref in (found.owner, *found.successors) if ref.uid != me.uid]
        before = found.predecessor
        if before is not None and before.uid == me.uid:
            before = self._core.pointers.predecessor
        if not chain and before is not None and before.uid != me.uid:
            chain = [before]
        self.busy = True
        if not chain:
            self._persist(now, position, lambda now, kept: self._alone(now, position, kept, done))
            return
        if before is None or before.uid == me.uid:
            before = chain[-1]
        self._ask(now, chain[0], before, position, MAX_STEPS, done)

    def persisted(self, now: float, kept: bool) -> None:
        """Go on after a position was kept with the data (or could not be)."""
        then, self._persisted = self._persisted, None
        if then is not None:
            then(now, kept)

    def found_ring(self, now: float, done: Done) -> None:
        """Take the founder's position, slot 0."""
        self.busy = True
        self._persist(now, 0, lambda now, kept: self._alone(now, 0, kept, done))

    def _ask(self, now: float, successor: NodeRef, before: NodeRef, position: int, steps: int, done: Done) -> None:
        """Ask a successor for its list, then the one before it if that one lies nearer.

        A nearer one that does not answer may yet live, and must not be skipped: then this entering has failed.
        """

        def answered(now: float, answer: Any) -> None:
            here = isinstance(answer, Neighbours) and answer.standing.member
            if not here or answer.standing.since > successor.incarnation:
                # In another life than the one that was pointed to it may be anywhere, even alone.
                self._end(now, Refusal(f"{successor.name} did not answer; try again"), done)
                return
            between = answer.predecessor
            held = [ref for ref in (answer.standing.me, between) if ref is not None and ref.position == position]
            if held and held[0].uid != self._core.pointers.me.uid:
                self._end(now, _held(position, held[0]), done)
            elif between is not None and steps and self._nearer(now, between, position, answer.standing.me):
                self._ask(now, between, before, position, steps - 1, done)
            elif position in (self._core.pointers.me.position, self._kept):
                self._install(now, answer, before, position, done)
            else:
                self._persist(now, position, lambda now, kept: again(now, kept, answer.standing.me))

        def again(now: float, kept: bool, successor: NodeRef) -> None:
            # What the successor said is as old as the write took: ask once more.
            if kept:
                self._ask(now, successor, before, position, MAX_STEPS, done)
            else:
                self._end(now, _UNWRITTEN, done)

        self._core.ask(successor, GetNeighbours(self._core.standing(now)), answered)

    def _nearer(self, now: float, ref: NodeRef, position: int, successor: NodeRef) -> bool:
        pointers = self._core.pointers
        here = msgspec.structs.replace(pointers.me, position=position)
        return (
            ref.uid != pointers.me.uid
            and not pointers.is_dead(now, ref)
            and pointers.lies_between(here, ref, successor)
        )

    def _install(self, now: float, answer: Neighbours, before: NodeRef, position: int, done: Done) -> None:
        pointers = self._core.pointers
        old = pointers.neighbours()
        pointers.renew(position)
        successor = answer.standing.me
        pointers.predecessor, pointers.fingers = None, {}
        pointers.heard_of(successor.uid)
        pointers.successors = ()
        pointers.successors = pointers.ordered((successor, *answer.successors))
        theirs = answer.predecessor
        if theirs is None or theirs.uid == pointers.me.uid or pointers.lies_between(pointers.me, theirs, successor):
            theirs = before
        pointers.predecessor = theirs
        pointers.member = True
        self._core.circle.reset()
        self._core.circle.hear(now, answer.standing.circle, answer.standing.beat)
        self._core.emit(Joined(successor.uid))
        self._end(now, None, done)
        self._entered(now, old)

    def _alone(self, now: float, position: int, kept: bool, done: Done) -> None:
        if not kept:
            self._end(now, _UNWRITTEN, done)
            return
        pointers = self._core.pointers
        pointers.renew(position)
        fresh = not pointers.member
        pointers.member = True
        if fresh:
            # The founder has nobody to look for.
            self._core.alone_since = now - self._core.settings.reservation
            self._core.emit(Joined(pointers.me.uid))
        self._end(now, None, done)
        self._entered(now, [])

    def _persist(self, now: float, position: int, then: Callable[[float, bool], None]) -> None:
        def persisted(now: float, kept: bool) -> None:
            if kept:
                self._kept = position
            then(now, kept)

        if position == self._kept:
            then(now, True)
            return
        self._persisted = persisted
        self._core.emit(Persist(position))

    def _end(self, now: float, refusal: Refusal | None, done: Done) -> None:
        position = self._core.pointers.me.position
        if refusal is not None and self._core.pointers.member and self._kept != position:
            # It stays where it was, also after a restart.
            self._persist(now, position, lambda now, kept: self._finish(now, refusal, done))
        else:
            self._finish(now, refusal, done)

    def _finish(self, now: float, refusal: Refusal | None, done: Done) -> None:
        self.busy = False
        done(now, refusal)


def _held(position: int, ref: NodeRef) -> Refusal:
    return Refusal(f"position {position} is held by {ref.name} ({ref.uid})", held=True)


class Joining:
    """The way of a node without a position, or with one that another holds: ask for a place, then enter there."""

    def __init__(self, core: Core, lookups: Lookups, entry: Entry, contacts: Contacts) -> None:
        self._core = core
        self._lookups = lookups
        self._entry = entry
        self._contacts = contacts
        self._displaced = False
        self._asking = False

    def displace(self, now: float, via: NodeRef) -> None:
        """Give up the position, which another node holds: another is granted in the circle of `via`."""
        self._displaced = True
        if not self._asking and not self._entry.busy:
            self._place(now, via, 0)

    def attempt(self, now: float) -> None:
        """Try (again) to get a place, if one is needed."""
        pointers = self._core.pointers
        if self._asking or self._entry.busy or (pointers.member and not self._displaced):
            return
        via = pointers.head if pointers.member else self._contacts.next({pointers.me.uid})
        if via is None:
            self._displaced = False
            if not pointers.member:
                self._core.timer(Timer.JOIN, self._core.settings.join_retry)
            return
        self._place(now, via, 0)

    def _place(self, now: float, to: NodeRef, hops: int) -> None:
        self._asking = True

        def answered(now: float, answer: Any) -> None:
            if not isinstance(answer, Placed):
                self._retry(self._core.settings.join_retry)
            elif 0 <= answer.position < self._core.pointers.slots:
                self._enter(now, to, answer.position)
            elif answer.elsewhere is not None:
                self._place(now, answer.elsewhere, hops + 1)
            else:
                self._retry(answer.wait_ms / 1000)

        self._core.ask(to, Place(self._core.pointers.me, hops), answered)

    def _enter(self, now: float, via: NodeRef, position: int) -> None:
        def done(now: float, refusal: Refusal | None) -> None:
            if refusal is not None:
                self._retry(self._core.settings.join_retry)
            else:
                self._asking = self._displaced = False

        def found(now: float, owner: Owner | None) -> None:
            if owner is None:
                self._retry(self._core.settings.join_retry)
            else:
                self._entry.enter(now, owner, position, done)

        self._lookups.start(now, position, found, via)

    def _retry(self, after: float) -> None:
        self._asking = False
        self._core.timer(Timer.JOIN, after)
