"""Limits: token buckets and counters. The time is a parameter."""

from __future__ import annotations

import math

from coterie_protocol.errors import CoterieError, ErrorCode

MOST_KEYS = 10_000
"""Keys that a limiter remembers; the fullest buckets are forgotten first, for they say nothing."""


class TokenBucket:
    """Takes `burst` at once and one more every `pause` seconds (ITU-T I.371's leaky bucket, as a meter)."""

    __slots__ = ("_burst", "_full_at", "_pause")

    def __init__(self, burst: float, pause: float) -> None:
        self._burst = burst
        self._pause = pause
        self._full_at = 0.0

    def take(self, now: float, count: float = 1.0) -> float:
        """Take tokens: return 0.0, or how many seconds to wait (and take nothing). What a full bucket
        has not is owed: it is given, and more is to be waited for afterwards."""
        if wait := self.look(now, count):
            return wait
        self.spend(now, count)
        return 0.0

    def spend(self, now: float, count: float) -> float:
        """Take tokens whether they are there or not; return how many seconds to wait until none is owed."""
        self._full_at = max(self._full_at, now) + self._pause * count
        return max(0.0, self._full_at - now - self._burst * self._pause)

    def look(self, now: float, count: float = 1.0) -> float:
        """Return how many seconds to wait for so many tokens, and take none."""
        wait = max(self._full_at, now) + self._pause * min(count, self._burst) - now - self._burst * self._pause
        return wait if wait > 1e-9 else 0.0

    def give_back(self) -> None:
        """Return a token."""
        self._full_at -= self._pause

    def idle(self, now: float) -> bool:
        """Say whether the bucket is full: as good as new."""
        return self._full_at <= now


class Limiter:
    """A token bucket for each key, such as a name or an address."""

    def __init__(self, burst: float, pause: float, what: str) -> None:
        self._burst = burst
        self._pause = pause
        self._what = what
        self._buckets: dict[str, TokenBucket] = {}

    def take(self, key: str, now: float, count: float = 1.0) -> None:
        """Take tokens of the key's bucket; raises CoterieError RATE_LIMITED with the milliseconds to wait."""
        if wait := self._bucket(key, now).take(now, count):
            raise rate_limited(self._what, wait)

    def _bucket(self, key: str, now: float) -> TokenBucket:
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= MOST_KEYS:
                self._forget(now)
            bucket = self._buckets[key] = TokenBucket(self._burst, self._pause)
        return bucket

    def spend(self, key: str, now: float, count: float) -> float:
        """Take tokens of the key's bucket, whether they are there or not; return how many seconds to wait."""
        return self._bucket(key, now).spend(now, count)

    def look(self, key: str, now: float, count: float = 1.0) -> None:
        """Raise RATE_LIMITED where so many tokens could not be taken now; take none."""
        bucket = self._buckets.get(key)
        if bucket is not None and (wait := bucket.look(now, count)):
            raise rate_limited(self._what, wait)

    def give_back(self, key: str) -> None:
        """Return a token."""
        if key in self._buckets:
            self._buckets[key].give_back()

    def _forget(self, now: float) -> None:
        self._buckets = {key: bucket for key, bucket in self._buckets.items() if not bucket.idle(now)}
        while len(self._buckets) >= MOST_KEYS:
            del self._buckets[next(iter(self._buckets))]


class Counter:
    """Counts what is open for each key, up to a limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: dict[str, int] = {}

    def enter(self, key: str) -> bool:
        """Count one more, and say whether it is within the limit; `leave` must follow either way."""
        count = self._open[key] = self._open.get(key, 0) + 1
        return count <= self._limit

    def leave(self, key: str) -> None:
        """Count one less."""
        count = self._open[key] - 1
        if count:
            self._open[key] = count
        else:
            del self._open[key]


def rate_limited(what: str, wait: float) -> CoterieError:
    """Return the error for who must wait that many seconds."""
    milliseconds = max(1, math.ceil(wait * 1000))
    return CoterieError(
        f"too many {what}; try again in {milliseconds} ms", code=ErrorCode.RATE_LIMITED, value=milliseconds
    )
