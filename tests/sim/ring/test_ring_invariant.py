"""The invariant sees what it must see: it counts as it would by looking at everything, and refuses a skip."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from tests.sim.ring.perfect import perfect
from tests.sim.ring.simulator import Simulator
from tests.sim.ring.spans import Spans

from coterie_node.ring import PRESETS
from coterie_protocol.nodes import NodeRef


def ring_of_twenty() -> Simulator:
    world = perfect(1, PRESETS["local"], 20, 256)
    world.run(1)
    return world


def pointers(world: Simulator, index: int) -> tuple[NodeRef, tuple[NodeRef, ...]]:
    ring = world.live()[index].ring
    assert ring is not None
    return ring.me, ring.successors


@pytest.mark.parametrize("slots", [2, 64, 1024])
def test_spans_around_a_position_are_found(slots: int) -> None:
    rng = random.Random(slots)
    spans, held = Spans(slots), Counter[tuple[int, int]]()
    for _ in range(300):
        start = rng.randrange(slots)
        span = start, (start + rng.randrange(1, slots)) % slots
        spans.add(span)
        held[span] += 1
        if rng.random() < 0.4:
            gone = rng.choice(list(held.elements()))
            spans.add(gone, -1)
            held[gone] -= 1
    for position in range(slots):
        around = sum(
            count
            for (start, end), count in held.items()
            if any((start + step) % slots == position for step in range(1, (end - start) % slots))
        )
        assert spans.around(position) == around


def test_a_principal_is_never_skipped() -> None:
    world = ring_of_twenty()
    assert world.invariant is not None
    world.invariant.now = world.now
    me, successors = pointers(world, 3)
    with pytest.raises(AssertionError, match="skips"):
        world.invariant.changed(me, successors[1:])


def test_a_list_is_in_order() -> None:
    world = ring_of_twenty()
    assert world.invariant is not None
    me, successors = pointers(world, 19)
    with pytest.raises(AssertionError, match="not in order"):
        world.invariant.changed(me, (successors[1], successors[0]))


def test_a_live_successor_is_left() -> None:
    world = ring_of_twenty()
    assert world.invariant is not None
    *others, last = pointers(world, 7)[1]
    for ref in others:
        world.invariant.crashed(ref.uid)
    with pytest.raises(AssertionError, match="no live successor"):
        world.invariant.crashed(last.uid)


def test_all_is_one_cycle() -> None:
    """Two halves that know nothing of each other, each in order and with live successors."""
    world = ring_of_twenty()
    assert world.invariant is not None
    world.unsettle()
    refs = [pointers(world, index)[0] for index in range(20)]
    for parity in (0, 1):
        half = refs[parity::2]
        for index, me in enumerate(half):
            world.invariant.changed(me, (half[(index + 1) % 10],))
    world.invariant.strict = True
    with pytest.raises(AssertionError, match="principals instead of"):
        world.invariant.whole()


def test_its_own_count_is_checked() -> None:
    world = ring_of_twenty()
    assert world.invariant is not None
    world.invariant._skipped[world.live()[0].uid] += 1
    with pytest.raises(AssertionError, match="kept 1 skips wrongly"):
        world.invariant.whole()
