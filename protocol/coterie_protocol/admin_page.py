"""What the ring page reads: the stream of events and the trace of a lookup (docs/protocol.md, "The ring page")."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, UnsetType

from .admin import Member
from .bounds import (
    Copies,
    Count,
    Hex,
    Label,
    Listed,
    Nodes,
    Rate,
    Ratio,
    RingUidOrNone,
    Seconds,
    Sentence,
    SlotCount,
    SlotNumber,
    SlotOrNone,
    UidText,
    Word,
)


class Seat(msgspec.Struct, frozen=True):
    """The node from which the ring is seen."""

    uid: UidText
    name: Label
    version: Word
    state: Word
    reasons: Annotated[list[Sentence], Listed]


class LiveMember(Member, frozen=True):
    """A node as the ring shows it, and what it has done lately. Rates are averages since the look before."""

    stored_per_second: Rate = 0.0
    """Messages that its clients sent and that are stored on a majority."""
    delivered_per_second: Rate = 0.0
    """Messages that recipients have saved, of the slots that it acts for."""
    records_per_second: Rate = 0.0
    """By how many its records (in all roles) grew; negative when it gives some up."""


class Snapshot(msgspec.Struct, frozen=True):
    """The event `ring`: everything. Sent once, at the beginning of a stream."""

    at: Word
    """RFC 3339, UTC, with milliseconds."""
    seat: Seat
    ring_uid: RingUidOrNone
    """Empty while the node is in no ring: then there are no members, and `seat` has the reasons."""
    replication_factor: Copies
    slots: SlotCount
    slots_under_replicated: Count
    slots_unowned: Count
    slots_forming: Count
    members: Annotated[list[LiveMember], Nodes]
    slots_without_quorum: SlotCount = 0


class Change(msgspec.Struct, frozen=True, omit_defaults=True):
    """The event `change`: what is different from what the stream has said before. What is missing is as it was."""

    at: Word
    seat: Seat | UnsetType = UNSET
    ring_uid: RingUidOrNone | UnsetType = UNSET
    replication_factor: Copies | UnsetType = UNSET
    slots: SlotCount | UnsetType = UNSET
    slots_under_replicated: Count | UnsetType = UNSET
    slots_unowned: Count | UnsetType = UNSET
    slots_forming: Count | UnsetType = UNSET
    members: Annotated[list[LiveMember], Nodes] | UnsetType = UNSET
    """Members that are new or have changed, whole."""
    gone: Annotated[list[UidText], Nodes] | UnsetType = UNSET
    """uids of those that are members no more."""
    slots_without_quorum: SlotCount | UnsetType = UNSET


class TraceHop(msgspec.Struct, frozen=True):
    """One step of a lookup: whom the node asked."""

    uid: UidText
    name: Label
    position: SlotOrNone
    answered: bool
    """False: it gave no answer in time, and the lookup went round it."""
    rtt_seconds: Seconds


class Trace(msgspec.Struct, frozen=True):
    """GET /api/v1/lookup: the way of one lookup. Names are hashed only: it says nothing of whether they are taken."""

    slot: SlotNumber
    position_ratio: Ratio
    """Where the slot begins on the circle, in [0, 1)."""
    start: UidText
    """uid of the node that looked."""
    hops: Annotated[list[TraceHop], Listed]
    """In order; none when the node could tell by itself."""
    owner: UidText | None
    """uid of the slot's owner as the ring sees it; None when nobody could tell in time."""
    successors: Annotated[list[UidText], Listed]
    """uids of those after the owner."""
    holders: Annotated[list[UidText], Nodes]
    """uids that the slot's configuration names, as far as this node knows it; the slot decides, the ring suggests."""
    key: Hex = ""
    """The identifier that was looked up: 40 hexadecimal digits."""
