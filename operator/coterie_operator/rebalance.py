"""Spread the nodes evenly over the circle by shifting one at a time between its neighbours.

Positions are slot numbers on a circle of S slots. A node's arc reaches from its predecessor (not included) to itself.
The skew is the widest arc over the fair share S / N.

To average only two arcs at a time gets stuck on long slopes (16, 15, 14, …), which then stay too wide for ever. So the
nodes are led to the nearest even spread as a whole: of all N positions that lie S / N apart, those for which the least
way remains. Each shift shortens that way and leaves no arc wider than the widest was, so it ends; and while S >= 2 N it
ends only where the arcs differ by one slot at most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median_low


def arcs(positions: Sequence[int], slots: int) -> list[int]:
    """Return the arcs, in slots, of nodes at ascending positions; a single node's is the whole circle."""
    if len(positions) == 1:
        return [slots]
    return [(position - positions[i - 1]) % slots for i, position in enumerate(positions)]


def skew(positions: Mapping[str, int], slots: int) -> float:
    """Return the widest arc over the fair share: 1 is perfectly even; 0 without nodes."""
    if not positions:
        return 0.0
    return max(arcs(sorted(positions.values()), slots)) * len(positions) / slots


def shift(positions: Mapping[str, int], slots: int, max_skew: float) -> tuple[str, int] | None:
    """Return who should stand where so that the arcs become more even, or None if the skew is small enough.

    None too where no shift helps: with fewer than two slots a node.
    """
    if len(positions) < 2 or skew(positions, slots) <= max_skew:
        return None
    order = sorted(positions, key=lambda who: (positions[who], who))
    places = [positions[who] for who in order]
    widths = arcs(places, slots)
    widest = max(widths)
    found: list[tuple[list[int], str, int]] = []
    for i, aim in enumerate(_even(places, slots)):
        after = (i + 1) % len(places)
        # Not onto the neighbour, and not so far that the arc left behind becomes the widest.
        right = min(aim - places[i], widths[after] - 1, widest - widths[i])
        left = max(aim - places[i], 1 - widths[i], widths[after] - widest)
        by = right if aim > places[i] else left
        if by:
            then = list(widths)
            then[i] += by
            then[after] -= by
            found.append((sorted(then, reverse=True), order[i], (places[i] + by) % slots))
    if not found:
        return None
    _, who, where = min(found)
    return who, where


def _even(places: Sequence[int], slots: int) -> list[int]:
    """Return the even spread that is nearest to ascending places; it may reach past the ends 0 and `slots`."""
    count = len(places)
    best, least = list(places), -1
    # Where S / N is not whole, arcs of two widths alternate: any of the N nodes may be the first of the pattern.
    for first in range(count):
        spread = [(first + i) * slots // count - first * slots // count for i in range(count)]
        offset = median_low([place - even for place, even in zip(places, spread, strict=True)])
        aims = [even + offset for even in spread]
        way = sum(abs(place - aim) for place, aim in zip(places, aims, strict=True))
        if least < 0 or way < least:
            best, least = aims, way
    return best
