"""Messages of the ring's maintenance and lookups (docs/protocol.md, "The ring"). Tags 10 to 39.

A *circle* is a set of nodes whose pointers form one ring. One ring (one ring uid) may fall into several circles for a
while: after a partition, or after a power cut, when every node forms one alone. Every message that changes pointers
therefore says which circle its sender is in.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from .bounds import Count, Listed, Sign, SlotNumber, SlotOrNone, UidText
from .nodes import NodeRef


class Standing(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Who a node is just now, and in which circle.

    `circle` is the smallest uid that is known to live in the sender's circle and `beat` the newest number by which that
    node said so itself: a mark without newer beats is dropped, so a dead node does not name a circle for ever.
    """

    me: NodeRef
    member: bool
    """False while the node is outside of every circle (it is still joining)."""
    alone: bool
    """The node is a circle of its own."""
    circle: UidText
    beat: Count
    since: Count
    """The incarnation with which the node entered its circle: older references to it are of another life.

    A node that restarts, moves or goes over to another circle has left the one before, as if it had failed there.
    """


class FindOwner(msgspec.Struct, array_like=True, frozen=True, tag=10):
    """One step of an iterative lookup: who owns this slot, or who is nearer to it? Answered by OwnerStep."""

    slot: SlotNumber
    avoid: Annotated[tuple[UidText, ...], Listed] = ()
    """uids that did not answer in this lookup: look past them."""


class OwnerStep(msgspec.Struct, array_like=True, frozen=True, tag=11):
    """Either the slot's owner with its predecessor and its successors, or the nodes nearest before the slot.

    `since` is the answering node's as in Standing, 0 when it is in no circle: one that was pointed to in an earlier
    life may speak of another circle.
    """

    since: Count
    owner: NodeRef | None
    predecessor: NodeRef | None
    successors: Annotated[tuple[NodeRef, ...], Listed]
    closer: Annotated[tuple[NodeRef, ...], Listed]


class GetNeighbours(msgspec.Struct, array_like=True, frozen=True, tag=12):
    """Ask a node for its predecessor and its successor list (stabilize and join). Answered by Neighbours."""

    standing: Standing


class Neighbours(msgspec.Struct, array_like=True, frozen=True, tag=13):
    """A node's own pointers."""

    standing: Standing
    predecessor: NodeRef | None
    successors: Annotated[tuple[NodeRef, ...], Listed]


class Notify(msgspec.Struct, array_like=True, frozen=True, tag=14):
    """The sender holds the receiver to be its successor: the receiver rectifies its predecessor. An event.

    `incarnation` is the receiver's as the sender knows it: one that has entered another circle since is not meant.
    """

    standing: Standing
    incarnation: Count


class Nudge(msgspec.Struct, array_like=True, frozen=True, tag=15):
    """Something has changed at your successor: stabilize now instead of at the next period. An event."""


class Beat(msgspec.Struct, array_like=True, frozen=True, tag=16):
    """The circle's mark, passed on from neighbour to neighbour as soon as it is news. An event.

    `role` says what the receiver is to the sender: 1 its successor, -1 its predecessor, 0 neither (any more).
    """

    standing: Standing
    role: Sign


class Meet(msgspec.Struct, array_like=True, frozen=True, tag=17):
    """Ask a node out of sight for its circle, telling one's own. Answered by Met."""

    standing: Standing


class Met(msgspec.Struct, array_like=True, frozen=True, tag=18):
    """The answer to Meet."""

    standing: Standing


class Place(msgspec.Struct, array_like=True, frozen=True, tag=19):
    """A node without a position asks for one. `hops` counts how often it was sent on. Answered by Placed.

    A node that moves asks the owner of the arc for one position, its `wish` (at least 0).
    """

    node: NodeRef
    hops: Count
    wish: SlotOrNone = -1


class Placed(msgspec.Struct, array_like=True, frozen=True, tag=20):
    """`position` is granted (at least 0); or ask `elsewhere`, the owner of a wider arc; or wait and ask again."""

    position: SlotOrNone
    elsewhere: NodeRef | None
    wait_ms: Count


RingMessage = (
    FindOwner | OwnerStep | GetNeighbours | Neighbours | Notify | Nudge | Beat | Meet | Met | Place | Placed
)  # fmt: skip
