"""Arithmetic on the circle of slot numbers. Positions are slot numbers, 0 <= position < slots."""

from __future__ import annotations


def distance(start: int, end: int, slots: int) -> int:
    """Return how many slots lie clockwise from `start` to `end`: 0 when they are the same."""
    return (end - start) % slots


def width(start: int, end: int, slots: int) -> int:
    """Return the number of slots in the half-open arc (start, end]: the whole circle when they are the same."""
    return (end - start - 1) % slots + 1


def between(start: int, x: int, end: int, slots: int) -> bool:
    """Say whether `x` lies in the open arc (start, end); when the ends are the same, everywhere but there."""
    return 0 < (x - start) % slots < width(start, end, slots)


def within(start: int, x: int, end: int, slots: int) -> bool:
    """Say whether `x` lies in the half-open arc (start, end]; when the ends are the same, always."""
    return width(start, x, slots) <= width(start, end, slots)


def midpoint(start: int, end: int, slots: int) -> int | None:
    """Return the position in the middle of the arc (start, end]; None when no position is free between its ends."""
    size = width(start, end, slots)
    return (start + size // 2) % slots if size >= 2 else None
