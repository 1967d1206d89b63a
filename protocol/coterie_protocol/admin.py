"""The admin API's JSON (port 7402): what operators, `coterie ring` and the ring page read."""

from __future__ import annotations

from typing import Annotated

import msgspec

from .bounds import (
    Address,
    Copies,
    Count,
    CountOrNone,
    Items,
    Label,
    Listed,
    Members,
    Name,
    Nodes,
    PerSlot,
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

NODE_STATES = ("forming", "joining", "syncing", "ready", "leaving", "left", "unreachable")


class SlotCounts(msgspec.Struct, frozen=True):
    """Slots by this node's role: owner, replica, and held though it is no member."""

    users: Count
    backups: Count
    held: Count


class RecordCounts(msgspec.Struct, frozen=True):
    """Records (accounts and mailbox records) by this node's role in their slot."""

    users: Count
    backups: Count
    held: Count


class MessageCounts(msgspec.Struct, frozen=True):
    """Messages since the node's process started."""

    accepted: Count
    """Taken from clients of this node."""
    stored: Count
    """... and stored on a majority."""
    delivered: Count
    """Saved and acknowledged by the client of a recipient in whose slot this node acts."""


class HandOver(msgspec.Struct, frozen=True):
    """Slots on their way from one node to another: their configuration is joint, and `taker` is new in it."""

    giver: UidText
    taker: UidText
    slots: SlotCount


class Member(msgspec.Struct, frozen=True):
    """A node as the ring shows it. `position` is its slot number; the ratios lie in [0, 1)."""

    uid: UidText
    name: Label
    position: SlotOrNone
    position_ratio: Ratio
    arc_share: Ratio
    slots: SlotCounts
    records: RecordCounts
    state: Word
    slots_under_replicated: Count
    """Slots of which this node is the acting owner and whose members are not all live and in sync."""
    peer: Address
    client: Address
    admin: Address
    successors: Annotated[list[UidText], Listed]
    """uids of the successor list."""
    predecessor: UidText | None
    slots_forming: Count = 0
    """Slots for which this node acts and which never yet had as many members as the replication factor."""
    fingers: Annotated[list[UidText], Listed] = []
    """uids of the distinct fingers, the farthest first."""
    sessions: Count = 0
    """Sessions of which this node is the gateway."""
    handovers: Annotated[list[HandOver], Listed] = []
    """Hand-overs of slots of which this node is the acting owner; the largest, at most 64."""
    messages: MessageCounts = MessageCounts(0, 0, 0)
    slots_without_quorum: SlotCount = 0
    """Slots for which this node acts and whose members, as far as it can reach them, are no majority."""


class RingReport(msgspec.Struct, frozen=True):
    """GET /api/v1/ring: the whole ring as this node sees it."""

    ring_uid: RingUidOrNone
    replication_factor: Copies
    slots: SlotCount
    members: Annotated[list[Member], Nodes]
    slots_under_replicated: Count
    slots_unowned: Count
    """Slots that no reachable member acts for."""
    slots_forming: Count = 0
    """Slots that never yet had as many members as the replication factor: they take no accounts or messages."""
    slots_without_quorum: SlotCount = 0
    """Slots for which nobody who can be reached acts with a majority of their members, `slots_unowned` among them.
    Their accounts are unavailable, and messages to them are taken only as long as enough other nodes stand in."""


class NodeReport(msgspec.Struct, frozen=True):
    """GET /api/v1/node: this node."""

    uid: UidText
    name: Label
    version: Word
    ring_uid: RingUidOrNone
    state: Word
    reasons: Annotated[list[Sentence], Listed]
    position: SlotOrNone
    replication_factor: Copies
    slots: SlotCounts
    records: RecordCounts
    sessions: Count
    slots_under_replicated: Count
    uptime_seconds: Seconds
    successors: Annotated[list[UidText], Listed]
    predecessor: UidText | None
    slots_without_quorum: SlotCount = 0
    """Slots for which this node acts and whose members, as far as it can reach them, are no majority."""


class SlotReport(msgspec.Struct, frozen=True):
    """GET /api/v1/slots: one slot that this node knows of."""

    slot: SlotNumber
    epoch: Count
    state: Word
    """plain, joint, under_replicated, stray."""
    old: Annotated[list[UidText], Members]
    new: Annotated[list[UidText], Members]
    acting: UidText | None
    accounts: Count
    records: Count


class Operation(msgspec.Struct, frozen=True):
    """GET /api/v1/operations: long work of this node (hand-over, leave, move, repair)."""

    kind: Word
    state: Word
    done: Count
    total: Count
    since: Word
    """RFC 3339, UTC."""
    detail: Sentence


class Readiness(msgspec.Struct, frozen=True):
    """GET /readyz: 200 when ready, otherwise 503. `reasons` say why it is not, or what works in part only."""

    ready: bool
    state: Word
    reasons: Annotated[list[Sentence], Listed]


class Refusal(msgspec.Struct, frozen=True):
    """Any request that was refused, or that failed: a word for programs and a sentence for people."""

    error: Word = "unknown"
    detail: Sentence = ""


class RecoveredSlot(msgspec.Struct, frozen=True):
    """One slot that has no quorum any more, and what becomes of it."""

    slot: SlotNumber
    state: Word
    """`stuck` (nothing was changed), `recovered`, `failed`."""
    epoch: CountOrNone
    """Of the newest configuration that anybody alive knows; -1 when nobody knows one."""
    members: Annotated[list[UidText], Nodes]
    """Its members, uid by uid; those that do not answer are `lost` too."""
    lost: Annotated[list[UidText], Nodes]
    keeper: UidText
    """The node that begins the slot anew, with what it has."""
    accounts: Count
    """Accounts that are kept."""
    records: Count
    """Mailbox records that the keeper has; what others alive have is added when they offer it."""
    may_be_lost: Sentence
    """A sentence."""
    given_up: Annotated[list[Name], Items]
    """Names whose only copy is damaged."""
    error: Sentence
    """Why it failed."""


class RecoveryReport(msgspec.Struct, frozen=True):
    """POST /api/v1/recover: which slots cannot reach a quorum, and what was done about them."""

    ring_uid: RingUidOrNone
    accepted: bool
    """False: nothing was changed."""
    nodes: Annotated[dict[UidText, Label], Nodes]
    """Names of nodes by uid, as far as they are known."""
    slots: Annotated[list[RecoveredSlot], PerSlot]
    nodes_there: SlotCount = 0
    """Nodes that answer and stay; 0 says nothing: a node of an older release is asked."""
    replication_factor: SlotCount = 0
