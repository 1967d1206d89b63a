"""Identifiers of the ring: 160-bit keys, slots, uids, user names and message ids.

The circle has 2**160 identifiers and is cut into S equal slots, S a power of two. A slot is named by its number;
its *position* on the circle is its first identifier. All functions are pure; randomness and time are parameters.
"""

from __future__ import annotations

import hashlib
from typing import NewType

from precis_i18n import get_profile

from .errors import BadName

RING_BITS = 160
RING_SIZE = 1 << RING_BITS
DEFAULT_SLOTS = 1024
MAX_NAME_BYTES = 64
MAX_SLOTS = 1 << 20

RingId = NewType("RingId", int)
"""A 160-bit identifier on the circle."""
Slot = NewType("Slot", int)
"""A slot's number, 0 <= slot < S."""
Uid = NewType("Uid", str)
"""A node's (or a ring's) identity: 128 random bits as 32 lower-case hexadecimal digits."""
UserName = NewType("UserName", str)
"""A user name that PRECIS UsernameCaseMapped (RFC 8265) has normalised."""
MessageId = NewType("MessageId", bytes)
"""A message's id: the 16 bytes of a UUID version 7 (RFC 9562), made by the sender's client."""

_PROFILE = get_profile("UsernameCaseMapped")


def user_name(text: str) -> UserName:
    """Normalise a user name by PRECIS UsernameCaseMapped (RFC 8265).

    Raises BadName, saying why, if the profile refuses the text or the result is longer than 64 UTF-8 bytes.
    """
    try:
        name = _PROFILE.enforce(text)
    except UnicodeError as error:
        raise BadName(text, _reason(error)) from None
    if len(name.encode()) > MAX_NAME_BYTES:
        raise BadName(text, f"longer than {MAX_NAME_BYTES} bytes")
    return UserName(name)


_REASONS = {
    "DISALLOWED/spaces": "a user name has no spaces",
    "DISALLOWED/empty": "a user name has at least one character",
    "DISALLOWED/precis_ignorable_properties": "it holds a character that cannot be seen, which no user name may have",
    "DISALLOWED/controls": "it holds a control character, which no user name may have",
    "DISALLOWED/bidi_rule": "it mixes letters written to the left and to the right so that it cannot be read",
}
"""What the profile says, in plain words."""


def _reason(error: UnicodeError) -> str:
    reason = getattr(error, "reason", "") or str(error)
    return _REASONS.get(
        reason, "it holds a character that no user name may have; letters and digits of any script may be"
    )


def uid_of(random_bytes: bytes) -> Uid:
    """Write 16 random bytes as a uid."""
    if len(random_bytes) != 16:
        raise ValueError("a uid is made of 16 bytes")
    return Uid(random_bytes.hex())


def key_of(name: str) -> RingId:
    """Hash a (normalised) user name onto the circle: SHA-256(utf-8 name)[:20]."""
    return RingId(int.from_bytes(hashlib.sha256(name.encode()).digest()[:20], "big"))


def slot_bits(slots: int) -> int:
    """Return log2 of the number of slots; raises ValueError unless it is a power of two in [1, 2**20]."""
    if slots < 1 or slots > MAX_SLOTS or slots & (slots - 1):
        raise ValueError(f"the number of slots must be a power of two between 1 and {MAX_SLOTS}, not {slots}")
    return slots.bit_length() - 1


def slot_of(key: RingId, slots: int) -> Slot:
    """Return the slot that holds an identifier."""
    return Slot(key >> (RING_BITS - slot_bits(slots)))


def slot_of_name(name: str, slots: int) -> Slot:
    """Return the slot in which everything of a user lives."""
    return slot_of(key_of(name), slots)


def position_of(slot: int, slots: int) -> RingId:
    """Return a slot's first identifier."""
    return RingId(slot << (RING_BITS - slot_bits(slots)))


def message_id(unix_ms: int, random_bytes: bytes) -> MessageId:
    """Make a UUID version 7 (RFC 9562, section 5.7) of a Unix time in milliseconds and 10 random bytes."""
    if len(random_bytes) != 10:
        raise ValueError("a message id takes 10 random bytes")
    value = bytearray(unix_ms.to_bytes(6, "big") + random_bytes)
    value[6] = 0x70 | (value[6] & 0x0F)
    value[8] = 0x80 | (value[8] & 0x3F)
    return MessageId(bytes(value))


def message_id_text(value: bytes) -> str:
    """Write a message id in the usual 8-4-4-4-12 form."""
    text = value.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def message_id_of(text: str) -> MessageId:
    """Read a message id from its text; raises ValueError."""
    value = bytes.fromhex(text.replace("-", ""))
    if len(value) != 16:
        raise ValueError(f"not a message id: {text!r}")
    return MessageId(value)
