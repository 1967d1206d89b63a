"""Which core runs what: the ring on one, the load generator on the other, so that neither steals from the other."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

CORES = sorted(os.sched_getaffinity(0))
SERVER = CORES[0]
LOAD = CORES[-1]


@contextlib.contextmanager
def on_core(core: int) -> Iterator[None]:
    """Run on one core; processes that are started in here stay on it."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
