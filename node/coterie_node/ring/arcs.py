"""Answers of lookups, kept for a moment: one answer stands for every slot of the owner's arc."""

from __future__ import annotations

from collections.abc import Sequence

from coterie_protocol.nodes import NodeRef

from .effects import Owner
from .interval import within


class Arcs:
    """Chains of an owner and its successors, by arc. Times in seconds."""

    def __init__(self, slots: int, kept_for: float) -> None:
        self._slots = slots
        self._kept_for = kept_for
        self._arcs: list[tuple[float, Owner, tuple[NodeRef, ...]]] = []

    def clear(self) -> None:
        """Forget everything: the ring has changed nearby."""
        self._arcs.clear()

    def add(self, now: float, owner: Owner, chain: tuple[NodeRef, ...]) -> None:
        """Keep an answer and the nodes along the ring from its owner on."""
        self._arcs.append((now + self._kept_for, owner, chain))

    def split(self, now: float, slots: Sequence[int]) -> tuple[dict[int, tuple[NodeRef, ...]], list[int]]:
        """Return the chains of the slots that are known, and the other slots."""
        self._arcs = [arc for arc in self._arcs if arc[0] > now]
        found: dict[int, tuple[NodeRef, ...]] = {}
        rest = []
        for slot in slots:
            for _, owner, chain in reversed(self._arcs):
                before = owner.predecessor
                if before is None or within(before.position, slot, owner.owner.position, self._slots):
                    found[slot] = chain
                    break
            else:
                rest.append(slot)
        return found, rest
