"""Nodes of this ring that were once heard of: how circles find each other, and how a node joins."""

from __future__ import annotations

from collections.abc import Iterable

from coterie_protocol.nodes import NodeRef

LIMIT = 128
"""The longest unheard of goes first."""


class Contacts:
    """Remembered nodes, asked in turn."""

    def __init__(self, own: str) -> None:
        self._own = own
        self._refs: dict[str, NodeRef] = {}

    def learn(self, refs: Iterable[NodeRef]) -> None:
        """Remember nodes; the greater incarnation wins."""
        for ref in refs:
            held = self._refs.get(ref.uid)
            if ref.uid in (self._own, "") or (held is not None and held.incarnation >= ref.incarnation):
                continue
            self._refs[ref.uid] = ref
            if len(self._refs) > LIMIT:
                del self._refs[next(iter(self._refs))]

    def next(self, exclude: set[str]) -> NodeRef | None:
        """Return the node that was not returned for longest and is not excluded."""
        for uid, ref in self._refs.items():
            if uid not in exclude:
                del self._refs[uid]
                self._refs[uid] = ref
                return ref
        return None
