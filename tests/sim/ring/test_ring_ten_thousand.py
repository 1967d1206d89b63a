"""Ten thousand rings in one process: they begin perfect, churn, and heal when left alone.

The invariant is asserted incrementally at every step and whole every simulated second; a failure names the seed. How a
ring grows is tested with a thousand. The long run: `python -m tests.sim.ring --nodes 10000 --seconds 30`.
"""

from __future__ import annotations

import pytest
from tests.sim.ring.big import big
from tests.sim.ring.perfect import perfect
from tests.sim.ring.simulator import Node, Simulator

from coterie_node.ring import PRESETS


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_ten_thousand_rings() -> None:
    figures = big(10_000, seconds=2, seed=1, loss=0.0)
    assert figures.crashes + figures.joins + figures.leaves + figures.moves > 100
    assert not figures.isolated
    assert figures.lookups_churn_right > 0.98
    assert 0.75 * figures.hops_expected < figures.hops_mean < 1.25 * figures.hops_expected
    assert figures.hops_max <= 4 * figures.hops_expected
    # On CPU time: the machine may be busy with other things too.
    assert figures.node_seconds_per_cpu_second > 1000


def _ring(world: Simulator, node: Node) -> object:
    ring = node.ring
    assert ring is not None
    me = ring.me.position
    fingers = {exponent: ref.position for exponent, ref in ring._core.pointers.fingers.items()}
    successors = [ref.position for ref in ring.successors]
    before = ring.predecessor.position if ring.predecessor else None
    return me, before, successors, fingers, ring.circle(world.now)


@pytest.mark.parametrize("nodes", [1, 2, 5, 40])
def test_a_perfect_ring_is_what_a_grown_one_becomes(nodes: int) -> None:
    settings = PRESETS["local"]
    grown = Simulator(1, settings, 1024)
    grown.add(found=True)
    for _ in range(nodes - 1):
        grown.add()
        grown.run(0.2)
    grown.run_until(grown.ideal, 10)
    # Until each finger has been set anew since the last join.
    grown.run(15 * settings.fingers)
    live = grown.live()
    made = perfect(2, settings, nodes, 1024, uids={node.position: node.uid for node in live})
    assert made.ideal()
    assert [_ring(made, node) for node in made.live()] == [_ring(grown, node) for node in live]
    # And so it stays: nobody loses the mark, no pointer moves.
    before = [_ring(made, node) for node in made.live()]
    made.run(3 * settings.circle_ttl)
    assert [_ring(made, node) for node in made.live()] == before
