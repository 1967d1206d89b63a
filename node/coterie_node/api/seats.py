"""So many seats for all, and none of them for one source that leaves the others nothing.

One source may be a crowd (a proxy, a tunnel, the machine itself), and a crowd may be one person with many addresses: so
a share is not a number, but what is left. Whoever comes alone gets half, and each new source finds a seat.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from coterie_protocol.errors import Unavailable


class Seats:
    """Who sits where. A source takes a seat as long as it has fewer than are free."""

    def __init__(self, most: int, full: Callable[[int], str], share: Callable[[int], str]) -> None:
        """Take what a refusal says: `full(seats)`, and `share(seats)` with those that the source has already."""
        self._most = most
        self._full = full
        self._share = share
        self._taken: Counter[str] = Counter()

    @property
    def taken(self) -> int:
        """Return how many seats are taken."""
        return self._taken.total()

    @contextmanager
    def seat(self, source: str) -> Iterator[None]:
        """Take a seat for as long as the context lasts. Raises Unavailable."""
        free, held = self._most - self.taken, self._taken[source]
        if not free:
            raise Unavailable(self._full(self._most))
        if held >= free:
            raise Unavailable(self._share(held))
        self._taken[source] += 1
        try:
            yield
        finally:
            self._taken[source] -= 1
            if not self._taken[source]:
                del self._taken[source]
