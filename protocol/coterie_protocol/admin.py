"""The admin API's JSON (port 7402): what operators, `coterie ring` and the ring page read."""

from __future__ import annotations

import msgspec

from .bounds import SlotCount

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


class MessageCounts(msgspec.Struct, frozen=True):
    """Messages since the node's process started."""

    accepted: int
    """Taken from clients of this node."""
    stored: int
    """... and stored on a majority."""
    delivered: int
    """Saved and acknowledged by the client of a recipient in whose slot this node acts."""


class HandOver(msgspec.Struct, frozen=True):
    """Slots on their way from one node to another: their configuration is joint, and `taker` is new in it."""

    giver: str
    taker: str
    slots: int


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
    fingers: list[str] = []
    """uids of the distinct fingers, the farthest first."""
    sessions: int = 0
    """Sessions of which this node is the gateway."""
    handovers: list[HandOver] = []
    """Hand-overs of slots of which this node is the acting owner; the largest, at most 64."""
    messages: MessageCounts = MessageCounts(0, 0, 0)
    slots_without_quorum: SlotCount = 0
    """Slots for which this node acts and whose members, as far as it can reach them, are no majority."""


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
    slots_without_quorum: SlotCount = 0
    """Slots for which nobody who can be reached acts with a majority of their members, `slots_unowned` among them.
    Their accounts are unavailable, and messages to them are taken only as long as enough other nodes stand in."""


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
    slots_without_quorum: SlotCount = 0
    """Slots for which this node acts and whose members, as far as it can reach them, are no majority."""


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
    """GET /readyz: 200 when ready, otherwise 503. `reasons` say why it is not, or what works in part only."""

    ready: bool
    state: str
    reasons: list[str]


class RecoveredSlot(msgspec.Struct, frozen=True):
    """One slot that has no quorum any more, and what becomes of it."""

    slot: int
    state: str
    """`stuck` (nothing was changed), `recovered`, `failed`."""
    epoch: int
    """Of the newest configuration that anybody alive knows; -1 when nobody knows one."""
    members: list[str]
    """Its members, uid by uid; those that do not answer are `lost` too."""
    lost: list[str]
    keeper: str
    """The node that begins the slot anew, with what it has."""
    accounts: int
    """Accounts that are kept."""
    records: int
    """Mailbox records that the keeper has; what others alive have is added when they offer it."""
    may_be_lost: str
    """A sentence."""
    given_up: list[str]
    """Names whose only copy is damaged."""
    error: str
    """Why it failed."""


class RecoveryReport(msgspec.Struct, frozen=True):
    """POST /api/v1/recover: which slots cannot reach a quorum, and what was done about them."""

    ring_uid: str
    accepted: bool
    """False: nothing was changed."""
    nodes: dict[str, str]
    """Names of nodes by uid, as far as they are known."""
    slots: list[RecoveredSlot]
    nodes_there: SlotCount = 0
    """Nodes that answer and stay; 0 says nothing: a node of an older release is asked."""
    replication_factor: SlotCount = 0
