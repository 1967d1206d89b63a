"""Random walks of small rings, a few seeds of each; many more: `python -m tests.sim.ring --seeds 1000`."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.sim.ring.walk import WALKS, founded


@pytest.mark.parametrize(
    ("walk", "seed"),
    [pytest.param(walk, seed, id=f"{walk.__name__}-{seed}") for walk, seeds in WALKS.items() for seed in range(seeds)],
)
def test_walk(walk: Callable[[int], None], seed: int) -> None:
    walk(seed)


def test_the_same_seed_gives_the_same_run() -> None:
    runs = []
    for _ in range(2):
        world = founded(3, 9)
        world.crash(world.live()[4])
        world.run(2)
        runs.append((world.steps, world.drawing()))
    assert runs[0] == runs[1]
