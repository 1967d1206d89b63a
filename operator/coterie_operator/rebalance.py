"""Where nodes should stand: shifting one at a time to the middle between its neighbours narrows the widest arc."""

from __future__ import annotations

from collections.abc import Mapping


def skew(positions: Mapping[str, int], slots: int) -> float:
    """Return the widest arc over the fair share: 1 is perfectly even; 0 without nodes."""
    widths = _widths(sorted(positions.values()), slots)
    return max(widths) * len(widths) / slots if widths else 0.0


def shift(positions: Mapping[str, int], slots: int, max_skew: float) -> tuple[str, int] | None:
    """Return who should stand where so that the arcs become more even, or None if the skew is small enough.

    A node in the middle between its neighbours shares their arcs evenly, so that each shift makes the list of arcs,
    widest first, lexicographically smaller: shifting ends. The best shift is taken; arcs that differ by one slot stay.
    """
    if len(positions) < 2 or skew(positions, slots) <= max_skew:
        return None
    order = sorted(positions, key=lambda who: (positions[who], who))
    now = _shape([positions[who] for who in order], slots)
    best: tuple[list[int], str, int] | None = None
    for at, who in enumerate(order):
        before, after = positions[order[at - 1]], positions[order[(at + 1) % len(order)]]
        span = (after - before) % slots or slots
        middle = (before + span // 2) % slots
        moved = {**positions, who: middle}
        if len(set(moved.values())) < len(moved):
            continue
        shape = _shape(sorted(moved.values()), slots)
        if shape < now and (best is None or shape < best[0]):
            best = (shape, who, middle)
    return None if best is None else (best[1], best[2])


def _widths(order: list[int], slots: int) -> list[int]:
    """Return the arcs (predecessor, self] of positions in ascending order, in slots."""
    return [(position - order[at - 1]) % slots or slots for at, position in enumerate(order)]


def _shape(order: list[int], slots: int) -> list[int]:
    return sorted(_widths(order, slots), reverse=True)
