"""The address book: where nodes are, as far as this one knows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec

from coterie_protocol.identifiers import Uid
from coterie_protocol.nodes import NodeRef

from ..config.values import ANY_HOST
from ..telling import tell

MOST = 16_384
"""References that are kept; the one that was learnt longest ago goes first. A node that loses its disk returns as
another one, so that a ring meets more nodes than it ever has."""


def seen_at(ref: NodeRef, host: str) -> NodeRef:
    """Return the reference with the host at which the node was seen, unless it names one itself."""
    return msgspec.structs.replace(ref, host=host) if ref.host in ANY_HOST else ref


class Book:
    """References by uid; of two, the one with the greater incarnation is right."""

    def __init__(self) -> None:
        self._refs: dict[Uid, NodeRef] = {}
        self._met: dict[Uid, NodeRef] = {}
        self._watchers: list[Callable[[Sequence[NodeRef]], None]] = []
        self._changed = False

    def get(self, uid: Uid) -> NodeRef | None:
        """Return what is known of a node."""
        return self._refs.get(uid)

    def all(self) -> list[NodeRef]:
        """Return every reference."""
        return list(self._refs.values())

    def learn(self, refs: Iterable[NodeRef]) -> list[Uid]:
        """Take newer references; return the uids of those that can now be reached elsewhere than before."""
        moved = []
        for ref in refs:
            held = self._refs.get(ref.uid)
            if held is not None:
                if ref.incarnation <= held.incarnation:
                    continue
                ref = seen_at(ref, held.host)
            if ref.host in ANY_HOST:
                continue  # of no use, and it would pass for knowledge
            self._refs.pop(ref.uid, None)
            self._refs[ref.uid] = ref
            if len(self._refs) > MOST:
                del self._refs[next(iter(self._refs))]
            self._changed = True
            if held is None or held.address != ref.address:
                moved.append(ref.uid)
        return moved

    def meet(self, ref: NodeRef) -> list[Uid]:
        """Take what a node said of itself on a connection of its own; return as `learn` does.

        It is returned to when what others say of the node leads nowhere (`doubt`).
        """
        if ref.host not in ANY_HOST:
            self._met.pop(ref.uid, None)
            self._met[ref.uid] = ref
            if len(self._met) > MOST:
                del self._met[next(iter(self._met))]
        return self.learn((ref,))

    def doubt(self, ref: NodeRef) -> None:
        """Note that the node was not found by this reference: go back to where it was met itself, if elsewhere."""
        met = self._met.get(ref.uid)
        if met is not None and self._refs.get(ref.uid) == ref and met.address != ref.address:
            self._refs[ref.uid] = met
            self._changed = True

    def watch(self, callback: Callable[[Sequence[NodeRef]], None]) -> None:
        """Call back with all references some time after a change, to keep them on disk."""
        self._watchers.append(callback)

    def tell(self) -> None:
        """Tell the watchers if anything has changed since the last time: many changes cost one write."""
        if self._changed:
            self._changed = False
            refs = self.all()
            tell(self._watchers, refs)
