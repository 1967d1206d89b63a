"""The datagram of multicast discovery: what a node says of itself, sealed with the ring's secret. Pure, without I/O.

    "coterie" | version (1 byte) | HMAC-SHA-256 (32 bytes) of all the rest | MessagePack array

Whoever lacks the secret can neither make one nor change one. What is not sealed with it is never decoded.
"""

from __future__ import annotations

import hashlib
import hmac

import msgspec

from coterie_protocol.bounds import Boot, Host, Label, Nonce, OpenPort, RingUidOrNone, UidText, UnixMs

VERSION = 1
MAX_BYTES = 1200
"""Fits into one packet of any network; what is longer is nobody's of ours."""
MAX_SKEW = 30.0
"""Seconds by which the sender's clock may differ; what was recorded is worth nothing afterwards."""
NONCE_BYTES = 12

_MAGIC = b"coterie"
_MAC_BYTES = 32
_HEAD = len(_MAGIC) + 1


class Announcement(msgspec.Struct, array_like=True, frozen=True):
    """Who is where. New fields go to the end with a default; a reader ignores those that it does not know."""

    asks: bool
    """Whoever hears this is to announce itself at once."""
    sent_ms: UnixMs
    """Unix milliseconds of the sender's clock."""
    nonce: Nonce
    """Random, so that no two datagrams are the same."""
    uid: UidText
    boot: Boot
    """Unique per process start."""
    ring_uid: RingUidOrNone
    """Empty while the node belongs to no ring."""
    host: Host
    """Where its peer port is; empty: where the datagram came from."""
    port: OpenPort
    name: Label
    """For people."""


class NotOurs(Exception):
    """Not a datagram of this protocol at all."""


class OtherVersion(Exception):
    """A version that this node does not speak."""


class OtherSecret(Exception):
    """Sealed with another secret, or changed on the way."""


class WrongTime(Exception):
    """Sealed rightly, but stamped too far from now. `ahead`: the seconds by which the sender's clock is before ours."""

    def __init__(self, ahead: float) -> None:
        super().__init__(f"stamped {ahead:+.0f} s from now")
        self.ahead = ahead


def seal(secret: bytes, announcement: Announcement) -> bytes:
    """Write a datagram."""
    body = msgspec.msgpack.encode(announcement)
    head = _MAGIC + bytes([VERSION])
    return head + _mac(secret, head, body) + body


def unseal(secret: bytes, data: bytes, wall_ms: int) -> Announcement:
    """Read a datagram that came at this Unix time. Raises NotOurs, OtherVersion, OtherSecret or WrongTime."""
    if not _HEAD + _MAC_BYTES < len(data) <= MAX_BYTES or not data.startswith(_MAGIC):
        raise NotOurs
    if data[len(_MAGIC)] != VERSION:
        raise OtherVersion
    head, mac, body = data[:_HEAD], data[_HEAD : _HEAD + _MAC_BYTES], data[_HEAD + _MAC_BYTES :]
    if not hmac.compare_digest(mac, _mac(secret, head, body)):
        raise OtherSecret
    try:
        announcement = msgspec.msgpack.decode(body, type=Announcement)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise NotOurs from None
    ahead = (announcement.sent_ms - wall_ms) / 1000
    if abs(ahead) > MAX_SKEW:
        raise WrongTime(ahead)
    return announcement


def mac_of(data: bytes) -> bytes:
    """Return the seal of a datagram that `unseal` took: different for every datagram."""
    return data[_HEAD : _HEAD + _MAC_BYTES]


def _mac(secret: bytes, head: bytes, body: bytes) -> bytes:
    return hmac.new(secret, head + body, hashlib.sha256).digest()
