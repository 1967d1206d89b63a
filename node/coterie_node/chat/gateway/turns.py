"""Whose turn it is: what sessions want goes on in turns, one item of each, however much one of them wants.

A session has a bounded window of items under way; what is beyond it waits here, behind nobody but itself (deficit
round robin with a quantum of one item: Shreedhar and Varghese, 1995). Free of sockets and clocks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

LEAST = 16
"""Items of a session's window at one gateway, at however many gateways it is."""


class Weighty(Protocol):
    """An item."""

    weight: int
    """Bytes."""


T = TypeVar("T", bound=Weighty)


class Window:
    """How much of one session may be under way, and how much is."""

    __slots__ = ("bytes", "items", "places")

    def __init__(self) -> None:
        self.items = 0
        """Under way ..."""
        self.bytes = 0
        """... and what they weigh."""
        self.places = 1
        """How many gateways share the window."""

    def has_room(self, items: int, size: int) -> bool:
        """Say whether one more may be under way; one always may."""
        return not self.items or (
            self.items < max(LEAST, items // self.places) and self.bytes < max(1, size // self.places)
        )


class Turns(Generic[T]):
    """Items that wait for their turn, by whose they are."""

    def __init__(self, items: int, size: int) -> None:
        self._items = items
        self._size = size
        self._waiting: dict[Window, deque[T]] = {}
        """Windows in the order of their turns; none without an item."""

    def put(self, window: Window, item: T) -> None:
        """Let an item wait behind those of its own window."""
        some = self._waiting.get(window)
        if some is None:
            some = self._waiting[window] = deque()
        some.append(item)

    def has(self, window: Window) -> bool:
        """Say whether something of this window waits and might go on."""
        return window in self._waiting and window.has_room(self._items, self._size)

    def take(self) -> Iterator[T]:
        """Take what may go on, one item of each window in turn; it counts as under way until `done`."""
        ready = [one for one in self._waiting.items() if one[0].has_room(self._items, self._size)]
        while ready:
            left = []
            for window, some in ready:
                item = some.popleft()
                window.items += 1
                window.bytes += item.weight
                yield item
                if not some:
                    del self._waiting[window]
                elif window.has_room(self._items, self._size):
                    left.append((window, some))
            ready = left

    def done(self, window: Window, item: T) -> bool:
        """An item has a result, or waits for another attempt; say whether one that waits may go on now."""
        window.items -= 1
        window.bytes -= item.weight
        return self.has(window)


class Round:
    """How many requests of each session were taken in this turn of the loop, over all its connections."""

    def __init__(self, most: int, in_next_turn: Callable[[Callable[[], None]], object]) -> None:
        self._most = most
        self._in_next_turn = in_next_turn
        self._taken: dict[object, int] = {}

    def take(self, whose: object) -> bool:
        """Count one; say whether it was the last of this turn."""
        if not self._taken:
            self._in_next_turn(self._taken.clear)
        count = self._taken[whose] = self._taken.get(whose, 0) + 1
        return count >= self._most
