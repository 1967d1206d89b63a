"""What all clients together make a gateway keep: what they do not read, and what they have sent in part.

Each connection is bounded by itself; a thousand of them must not be a thousand times that. When the sum is above its
limit, the connection that costs most is cut off: nothing is lost by that, its mail stays pending and what it sent is
unanswered, so that it is sent again.
"""

from __future__ import annotations

from typing import Protocol


class Debtor(Protocol):
    """A connection."""

    def cut_off(self, why: str) -> None:
        """End it now."""
        ...


class Debts:
    """Bytes by connection; those that cost nothing are not kept."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._owed: dict[Debtor, int] = {}
        self.total = 0
        self.cut = 0
        """Connections that were cut off since the start, for metrics."""

    @property
    def tight(self) -> bool:
        """Say whether half of the limit is used: what can wait elsewhere should not come here."""
        return self.total > self._limit // 2

    def owe(self, debtor: Debtor, size: int) -> None:
        """Note what a connection costs now."""
        before = self._owed.pop(debtor, 0)
        if size:
            self._owed[debtor] = size
        self.total += size - before
        while self.total > self._limit:
            worst = max(self._owed, key=self._owed.__getitem__)
            self.total -= self._owed.pop(worst)
            self.cut += 1
            worst.cut_off("the node keeps too much for its clients, and most for this one")
