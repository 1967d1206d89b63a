"""Who may try a password now: delays that fall on whoever guesses, and on nobody else. The time is a parameter.

A *source* is an IPv4 address or an IPv6 network of 64 bits. Wrong tries are counted for each pair of an account and a
source, and for each source over all accounts; after some free ones the next must wait, longer each time. There is no
count for an account over all sources: whoever filled it would lock its owner out. What guessing from many sources costs
a node is bounded by its bcrypt workers, which serve sources in turn.

Where somebody has logged in, registered or resumed, their own account knows the source: there delays do not grow, so
that a guesser behind the same address cannot keep them out. A connection in a session of the account counts for itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ..limits import TokenBucket, rate_limited
from ..settings import ChatSettings

T = TypeVar("T")
Pair = tuple[str, str]

MOST_KEYS = 10_000
"""Pairs, sources and known places that are remembered each; what was not used for longest goes first."""
SESSION = "in session"
"""The place of a connection that is in a session of the account. No source is called so."""
_DOUBLINGS = 32


class Delay:
    """Lets some tries pass at once; then each has to wait twice as long as the one before, up to a most.

    One try is forgotten each `forget` seconds.
    """

    __slots__ = ("_count", "_first", "_forget", "_free", "_most", "_since", "_until")

    def __init__(self, free: int, first: float, most: float, forget: float) -> None:
        self._free = free
        self._first = first
        self._most = most
        self._forget = forget
        self._count = 0
        self._since = 0.0
        self._until = 0.0

    def wait(self, now: float) -> float:
        """Return how many seconds the next try has to wait."""
        return max(0.0, self._until - now)

    def count(self, now: float) -> None:
        """Count a try."""
        if self._count:
            forgotten = int((now - self._since) / self._forget)
            self._count = max(0, self._count - forgotten)
            self._since += forgotten * self._forget
        if not self._count:
            self._since = now
        self._count += 1
        if self._count >= self._free:
            pause = self._first * 2.0 ** min(self._count - self._free, _DOUBLINGS)
            self._until = now + min(pause, self._most)

    def give_back(self) -> None:
        """Take a try back."""
        self._count = max(0, self._count - 1)
        self._until = 0.0


class Attempt:
    """A try under way. It counts as wrong until one of the two says otherwise."""

    def __init__(self, undo: Callable[[], None], succeeded: Callable[[], None]) -> None:
        self.undo = undo
        """Nothing was checked: it does not count."""
        self.succeeded = succeeded
        """The password was right: the account knows this source from now on."""


class Attempts:
    """What a gateway remembers of who tried which account from where."""

    def __init__(self, settings: ChatSettings) -> None:
        self._settings = settings
        self._pairs: dict[Pair, Delay] = {}
        self._sources: dict[str, Delay] = {}
        self._known: dict[Pair, TokenBucket] = {}

    def known(self, name: str, source: str) -> bool:
        """Say whether somebody has logged in to this account from there."""
        return source == SESSION or (name, source) in self._known

    def remember(self, name: str, source: str) -> None:
        """Note that somebody has shown there that the account is theirs."""
        self._bucket(name, source)

    def wait(self, name: str, source: str, now: float) -> None:
        """Raise RATE_LIMITED with the milliseconds to wait, if a try has to."""
        if self.known(name, source):
            return  # Their bucket says so when it is taken from.
        for delay in (self._pairs.get((name, source)), self._sources.get(source)):
            if delay is not None and (wait := delay.wait(now)):
                raise rate_limited("wrong passwords from here", wait)

    def take(self, name: str, source: str, now: float) -> Attempt:
        """Begin a try. Raises RATE_LIMITED with the milliseconds to wait."""
        self.wait(name, source, now)
        settings = self._settings
        if self.known(name, source):
            bucket = self._bucket(name, source)
            if wait := bucket.take(now):
                raise rate_limited("logins to this account from here", wait)
            return Attempt(bucket.give_back, bucket.give_back)
        pair = _recent(
            self._pairs,
            (name, source),
            lambda: Delay(
                settings.logins_per_account,
                settings.login_account_pause,
                settings.login_account_most,
                settings.login_account_most,
            ),
        )
        whole = _recent(
            self._sources,
            source,
            lambda: Delay(
                settings.login_source_failures,
                settings.login_source_pause,
                settings.login_source_most,
                settings.login_source_most,
            ),
        )
        pair.count(now)
        whole.count(now)

        def undo() -> None:
            pair.give_back()
            whole.give_back()

        def succeeded() -> None:
            whole.give_back()
            self._pairs.pop((name, source), None)
            self.remember(name, source)

        return Attempt(undo, succeeded)

    def sizes(self) -> tuple[int, int, int]:
        """Return how much is remembered: pairs, sources, known places."""
        return len(self._pairs), len(self._sources), len(self._known)

    def _bucket(self, name: str, source: str) -> TokenBucket:
        settings = self._settings
        return _recent(
            self._known,
            (name, source),
            lambda: TokenBucket(settings.logins_per_account, settings.login_known_pause),
        )


K = TypeVar("K")


def _recent(some: dict[K, T], key: K, make: Callable[[], T]) -> T:
    """Return what a key has, made if need be, as the newest; the oldest goes when there are too many."""
    held = some.pop(key, None)
    if held is None:
        held = make()
        if len(some) >= MOST_KEYS:
            del some[next(iter(some))]
    some[key] = held
    return held
