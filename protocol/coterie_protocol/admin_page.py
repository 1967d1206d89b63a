"""What the ring page reads: the stream of events and the trace of a lookup (docs/protocol.md, "The ring page")."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from .admin import Member
from .bounds import SlotCount


class Seat(msgspec.Struct, frozen=True):
    """The node from which the ring is seen."""

    uid: str
    name: str
    version: str
    state: str
    reasons: list[str]


class LiveMember(Member, frozen=True):
    """A node as the ring shows it, and what it has done lately. Rates are averages since the look before."""

    stored_per_second: float = 0.0
    """Messages that its clients sent and that are stored on a majority."""
    delivered_per_second: float = 0.0
    """Messages that recipients have saved, of the slots that it acts for."""
    records_per_second: float = 0.0
    """By how many its records (in all roles) grew; negative when it gives some up."""


class Snapshot(msgspec.Struct, frozen=True):
    """The event `ring`: everything. Sent once, at the beginning of a stream."""

    at: str
    """RFC 3339, UTC, with milliseconds."""
    seat: Seat
    ring_uid: str
    """Empty while the node is in no ring: then there are no members, and `seat` has the reasons."""
    replication_factor: int
    slots: int
    slots_under_replicated: int
    slots_unowned: int
    slots_forming: int
    members: list[LiveMember]
    slots_without_quorum: SlotCount = 0


class Change(msgspec.Struct, frozen=True, omit_defaults=True):
    """The event `change`: what is different from what the stream has said before. What is missing is as it was."""

    at: str
    seat: Seat | UnsetType = UNSET
    ring_uid: str | UnsetType = UNSET
    replication_factor: int | UnsetType = UNSET
    slots: int | UnsetType = UNSET
    slots_under_replicated: int | UnsetType = UNSET
    slots_unowned: int | UnsetType = UNSET
    slots_forming: int | UnsetType = UNSET
    members: list[LiveMember] | UnsetType = UNSET
    """Members that are new or have changed, whole."""
    gone: list[str] | UnsetType = UNSET
    """uids of those that are members no more."""
    slots_without_quorum: SlotCount | UnsetType = UNSET


class TraceHop(msgspec.Struct, frozen=True):
    """One step of a lookup: whom the node asked."""

    uid: str
    name: str
    position: int
    answered: bool
    """False: it gave no answer in time, and the lookup went round it."""
    rtt_seconds: float


class Trace(msgspec.Struct, frozen=True):
    """GET /api/v1/lookup: the way of one lookup. Names are hashed only: it says nothing of whether they are taken."""

    slot: int
    position_ratio: float
    """Where the slot begins on the circle, in [0, 1)."""
    start: str
    """uid of the node that looked."""
    hops: list[TraceHop]
    """In order; none when the node could tell by itself."""
    owner: str | None
    """uid of the slot's owner as the ring sees it; None when nobody could tell in time."""
    successors: list[str]
    """uids of those after the owner."""
    holders: list[str]
    """uids that the slot's configuration names, as far as this node knows it; the slot decides, the ring suggests."""
    key: str = ""
    """The identifier that was looked up: 40 hexadecimal digits."""
