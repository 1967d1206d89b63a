"""Arcs of the circle, filed so that those around a position are found without looking at all of them."""

from __future__ import annotations

from collections import Counter

Span = tuple[int, int]
"""The positions strictly between two others, clockwise."""


class Spans:
    """A bag of spans.

    They are filed by the power of two of their width and by where they begin: a span around a position begins in one
    of three neighbouring cells of its power.
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._cells: dict[int, dict[int, Counter[Span]]] = {}

    def add(self, span: Span, count: int = 1) -> None:
        """Put a span in so many times; -1 takes it out."""
        start, end = span
        power = ((end - start) % self._slots).bit_length() - 1
        cells = self._cells.setdefault(power, {})
        cell = cells.setdefault(start >> power, Counter())
        cell[span] += count
        if not cell[span]:
            del cell[span]
            if not cell:
                del cells[start >> power]

    def around(self, position: int) -> int:
        """Return how many spans there are around a position."""
        slots, found = self._slots, 0
        for power, cells in self._cells.items():
            last = position >> power
            for number in {(last - back) % max(1, slots >> power) for back in range(3)}:
                for (start, end), count in cells.get(number, {}).items():
                    if 0 < (position - start) % slots < (end - start) % slots:
                        found += count
        return found
