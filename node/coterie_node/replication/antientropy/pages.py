"""What repair, hand-over and giving up share: page sizes, the rate limit, and filling a frame with records.

A bulk frame closes at 64 KiB (a larger record travels alone), so that heartbeats and appends never wait long behind
one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import TypeVar

from coterie_protocol.errors import Unavailable
from coterie_protocol.records import Record, Version, key_hash
from coterie_protocol.weight import FRAME, weight_of_record

from ...runtime.ports import NO_LIMIT_MS, Clock, StoreError, Tx

T = TypeVar("T")

FRAME_BYTES = 64 * 1024
PAGE = 512
"""Versions that are listed or claimed together: some 50 KB."""
FETCH = 256
"""Records that are asked for together: small ones fill a frame."""
AT_ONCE = 8
"""Slots that are compared, or whose strays are offered, at the same time."""
REQUEST_TIMEOUT = 10.0
"""Seconds; bulk goes behind everything else. A peer that is silent is noticed much sooner, and ends the request."""
READ_FIRST, READ_MOST = 4, 64
"""Records that are read by one statement: at first, and once it is known how large they are."""
_SHORT_SLEEP = 0.005
_CUTOFF_MS = 1000


def cursor_of(version: Version) -> tuple[int, bytes]:
    """Return the cursor that continues a list of versions after this one."""
    hashed = key_hash(version.key)
    return (hashed[0], hashed)


def settled_before(clock: Clock, settled_ms: int) -> int:
    """Return the limit of `stored_at` below which records count as settled; 0 milliseconds counts all.

    It is a whole second, so that two nodes that compare mostly take the same one although time passes between them.
    """
    if not settled_ms:
        return NO_LIMIT_MS
    return (clock.wall_ms() - settled_ms) // _CUTOFF_MS * _CUTOFF_MS


def fill(tx: Tx, versions: Sequence[Version]) -> tuple[list[Record], int]:
    """Read the records of some versions until a frame is full; return them, and how many versions are dealt with.

    Each record is read as it is now. One that is no more, or fails its checksum, is passed over.
    """
    records: list[Record] = []
    size = FRAME
    start, count = 0, READ_FIRST
    while start < len(versions):
        keys = [version.key for version in versions[start : start + count]]
        for index, record in enumerate(tx.records(keys), start):
            if record is None:
                continue
            size += weight_of_record(record)
            if records and size > FRAME_BYTES:
                return records, index
            records.append(record)
        start += len(keys)
        # As many as will fill the frame if they are like those before: large bodies are not read in vain.
        mean = size // len(records) if records else FRAME
        count = min(max((FRAME_BYTES - size) // mean, 1), READ_MOST)
    return records, len(versions)


async def from_store(work: Awaitable[T]) -> T:
    """Await the store for another node's sake: its failure becomes Unavailable."""
    try:
        return await work
    except StoreError as error:
        raise Unavailable(f"the node's store fails: {error}") from error


class Throttle:
    """Lets so many bytes a second through, first come, first served."""

    def __init__(self, clock: Clock, bytes_per_second: int) -> None:
        self._clock = clock
        self._rate = bytes_per_second
        self._free_at = 0.0

    async def take(self, size: int) -> None:
        """Wait until `size` bytes may be sent."""
        now = self._clock.now()
        begin = max(now, self._free_at)
        self._free_at = begin + size / self._rate
        if begin - now > _SHORT_SLEEP:
            await self._clock.sleep(begin - now)
