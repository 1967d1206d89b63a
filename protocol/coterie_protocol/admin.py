"""The admin API's JSON (port 7402): what operators, `coterie ring` and the ring page read."""

from __future__ import annotations

import msgspec

NODE_STATES = ("forming", "joining", "syncing", "ready", "leaving", "left", "unreachable")


class SlotCounts(msgspec.Struct, frozen=True):
    """Slots by this node's role: owner, replica, and held though it is no member."""

    users: int
    backups: int
    held: int


class RecordCounts(msgspec.Struct, frozen=True):
    """Records (accounts and mailbox records) by this node's role in their slot."""

    users: int
    backups: int
    held: int


class Member(msgspec.Struct, frozen=True):
    """A node as the ring shows it. `position` is its slot number; the ratios lie in [0, 1)."""

    uid: str
    name: str
    position: int
    position_ratio: float
    arc_share: float
    slots: SlotCounts
    records: RecordCounts
    state: str
    slots_under_replicated: int
    """Slots of which this node is the acting owner and whose members are not all live and in sync."""
    peer: str
    client: str
    admin: str
    successors: list[str]
    """uids of the successor list."""
    predecessor: str | None
    slots_forming: int = 0
    """Slots for which this node acts and which never yet had as many members as the replication factor."""


class RingReport(msgspec.Struct, frozen=True):
    """GET /api/v1/ring: the whole ring as this node sees it."""

    ring_uid: str
    replication_factor: int
    slots: int
    members: list[Member]
    slots_under_replicated: int
    slots_unowned: int
    """Slots that no reachable member acts for."""
    slots_forming: int = 0
    """Slots that never yet had as many members as the replication factor: they take no accounts or messages."""


class NodeReport(msgspec.Struct, frozen=True):
    """GET /api/v1/node: this node."""

    uid: str
    name: str
    version: str
    ring_uid: str
    state: str
    reasons: list[str]
    position: int
    replication_factor: int
    slots: SlotCounts
    records: RecordCounts
    sessions: int
    slots_under_replicated: int
    uptime_seconds: float
    successors: list[str]
    predecessor: str | None


class SlotReport(msgspec.Struct, frozen=True):
    """GET /api/v1/slots: one slot that this node knows of."""

    slot: int
    epoch: int
    state: str
    """plain, joint, under_replicated, stray."""
    old: list[str]
    new: list[str]
    acting: str | None
    accounts: int
    records: int


class Operation(msgspec.Struct, frozen=True):
    """GET /api/v1/operations: long work of this node (hand-over, leave, move, repair)."""

    kind: str
    state: str
    done: int
    total: int
    since: str
    """RFC 3339, UTC."""
    detail: str


class Readiness(msgspec.Struct, frozen=True):
    """GET /readyz: 200 when ready, otherwise 503 with the reasons."""

    ready: bool
    state: str
    reasons: list[str]
