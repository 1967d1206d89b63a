"""Rates and percentiles of one measurement."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Measured:
    """What one measurement found: a rate a second and latencies in milliseconds."""

    rate: float
    p50: float
    p99: float


def measured(latencies: list[float], seconds: float) -> Measured:
    """Sum up latencies (seconds) that were seen within `seconds`."""
    latencies.sort()
    return Measured(len(latencies) / seconds, _at(latencies, 0.5), _at(latencies, 0.99))


def _at(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000 if ordered else float("nan")


def median(rounds: Sequence[Measured]) -> Measured:
    """Return the median of each number over several rounds."""
    return Measured(
        statistics.median(one.rate for one in rounds),
        statistics.median(one.p50 for one in rounds),
        statistics.median(one.p99 for one in rounds),
    )
