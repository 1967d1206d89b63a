"""Plain totals that every room may keep: how often something was how large. Who publishes them is not known here.

It imports nothing and costs an observation some 0.3 µs, so that it can stand on the path of every message.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMIT_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
"""An fsync takes 0.1 ms on an idle NVMe disk and a second on one that is failing or shared with a neighbour."""
BATCH_RECORDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
LOOKUP_HOPS = (0, 1, 2, 3, 4, 5, 6, 8, 10, 15, 20)
"""Half of log2(N) is usual: 4 for 300 nodes. What is above that goes round silent nodes."""
LOOKUP_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0)
DELIVERY_SECONDS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0, 600.0, 3_600.0, 21_600.0, 86_400.0, 259_200.0, 604_800.0, 2_592_000.0,
)  # fmt: skip
"""From a recipient who is there to one who is on holiday: 1 ms to 30 days, after which messages expire."""


class Distribution:
    """Counts observations by their size: how many were at most each of `bounds` (ascending), and how many larger."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """Observations above the bound before and up to this one; the last: above all."""
        self.total = 0.0
        """The sum of all observations."""

    def observe(self, value: float) -> None:
        """Count one observation."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def number(self) -> int:
        """Return how many observations there were."""
        return sum(self.counts)

    def cumulative(self) -> list[tuple[float, int]]:
        """Return (bound, observations up to it), the last for infinity."""
        return list(zip((*self.bounds, float("inf")), accumulate(self.counts), strict=True))
