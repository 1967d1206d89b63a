"""Mailbox records and the one rule by which they merge.

A record is `(slot, owner, sender, id, part) -> (state, body, ...)`. Of two versions of one key the greater
`(state, digest)` wins. That rule is commutative, associative and idempotent, so copying, repairing, handing over and
replaying are one operation. The digest covers everything that may differ between two versions.
"""

from __future__ import annotations

import hashlib
from enum import IntEnum
from typing import NamedTuple

import msgspec

from .bounds import MAX_BODY_BYTES as MAX_BODY_BYTES
from .bounds import (
    MAX_CLIENT_FRAME_BYTES,
    MAX_COUNT,
    MAX_MS,
    Body,
    Count,
    Digest,
    Id,
    Name,
    RecordState,
    SlotNumber,
    StoredPart,
    StoredPrekey,
    UnixMs,
)
from .identifiers import MAX_NAME_BYTES, MAX_SLOTS

OUTGOING = ""
"""The `sender` of an owner's own copy of what it sent: no user name is empty."""
DIGEST_BYTES = 16
ID_BYTES = 16
BUCKETS = 256


class State(IntEnum):
    """A record's state. It only ever rises."""

    PENDING = 0
    EXPIRED = 1
    ARCHIVED = 2
    DELETED = 3


class RecordKey(NamedTuple):
    """What names a record. `part` is 0 for the message itself and 1..n for its attachments."""

    slot: int
    owner: str
    sender: str
    id: bytes
    part: int


class Record(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One version of a mailbox record. Times are Unix milliseconds of the node that coordinated the write."""

    slot: SlotNumber
    owner: Name
    sender: Name
    id: Id
    part: StoredPart
    state: RecordState
    body: Body
    """Opaque: what the client sealed. Empty in the states EXPIRED and DELETED."""
    size: Count
    """Bytes of the body as it was sent; kept when the body goes."""
    prekey: StoredPrekey
    """Which prekey of the owner the message is sealed to; empty while bodies are not sealed."""
    epoch: Count
    """The session epoch of the writer."""
    stored_at: UnixMs
    changed_at: UnixMs

    @property
    def key(self) -> RecordKey:
        """Return the record's key."""
        return RecordKey(self.slot, self.owner, self.sender, self.id, self.part)


def record_digest(record: Record) -> bytes:
    """Return the 16-byte digest (BLAKE2b, RFC 7693) of everything in a record but its key; also its checksum."""
    head = b"%d:%d:%d:%d:%d:%d:" % (
        record.state,
        record.size,
        record.epoch,
        record.stored_at,
        record.changed_at,
        len(record.prekey),
    )
    return hashlib.blake2b(head + record.prekey + record.body, digest_size=DIGEST_BYTES).digest()


def key_hash(key: RecordKey) -> bytes:
    """Return the 16-byte hash of a key; its first byte is the record's digest bucket."""
    text = f"{key.owner}\0{key.sender}\0{key.part}\0".encode()
    return hashlib.blake2b(text + key.id, digest_size=DIGEST_BYTES).digest()


def fault_of(record: Record) -> str:
    """Say what keeps a record from being stored and sent; empty if nothing does. Whoever stores records asks first.

    It is the bounds of a record's fields once more, for one that was made here: no decoder has seen it yet.
    """
    counts = record.state | record.size | record.epoch
    # Or-ed together, numbers go beyond 63 bits exactly if one of them does: this is on every message's way.
    numbers = counts | record.slot | record.part | record.stored_at | record.changed_at
    if numbers < 0 or numbers >> 63 or counts >= MAX_COUNT or record.slot >= MAX_SLOTS:
        return "a number outside its bounds"
    if record.stored_at >= MAX_MS or record.changed_at >= MAX_MS:
        return "a time after the year 9998"
    if record.state > State.DELETED:
        return f"no such state: {record.state}"
    for name in (record.owner, record.sender):
        if len(name) > MAX_NAME_BYTES:
            return "a name that is too long"
        if not name.isascii():
            try:
                name.encode()
            except UnicodeEncodeError:
                return "a name that is no Unicode text"
    if len(record.id) != ID_BYTES:
        return "an id of another length"
    if len(record.body) > MAX_BODY_BYTES or len(record.prekey) > MAX_CLIENT_FRAME_BYTES:
        return "a body or a prekey that is too large"
    return ""


def wins(new: tuple[int, bytes], held: tuple[int, bytes]) -> bool:
    """Say whether version `new` replaces version `held`; both are `(state, digest)`."""
    return new > held


class Version(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A record without its body: what digest comparison and giving up speak of."""

    slot: SlotNumber
    owner: Name
    sender: Name
    id: Id
    part: StoredPart
    state: RecordState
    digest: Digest
    stored_at: UnixMs

    @property
    def key(self) -> RecordKey:
        """Return the record's key."""
        return RecordKey(self.slot, self.owner, self.sender, self.id, self.part)


def version_of(record: Record) -> Version:
    """Return a record's version."""
    return Version(
        record.slot,
        record.owner,
        record.sender,
        record.id,
        record.part,
        record.state,
        record_digest(record),
        record.stored_at,
    )
