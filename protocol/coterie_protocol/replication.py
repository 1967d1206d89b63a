"""Messages of the replication of mailbox records: append, hold, repair, giving up."""

from __future__ import annotations

from typing import Annotated

import msgspec

from .bounds import (
    Bucket,
    BucketOrNone,
    Count,
    CountOrNone,
    Digest64,
    DigestOrNone,
    Digests,
    Few,
    Index,
    Items,
    Number,
    PerSlot,
    SlotNumber,
    UnixMs,
)
from .records import Record, Version
from .registers import Ballot, KnownConfig


class Replicate(msgspec.Struct, array_like=True, frozen=True, tag=60):
    """Commit these records (by merging) and say so. An event, answered by the event Replicated with the same number.

    It needs no epoch: members and stand-ins alike hold what they are given (design: append, `hold`).
    """

    batch: Number
    records: Annotated[list[Record], Items]


class Replicated(msgspec.Struct, array_like=True, frozen=True, tag=61):
    """Every record of the batch is on this node's disk (`ok`), or it could not be written.

    `newer` are slot configurations which this node knows, and by which it is *not* a member of a record's slot or the
    slot has moved on: the coordinator should learn them.
    """

    batch: Number
    ok: bool
    newer: Annotated[list[KnownConfig], PerSlot]


class SlotDigests(msgspec.Struct, array_like=True, frozen=True, tag=62):
    """Ask for one 8-byte digest a slot, over all settled records. Answered by SlotDigestsReply."""

    slots: Annotated[list[SlotNumber], PerSlot]
    settled_ms: Count
    """Only records older than this many milliseconds count; 0 counts all."""


class SlotDigestsReply(msgspec.Struct, array_like=True, frozen=True, tag=63):
    """The digests in the order asked for (0 for an empty slot)."""

    digests: Annotated[list[Digest64], PerSlot]


class BucketDigests(msgspec.Struct, array_like=True, frozen=True, tag=64):
    """Ask for the 256 bucket digests of one slot. Answered by BucketDigestsReply."""

    slot: SlotNumber
    settled_ms: Count


class BucketDigestsReply(msgspec.Struct, array_like=True, frozen=True, tag=65):
    """256 digests of 8 bytes each, little-endian, one after the other."""

    digests: Digests


class ListVersions(msgspec.Struct, array_like=True, frozen=True, tag=66):
    """Page through the versions of some buckets of a slot, in the order of bucket, then key hash."""

    slot: SlotNumber
    buckets: Annotated[list[Bucket], Few]
    after: tuple[BucketOrNone, DigestOrNone]
    """The last (bucket, key hash) seen; (-1, b"") to begin."""
    settled_ms: Count


class VersionsPage(msgspec.Struct, array_like=True, frozen=True, tag=67):
    """A page of versions; `after` continues it, None at the end."""

    versions: Annotated[list[Version], Items]
    after: tuple[BucketOrNone, DigestOrNone] | None


class FetchRecords(msgspec.Struct, array_like=True, frozen=True, tag=68):
    """Ask for the records of these versions' keys; a page closes at 64 KiB, ask again for the rest."""

    versions: Annotated[list[Version], Items]


class RecordsPage(msgspec.Struct, array_like=True, frozen=True, tag=69):
    """The records that are held, in the order asked for; `more` when the page closed before the end."""

    records: Annotated[list[Record], Items]
    more: bool


class Offer(msgspec.Struct, array_like=True, frozen=True, tag=70):
    """Records of one slot from one that may not be its member: merge, commit, confirm. Answered by Confirmed.

    `claims` are versions that the sender holds: only those that the answer names as lacking need to be sent.
    """

    slot: SlotNumber
    records: Annotated[list[Record], Items]
    claims: Annotated[tuple[Version, ...], Items] = ()


class Confirmed(msgspec.Struct, array_like=True, frozen=True, tag=71):
    """All offered records, and all claims but the lacking ones, are on this node's disk in that or a further version.

    `known` is the slot's configuration in this node's own register, read in the same transaction; without a register
    the newest one that it has heard of, None when it has heard of none.
    """

    known: KnownConfig | None
    lacking: Annotated[tuple[Index, ...], Items] = ()
    """Indexes of the claims that this node does not hold, or only in an earlier version."""


class SyncState(msgspec.Struct, array_like=True, frozen=True, tag=72):
    """Ask a member how much it holds of some slots, each under exactly (epoch, cid). Answered by SyncStates.

    The cheap first question of hand-over: most slots are empty.
    """

    items: Annotated[list[tuple[SlotNumber, Count, Ballot]], PerSlot]


class SyncStateItem(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """`known` when the member is under another configuration; otherwise its accounts and the digest of its records.

    `accounts` is -1 where the member does not answer for the slot: under another configuration, or abstaining.
    """

    slot: SlotNumber
    known: KnownConfig | None
    accounts: CountOrNone
    digest: Digest64


class SyncStates(msgspec.Struct, array_like=True, frozen=True, tag=73):
    """The answers in the order asked for."""

    items: Annotated[list[SyncStateItem], PerSlot]


class ClockTold(msgspec.Struct, array_like=True, frozen=True, tag=74):
    """What the sender's clock says (Unix ms). An event: at each new link, and every 20 s by default."""

    wall_ms: UnixMs


class DropTombstones(msgspec.Struct, array_like=True, frozen=True, tag=75):
    """Ask a member which of these tombstones may go, or (`now`) have it drop those. Answered by TombstonesAgreed.

    A member agrees to what it holds in exactly that version and takes for old enough by its own view of the time, and
    only while its own register holds the plain configuration of this identity.
    """

    slot: SlotNumber
    epoch: Count
    cid: Ballot
    versions: Annotated[list[Version], Items]
    now: bool


class TombstonesAgreed(msgspec.Struct, array_like=True, frozen=True, tag=76):
    """Indexes of the versions to which the member agrees (or which it has dropped)."""

    agreed: Annotated[list[Index], Items]
