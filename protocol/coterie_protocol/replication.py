"""Messages of the replication of mailbox records: append, hold, repair, giving up."""

from __future__ import annotations

import msgspec

from .records import Record, Version
from .registers import Ballot, KnownConfig


class Replicate(msgspec.Struct, array_like=True, frozen=True, tag=60):
    """Commit these records (by merging) and say so. An event, answered by the event Replicated with the same number.

    It needs no epoch: members and stand-ins alike hold what they are given (design: append, `hold`).
    """

    batch: int
    records: list[Record]


class Replicated(msgspec.Struct, array_like=True, frozen=True, tag=61):
    """Every record of the batch is on this node's disk (`ok`), or it could not be written.

    `newer` are slot configurations which this node knows, and by which it is *not* a member of a record's slot or the
    slot has moved on: the coordinator should learn them.
    """

    batch: int
    ok: bool
    newer: list[KnownConfig]


class SlotDigests(msgspec.Struct, array_like=True, frozen=True, tag=62):
    """Ask for one 8-byte digest a slot, over all settled records. Answered by SlotDigestsReply."""

    slots: list[int]
    settled_ms: int
    """Only records older than this many milliseconds count; 0 counts all."""


class SlotDigestsReply(msgspec.Struct, array_like=True, frozen=True, tag=63):
    """The digests in the order asked for (0 for an empty slot)."""

    digests: list[int]


class BucketDigests(msgspec.Struct, array_like=True, frozen=True, tag=64):
    """Ask for the 256 bucket digests of one slot. Answered by BucketDigestsReply."""

    slot: int
    settled_ms: int


class BucketDigestsReply(msgspec.Struct, array_like=True, frozen=True, tag=65):
    """256 digests of 8 bytes each, little-endian, one after the other."""

    digests: bytes


class ListVersions(msgspec.Struct, array_like=True, frozen=True, tag=66):
    """Page through the versions of some buckets of a slot, in the order of bucket, then key hash."""

    slot: int
    buckets: list[int]
    after: tuple[int, bytes]
    """The last (bucket, key hash) seen; (-1, b"") to begin."""
    settled_ms: int


class VersionsPage(msgspec.Struct, array_like=True, frozen=True, tag=67):
    """A page of versions; `after` continues it, None at the end."""

    versions: list[Version]
    after: tuple[int, bytes] | None


class FetchRecords(msgspec.Struct, array_like=True, frozen=True, tag=68):
    """Ask for the records of these versions' keys; a page closes at 64 KiB, ask again for the rest."""

    versions: list[Version]


class RecordsPage(msgspec.Struct, array_like=True, frozen=True, tag=69):
    """The records that are held, in the order asked for; `more` when the page closed before the end."""

    records: list[Record]
    more: bool


class Offer(msgspec.Struct, array_like=True, frozen=True, tag=70):
    """Records of one slot from one that may not be its member: merge, commit, confirm. Answered by Confirmed.

    `claims` are versions that the sender holds: only those that the answer names as lacking need to be sent.
    """

    slot: int
    records: list[Record]
    claims: tuple[Version, ...] = ()


class Confirmed(msgspec.Struct, array_like=True, frozen=True, tag=71):
    """All offered records, and all claims but the lacking ones, are on this node's disk in that or a further version.

    `known` is the slot's configuration in this node's own register, read in the same transaction; without a register
    the newest one that it has heard of, None when it has heard of none.
    """

    known: KnownConfig | None
    lacking: tuple[int, ...] = ()
    """Indexes of the claims that this node does not hold, or only in an earlier version."""


class SyncState(msgspec.Struct, array_like=True, frozen=True, tag=72):
    """Ask a member how much it holds of some slots, each under exactly (epoch, cid). Answered by SyncStates.

    The cheap first question of hand-over: most slots are empty.
    """

    items: list[tuple[int, int, Ballot]]


class SyncStateItem(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """`known` when the member is under another configuration; otherwise its accounts and the digest of its records."""

    slot: int
    known: KnownConfig | None
    accounts: int
    digest: int


class SyncStates(msgspec.Struct, array_like=True, frozen=True, tag=73):
    """The answers in the order asked for."""

    items: list[SyncStateItem]


class ClockTold(msgspec.Struct, array_like=True, frozen=True, tag=74):
    """What the sender's clock says (Unix ms). An event: at each new link, and every 20 s by default."""

    wall_ms: int


class DropTombstones(msgspec.Struct, array_like=True, frozen=True, tag=75):
    """Ask a member which of these tombstones may go, or (`now`) have it drop those. Answered by TombstonesAgreed.

    A member agrees to what it holds in exactly that version and takes for old enough by its own view of the time, and
    only while its own register holds the plain configuration of this identity.
    """

    slot: int
    epoch: int
    cid: Ballot
    versions: list[Version]
    now: bool


class TombstonesAgreed(msgspec.Struct, array_like=True, frozen=True, tag=76):
    """Indexes of the versions to which the member agrees (or which it has dropped)."""

    agreed: list[int]
