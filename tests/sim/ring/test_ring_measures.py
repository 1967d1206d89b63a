"""What nodes of simulated rings count of their ring, for metrics: its size, and who came and went."""

from __future__ import annotations

import pytest
from tests.sim.ring.simulator import Simulator
from tests.sim.ring.walk import founded

from coterie_node.ring import Ring

SETTLED = 10.0
"""Seconds: views hold for a period before what is new in them counts."""


def rings(world: Simulator) -> list[Ring]:
    return [node.ring for node in world.live() if node.ring is not None]


def counted(world: Simulator, change: str) -> list[int]:
    return [ring.changes[change] for ring in rings(world)]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_a_small_ring_is_counted_exactly_by_all(count: int) -> None:
    world = founded(1, count)
    world.run(SETTLED)
    assert [ring.size for ring in rings(world)] == [count] * count


@pytest.mark.parametrize("seed", range(3))
def test_a_large_ring_is_estimated(seed: int) -> None:
    world = founded(seed, 60)
    world.run(SETTLED)
    sizes = sorted(ring.size for ring in rings(world))
    assert 30 <= sizes[0] <= 60 <= sizes[-1] <= 120
    assert 45 <= sizes[len(sizes) // 2] <= 80


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("count", [4, 20])
def test_a_death_and_a_return_are_counted_once_by_each_who_sees_them(seed: int, count: int) -> None:
    world = founded(seed, count)
    world.run(SETTLED)
    assert counted(world, "failed") == [0] * count
    joined = counted(world, "joined")
    dead = world.live()[count // 2]
    world.crash(dead)
    world.run(SETTLED)
    failed = counted(world, "failed")
    assert set(failed) <= {0, 1}
    assert sum(failed) >= min(3, count - 1)
    joined.pop(count // 2)
    assert counted(world, "joined") == joined
    world.start(dead)
    world.run(SETTLED)
    assert world.ideal()
    again = [ring.changes["joined"] for ring in rings(world) if ring is not dead.ring]
    assert [new - old for new, old in zip(again, joined, strict=True)] == failed
    assert sum(counted(world, "left")) == 0


def test_who_said_so_has_left() -> None:
    world = founded(2, 5)
    world.run(SETTLED)
    leaving = world.live()[2]
    world.leave(leaving)
    world.run(SETTLED)
    world.crash(leaving)
    world.run(SETTLED)
    assert counted(world, "left") == [1] * 4
    assert counted(world, "failed") == [0] * 4
