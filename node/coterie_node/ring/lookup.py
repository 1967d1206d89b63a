"""Iterative lookup (Stoica et al. 2001, section 4.4): this node asks hop by hop and keeps the thread in its own hand.

A hop that does not answer costs a time-out and no more: the next best node is asked instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from coterie_node.measure import LOOKUP_HOPS, LOOKUP_SECONDS, Distribution
from coterie_protocol.nodes import NodeRef
from coterie_protocol.ring import FindOwner, OwnerStep

from .core import Core
from .effects import Hop, Owner
from .failure import Failures
from .interval import distance

OFFERED = 3
"""How many nearer nodes an answer names: the nearest, and what to try when it is dead."""

Found = Callable[[float, Owner | None], None]


class LookupTotals:
    """How this node's lookups went since the start, those for its fingers included."""

    def __init__(self) -> None:
        self.hops = Distribution(LOOKUP_HOPS)
        """Nodes that were asked, the silent ones too: 0 when this node's own pointers told."""
        self.seconds = Distribution(LOOKUP_SECONDS)
        self.failed = 0
        """Lookups that found nobody in time; they are in neither distribution."""


class Lookups:
    """The lookups of this node, and its answers to those of others."""

    def __init__(self, core: Core, failures: Failures) -> None:
        self._core = core
        self._failures = failures
        self._max_hops = 3 * core.pointers.bits + 8
        self.totals = LookupTotals()

    def step(self, now: float, message: FindOwner) -> OwnerStep:
        """Answer another node's step."""
        pointers = self._core.pointers
        if not pointers.member:
            return OwnerStep(0, None, None, (), ())
        since = pointers.since
        found = pointers.owner(message.slot, message.avoid)
        if found is not None:
            return OwnerStep(since, found.owner, found.predecessor, found.successors, ())
        closer = pointers.closest_preceding(now, message.slot, OFFERED, message.avoid)
        return OwnerStep(since, None, None, (), closer)

    def start(
        self, now: float, slot: int, found: Found, via: NodeRef | None = None, path: list[Hop] | None = None
    ) -> None:
        """Look a slot's owner up: by this node's own pointers, or as another node sees it (`via`).

        Whoever hands a `path` in finds there each step that was taken, also when the lookup comes to nothing.
        """
        lookup = _Lookup(self._core, self._failures, slot, self._counted(now, found), now, self._max_hops, path)
        if via is None:
            lookup.begin(now)
        else:
            lookup.ask(now, via, any_life=True)

    def _counted(self, begun: float, found: Found) -> Found:
        def counted(now: float, owner: Owner | None) -> None:
            if owner is None:
                self.totals.failed += 1
            else:
                self.totals.hops.observe(owner.hops)
                self.totals.seconds.observe(now - begun)
            found(now, owner)

        return counted


class _Lookup:
    def __init__(
        self,
        core: Core,
        failures: Failures,
        slot: int,
        found: Found,
        now: float,
        max_hops: int,
        path: list[Hop] | None,
    ) -> None:
        self._core = core
        self._failures = failures
        self._slot = slot
        self._found = found
        self._deadline = now + core.settings.lookup_timeout
        self._max_hops = max_hops
        self._path = path
        self._hops = 0
        self._frontier: dict[str, NodeRef] = {}
        self._answered: list[NodeRef | None] = []
        """The way here: the nodes that answered, None for this one."""
        self._silent: set[str] = set()

    def begin(self, now: float) -> None:
        """Look at this node's own pointers."""
        pointers = self._core.pointers
        known = pointers.owner(self._slot, self._silent)
        if known is not None:
            self._found(now, known._replace(hops=self._hops))
            return
        self._answered.append(None)
        self._add(pointers.closest_preceding(now, self._slot, 2 * pointers.length, self._silent))
        self._next(now)

    def ask(self, now: float, ref: NodeRef, any_life: bool = False) -> None:
        """Ask one node: the one that was pointed to, or (`any_life`) whatever has become of it."""
        if now >= self._deadline or self._hops >= self._max_hops:
            self._found(now, None)
            return
        self._hops += 1
        message = FindOwner(self._slot, tuple(sorted(self._silent)))
        asked = now

        def answered(now: float, answer: Any) -> None:
            if self._path is not None:
                self._path.append(Hop(ref, asked, now, answer is not None))
            self._step(now, ref, answer, any_life)

        self._core.ask(ref, message, answered)

    def _add(self, refs: tuple[NodeRef, ...]) -> None:
        passed = {ref.uid for ref in self._answered if ref is not None}
        for ref in refs:
            if ref.uid not in passed and ref.uid not in self._silent and ref.uid != self._core.pointers.me.uid:
                self._frontier[ref.uid] = ref

    def _next(self, now: float) -> None:
        if not self._frontier:
            self._found(now, None)
            return
        slots, before = self._core.pointers.slots, self._slot - 1
        best = min(self._frontier.values(), key=lambda ref: distance(ref.position, before, slots))
        del self._frontier[best.uid]
        self.ask(now, best)

    def _step(self, now: float, asked: NodeRef, answer: Any, any_life: bool) -> None:
        if isinstance(answer, OwnerStep) and answer.since and (any_life or self._same_life(asked, answer)):
            if answer.owner is not None:
                self._found(now, Owner(answer.owner, answer.predecessor, answer.successors, self._hops))
                return
            self._answered.append(msgspec.structs.replace(asked, incarnation=max(asked.incarnation, answer.since)))
            self._add(answer.closer)
            self._next(now)
            return
        self._silent.add(asked.uid)
        if answer is None:
            self._failures.unreachable(asked.uid)
        self._round(now)

    def _same_life(self, asked: NodeRef, answer: OwnerStep) -> bool:
        if answer.since <= asked.incarnation:
            return True
        self._core.pointers.drop_finger(asked.uid)
        return False

    def _round(self, now: float) -> None:
        """Find a way round a silent node: the one that named it may know who comes after it."""
        if not self._answered:
            self._next(now)
            return
        last = self._answered.pop()
        if last is None:
            self.begin(now)
        else:
            self.ask(now, last)
