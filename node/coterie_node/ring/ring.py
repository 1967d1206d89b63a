"""The facade: one node's ring. Messages, answers and timers go in, effects come out.

The driver's duty: carry the effects out in their order; answer a request with the one `Answer` among its effects;
report each `Ask` by `on_answer`, each `Confirm` by `on_confirmed`, each `Persist` by `on_persisted`; give the time as
seconds that never run backwards. Nothing here waits, sleeps or draws from a source of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from coterie_protocol.nodes import NodeRef
from coterie_protocol.ring import Beat, FindOwner, GetNeighbours, Meet, Notify, Nudge, Place, Standing

from .changes import History, Sight, size
from .chord import Chord
from .contacts import Contacts
from .core import Core
from .effects import Answer, Changed, Effect, Hop, Joined, Moved, Owner, Resolve, Timer
from .failure import Failures
from .fingers import Fingers
from .join import Entry, Joining, Refusal
from .lookup import Lookups, LookupTotals
from .merge import Circles
from .moving import Moving
from .placement import Grants
from .settings import RingSettings

if TYPE_CHECKING:
    import random

Shape = tuple[NodeRef, NodeRef | None, tuple[NodeRef, ...]]


class Ring:
    """One node in the ring of its peers. Raises ValueError for settings that cannot be."""

    def __init__(
        self, me: NodeRef, settings: RingSettings, replication_factor: int, slots: int, rng: random.Random
    ) -> None:
        if not -1 <= me.position < slots:
            raise ValueError(f"position {me.position} is outside of the ring's slots, 0 to {slots - 1}")
        self._core = Core(me, settings, max(settings.successors, replication_factor), slots, rng)
        core = self._core
        self._contacts = Contacts(me.uid)
        self._failures = Failures(core, self._buried)
        self._lookups = Lookups(core, self._failures)
        self._entry = Entry(core, self._entered)
        self._joining = Joining(core, self._lookups, self._entry, self._contacts)
        self._circles = Circles(core, self._lookups, self._entry, self._joining, self._contacts, self._adopted)
        self._grants = Grants(core)
        self._moving = Moving(core, self._lookups, self._entry, self._grants)
        self._chord = Chord(core, self._failures, self._circles, self._grants, self._joining.displace)
        self._fingers = Fingers(core, self._lookups)
        self._shape: Shape = self._now_shape()
        self._history = History(Sight(*self._shape), core.pointers.length, slots)

    # --- what can be seen ---

    @property
    def me(self) -> NodeRef:
        """Return this node's own reference."""
        return self._core.pointers.me

    @property
    def member(self) -> bool:
        """Say whether the node is in a circle."""
        return self._core.pointers.member

    @property
    def predecessor(self) -> NodeRef | None:
        """Return the predecessor; None when it is not known, or the node is alone."""
        return self._core.pointers.predecessor

    @property
    def successors(self) -> tuple[NodeRef, ...]:
        """Return the successor list, nearest first."""
        return self._core.pointers.successors

    @property
    def fingers(self) -> list[NodeRef]:
        """Return the distinct fingers, the farthest first."""
        fingers = self._core.pointers.fingers
        return list({fingers[exponent].uid: fingers[exponent] for exponent in sorted(fingers, reverse=True)}.values())

    @property
    def size(self) -> int:
        """Return how many nodes this one's circle has; an estimate when it does not see all of it."""
        return size(Sight(*self._shape), self._core.pointers.slots)

    @property
    def changes(self) -> Counter[str]:
        """Return how many nodes joined, left, moved and failed in this node's sight, since the start."""
        return self._history.totals

    @property
    def lookups(self) -> LookupTotals:
        """Return how this node's lookups went."""
        return self._lookups.totals

    def owner(self, slot: int) -> Owner | None:
        """Return a slot's owner if it can be told without asking anybody."""
        return self._core.pointers.owner(slot) if self.member else None

    @property
    def length(self) -> int:
        """Return how many successors a node keeps when the ring is large enough."""
        return self._core.pointers.length

    def standing(self, now: float) -> Standing:
        """Return how this node presents itself to others."""
        return self._core.standing(now)

    def circle(self, now: float) -> str:
        """Return the mark of this node's circle."""
        return self._core.circle.mark(now)[0]

    # --- what goes in ---

    def start(self, now: float, found: bool = False) -> list[Effect]:
        """Begin: with a position, form a circle at once; without, found the ring (`found`) or ask for a place."""
        if self.me.position >= 0:
            self._core.pointers.member = True
            self._core.alone_since = now
            self._core.emit(Joined(self.me.uid))
            self._core.emit(Changed())
            self._entered(now, [])
        elif found:
            self._entry.found_ring(now, lambda now, refusal: None)
        else:
            self._core.timer(Timer.JOIN, 0.0)
        return self._finish(now)

    def learn(self, refs: Iterable[NodeRef]) -> None:
        """Remember nodes of this ring, to be asked when they are not in sight."""
        self._contacts.learn(refs)

    def on_message(self, now: float, sender: str, message: Any) -> list[Effect]:
        """Take a request or an event of a peer. What is none of the ring's, or not its sender's, is ignored."""
        self._core.pointers.heard_of(sender)
        standing = getattr(message, "standing", None)
        if isinstance(standing, Standing):
            if standing.me.uid != sender or sender == self.me.uid:
                return []
            self._sight(now, standing)
        if isinstance(message, FindOwner):
            if 0 <= message.slot < self._core.pointers.slots:
                self._core.emit(Answer(self._lookups.step(now, message)))
        elif isinstance(message, GetNeighbours):
            self._core.emit(Answer(self._chord.neighbours(now, message.standing)))
        elif isinstance(message, Notify):
            self._chord.rectify(now, message)
        elif isinstance(message, Nudge):
            self._chord.soon(now)
        elif isinstance(message, Beat):
            self._circles.on_beat(now, message)
        elif isinstance(message, Meet):
            self._contacts.learn((message.standing.me,))
            self._core.emit(Answer(self._circles.on_meet(now, message)))
        elif isinstance(message, Place):
            self._core.emit(Answer(self._grants.place(now, message)))
        return self._finish(now)

    def on_answer(self, now: float, token: int, answer: Any) -> list[Effect]:
        """Take the answer to an `Ask`; None when there was none."""
        standing = getattr(answer, "standing", None)
        if isinstance(standing, Standing):
            self._core.pointers.heard_of(standing.me.uid)
            self._sight(now, standing)
        self._core.answered(now, token, answer)
        return self._finish(now)

    def on_timer(self, now: float, timer: Timer) -> list[Effect]:
        """Take a timer that has run out."""
        settings = self._core.settings
        if timer is Timer.JOIN:
            self._joining.attempt(now)
        elif self.member:
            if timer is Timer.STABILIZE:
                self._history.look(Sight(*self._shape))
                self._circles.beat(now)
                self._chord.stabilize(now)
                self._core.timer(Timer.STABILIZE, settings.stabilize)
            elif timer is Timer.NUDGE:
                self._chord.stabilize(now)
            elif timer is Timer.FINGERS:
                self._fingers.tick(now)
            elif timer is Timer.MEET:
                self._circles.meet(now)
        return self._finish(now)

    def on_unreachable(self, now: float, uid: str) -> list[Effect]:
        """Take a lost link: the node at its other end is suspected."""
        self._failures.unreachable(uid)
        return self._finish(now)

    def on_confirmed(self, now: float, uid: str, alive: bool) -> list[Effect]:
        """Take the result of a `Confirm`."""
        self._failures.confirmed(now, uid, alive)
        return self._finish(now)

    def on_persisted(self, now: float, kept: bool = True) -> list[Effect]:
        """Take the end of a `Persist`: the position is on disk, or could not be written."""
        self._entry.persisted(now, kept)
        return self._finish(now)

    def lookup(self, now: float, slot: int, path: list[Hop] | None = None) -> tuple[int, list[Effect]]:
        """Look a slot's owner up; the token comes back in `Resolve`. The steps are appended to `path`."""
        token = self._core.token()
        if self.member:
            self._lookups.start(now, slot, lambda now, owner: self._core.emit(Resolve(token, owner)), path=path)
        else:
            self._core.emit(Resolve(token, None))
        return token, self._finish(now)

    def move(self, now: float, position: int) -> tuple[int, list[Effect]]:
        """Take another position; the token comes back in `Moved`. Data stay where the slots' members hold them."""
        token = self._core.token()

        def done(now: float, refusal: Refusal | None) -> None:
            self._core.emit(Moved(token, "" if refusal is None else refusal.detail))

        self._moving.move(now, position, done)
        return token, self._finish(now)

    def leave(self, now: float, leaving: bool = True) -> list[Effect]:
        """Ask to be suggested for nothing any more, or take that back: a new incarnation says so to the others."""
        me = self.me
        if me.leaving != leaving:
            self._core.pointers.me = msgspec.structs.replace(me, leaving=leaving, incarnation=me.incarnation + 1)
            self._chord.notify(now)
        return self._finish(now)

    def relocate(self, now: float, host: str) -> list[Effect]:
        """Be reached at another host from now on: a new incarnation says so to the others."""
        me = self.me
        if me.host != host:
            self._core.pointers.me = msgspec.structs.replace(me, host=host, incarnation=me.incarnation + 1)
            if self.member:
                self._chord.notify(now)
        return self._finish(now)

    # --- within ---

    def _sight(self, now: float, standing: Standing) -> None:
        """Take a node's own newest reference, and see whether it stands where this one does.

        A pointer to an earlier life of the node holds on if it has come back to this circle in the meantime.
        """
        me, pointers = self.me, self._core.pointers
        mine, _ = self._core.circle.mark(now)
        here = standing.member and not standing.alone and standing.circle == mine
        pointers.refresh(standing.me, 0 if here else standing.since)
        if here and pointers.member and standing.me.position == me.position:
            self._chord.twin(now, standing.me)

    def _entered(self, now: float, old: list[NodeRef]) -> None:
        core = self._core
        self._circles.farewell(now, old)
        self._chord.notify(now)
        self._circles.beat(now)
        core.timer(Timer.STABILIZE, core.settings.stabilize)
        core.timer(Timer.MEET, core.settings.meet_alone if core.pointers.alone else core.settings.meet)
        self._fingers.restart()
        self._chord.soon(now)

    def _adopted(self, now: float) -> None:
        self._chord.soon(now)

    def _buried(self, now: float, ref: NodeRef) -> None:
        self._contacts.learn((ref,))
        self._chord.soon(now)

    def _now_shape(self) -> Shape:
        pointers = self._core.pointers
        return (pointers.me, pointers.predecessor, pointers.successors)

    def _finish(self, now: float) -> list[Effect]:
        """See what has changed, tell the predecessor and the driver, and hand the effects out."""
        core, pointers = self._core, self._core.pointers
        me, _, successors = self._shape
        if pointers.member and successors and not pointers.successors:
            self._left_alone(now)
        shape = self._now_shape()
        if shape != self._shape:
            self._shape = shape
            core.emit(Changed())
            if pointers.predecessor is not None and (shape[2] != successors or shape[0] != me):
                core.send(pointers.predecessor, Nudge())
        return core.take()

    def _left_alone(self, now: float) -> None:
        """Be a circle of its own: every successor is gone. Whoever is still remembered is asked at once."""
        core = self._core
        if core.pointers.predecessor is not None:
            self._contacts.learn((core.pointers.predecessor,))
        self._contacts.learn(core.pointers.fingers.values())
        core.pointers.predecessor, core.pointers.fingers = None, {}
        core.pointers.renew(core.pointers.me.position)
        core.circle.reset()
        core.alone_since = now
        core.emit(Joined(core.pointers.me.uid))
        core.timer(Timer.MEET, core.settings.meet_alone)
