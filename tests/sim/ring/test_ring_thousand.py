"""A thousand rings in one process: they join by themselves, are looked up in, and churn.

The invariant is asserted incrementally at every step and whole every simulated second; a failure names the seed.
"""

from __future__ import annotations

import math
from bisect import bisect_left

import pytest
from tests.sim.ring.simulator import Network, Node, Simulator

from coterie_node.ring import PRESETS

NODES = 1000
SLOTS = 16 * 1024


def grown(seed: int, loss: float) -> Simulator:
    """Found a ring and let it grow by a quarter twice a second."""
    world = Simulator(seed, PRESETS["cluster"], SLOTS, network=Network(0.001, 0.02, loss=loss))
    world.add(found=True)
    world.run(0.5)
    while len(world.nodes) < NODES:
        for _ in range(min(NODES - len(world.nodes), max(1, len(world.nodes) // 4))):
            world.add()
        world.run(0.5)
    world.run_until(world.joined, 20, every=0.5)
    world.run_until(world.ideal, 20, every=0.5)
    return world


def lookups(world: Simulator, count: int) -> list[int]:
    """Look random slots up from random nodes; every answer must be right. Return the hops."""
    positions = [node.position for node in world.live()]
    hops = []
    for _ in range(count):
        slot = world.rng.randrange(SLOTS)
        owner = world.lookup(world.rng.choice(world.live()), slot)
        assert owner is not None, f"seed {world.seed}: slot {slot} was not found"
        expected = positions[bisect_left(positions, slot) % len(positions)]
        assert owner.owner.position == expected, f"seed {world.seed}: slot {slot} has another owner"
        hops.append(owner.hops)
    return hops


def churn(world: Simulator, seconds: float) -> None:
    """Five nodes a second crash, and return after some seconds; now and then a new one joins."""
    down: list[Node] = []
    end = world.now + seconds
    while world.now < end:
        world.run(0.1)
        if world.rng.random() < 0.5:
            node = world.rng.choice(world.live())
            world.crash(node)
            down.append(node)
        if down and world.rng.random() < 0.45:
            world.start(down.pop(world.rng.randrange(len(down))))
        if world.rng.random() < 0.1:
            world.add()


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "loss"), [(1, 0.0), (2, 0.01)])
def test_a_thousand_rings(seed: int, loss: float) -> None:
    world = grown(seed, loss)
    world.run(4)
    hops = lookups(world, 200)
    half = 0.5 * math.log2(NODES)
    assert 0.75 * half < sum(hops) / len(hops) < 1.25 * half, f"seed {seed}"
    assert max(hops) <= 4 * half
    churn(world, 12)
    assert world.invariant is not None
    assert not world.invariant.isolated, f"seed {seed}: a node lost all successors"
    world.run_until(world.ideal, 15, every=0.5)
    lookups(world, 20)
