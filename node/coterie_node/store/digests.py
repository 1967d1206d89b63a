"""Digests by which two nodes see, without listing, whether a slot holds the same versions of the same records.

A slot has 256 buckets (by the first byte of the key hash). A bucket's digest is the XOR of one 64-bit entry a record,
so that it is kept up to date in O(1) and does not depend on order. Nodes compare these over the wire: all must compute
them alike.
"""

from __future__ import annotations

import hashlib
import struct
from array import array
from collections.abc import Sequence

from coterie_protocol.records import BUCKETS

HORIZON_MS = 60_000
"""How far back entries are kept one by one: digests `settled` within it are answered from memory."""
_SECOND_SHIFT = 10
_PACK = struct.Struct(f"<{BUCKETS}Q")
EMPTY_BUCKETS = bytes(8 * BUCKETS)


def entry_digest(key_hash: bytes, state: int, digest: bytes) -> int:
    """Return the 64-bit entry of one record version: BLAKE2b-64 of key hash, state (one byte) and record digest."""
    data = key_hash + bytes((state & 0xFF,)) + digest
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def pack_buckets(buckets: Sequence[int]) -> bytes:
    """Write 256 bucket digests, little-endian."""
    return _PACK.pack(*buckets)


def slot_digest_of(packed: bytes) -> int:
    """Return one 64-bit digest of packed buckets: 0 if and only if all of them are 0."""
    if packed == EMPTY_BUCKETS:
        return 0
    return int.from_bytes(hashlib.blake2b(packed, digest_size=8).digest(), "little") or 1


class _Second:
    """The entries of some 1,024 ms of stored_at: 17 bytes each, since there may be a million of them."""

    __slots__ = ("buckets", "entries", "times")

    def __init__(self) -> None:
        self.times = array("q")
        self.buckets = array("B")
        self.entries = array("Q")


class SlotDigest:
    """One slot's buckets, and its recent entries one by one.

    An entry that is XORed in twice is gone: adding and removing a version are the same operation, here too.
    """

    __slots__ = ("_buckets", "_recent", "floor_ms")

    def __init__(self, now_ms: int) -> None:
        self._buckets = array("Q", EMPTY_BUCKETS)
        self._recent: dict[int, _Second] = {}
        self.floor_ms = now_ms - HORIZON_MS
        """Entries stored before this are not known one by one."""

    def toggle(self, bucket: int, entry: int, stored_at: int, now_ms: int) -> None:
        """Add a version's entry, or take it out."""
        self._buckets[bucket] ^= entry
        if stored_at >= self.floor_ms:
            second = self._recent.get(stored_at >> _SECOND_SHIFT)
            if second is None:
                self._prune(now_ms)
                second = self._recent[stored_at >> _SECOND_SHIFT] = _Second()
            second.times.append(stored_at)
            second.buckets.append(bucket)
            second.entries.append(entry)

    def _prune(self, now_ms: int) -> None:
        floor = (now_ms - HORIZON_MS) >> _SECOND_SHIFT
        for second in [number for number in self._recent if number < floor]:
            del self._recent[second]
        self.floor_ms = max(self.floor_ms, floor << _SECOND_SHIFT)

    def same(self, other: SlotDigest) -> bool:
        """Say whether two are digests of the same versions."""
        return self._buckets == other._buckets

    def settled(self, before_ms: int) -> array[int] | None:
        """Return the buckets of what was stored before a time; None when that is too long ago to tell."""
        if before_ms < self.floor_ms:
            return None
        buckets = self._buckets[:]
        for number, second in self._recent.items():
            if (number + 1) << _SECOND_SHIFT > before_ms:
                for stored_at, bucket, entry in zip(second.times, second.buckets, second.entries, strict=True):
                    if stored_at >= before_ms:
                        buckets[bucket] ^= entry
        return buckets
