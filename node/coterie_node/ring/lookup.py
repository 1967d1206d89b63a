"""Iterative lookup (Stoica et al. 2001, section 4.4): this node asks hop by hop and keeps the thread in its own hand.

A hop that does not answer costs a time-out and no more: the next best node is asked instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from coterie_protocol.nodes import NodeRef
from coterie_protocol.ring import FindOwner, OwnerStep

from .core import Core
from .effects import Owner
from .failure import Failures
from .interval import distance

OFFERED = 3
"""How many nearer nodes an answer names: the nearest, and what to try when it is dead."""

Found = Callable[[float, Owner | None], None]


class Lookups:
    """The lookups of this node, and its answers to those of others."""

    def __init__(self, core: Core, failures: Failures) -> None:
        self._core = core
        self._failures = failures
        self._max_hops = 3 * core.pointers.bits + 8

    def step(self, now: float, message: FindOwner) -> OwnerStep:
        """Answer another node's step."""
        pointers = self._core.pointers
        if not pointers.member:
            return OwnerStep(False, None, None, (), ())
        found = pointers.owner(message.slot)
        if found is not None:
            return OwnerStep(True, found.owner, found.predecessor, found.successors, ())
        return OwnerStep(True, None, None, (), pointers.closest_preceding(now, message.slot, OFFERED))

    def start(self, now: float, slot: int, found: Found, via: NodeRef | None = None) -> None:
        """Look a slot's owner up: by this node's own pointers, or as another node sees it (`via`)."""
        pointers = self._core.pointers
        if via is None:
            known = pointers.owner(slot)
            if known is not None:
                found(now, known)
                return
            first: tuple[NodeRef, ...] = pointers.closest_preceding(now, slot, 2 * pointers.length)
        else:
            first = (via,)
        _Lookup(self._core, self._failures, slot, first, found, now, self._max_hops).next(now)


class _Lookup:
    def __init__(
        self,
        core: Core,
        failures: Failures,
        slot: int,
        first: tuple[NodeRef, ...],
        found: Found,
        now: float,
        max_hops: int,
    ) -> None:
        self._core = core
        self._failures = failures
        self._slot = slot
        self._frontier = list(first)
        self._found = found
        self._deadline = now + core.settings.lookup_timeout
        self._max_hops = max_hops
        self._hops = 0
        self._asked = {core.pointers.me.uid}

    def next(self, now: float) -> None:
        slots = self._core.pointers.slots
        if not self._frontier or now >= self._deadline or self._hops >= self._max_hops:
            self._found(now, None)
            return
        best = min(self._frontier, key=lambda ref: distance(ref.position, self._slot - 1, slots))
        self._frontier = [ref for ref in self._frontier if ref.uid != best.uid]
        self._asked.add(best.uid)
        self._hops += 1
        self._core.ask(best, FindOwner(self._slot), lambda now, answer: self._step(now, best, answer))

    def _step(self, now: float, asked: NodeRef, answer: Any) -> None:
        if not isinstance(answer, OwnerStep):
            self._failures.unreachable(asked.uid)
        elif answer.owner is not None:
            self._found(now, Owner(answer.owner, answer.predecessor, answer.successors, self._hops))
            return
        elif answer.member:
            known = {ref.uid for ref in self._frontier} | self._asked
            self._frontier += [ref for ref in answer.closer if ref.uid not in known]
        self.next(now)
