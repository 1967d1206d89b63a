"""Rebalancing always ends, evenly, and never makes anything worse on the way."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coterie_operator.rebalance import arcs, shift, skew


def named(places: list[int]) -> dict[str, int]:
    return {f"n{i}": place for i, place in enumerate(places)}


def joined(rng: random.Random, slots: int, nodes: int, leaves: int) -> dict[str, int]:
    """Return positions as they arise: each new node stands in the middle of the widest arc, and some leave again."""
    places = [rng.randrange(slots)]

    def join() -> None:
        widths = arcs(places, slots)
        widest = max(widths)
        i = rng.choice([i for i, width in enumerate(widths) if width == widest])
        places.append((places[i - 1] + widest // 2) % slots)
        places.sort()

    for _ in range(leaves):
        if len(places) > 1 and rng.random() < 0.5:
            places.pop(rng.randrange(len(places)))
        elif len(places) < slots // 10:
            join()
    while len(places) < nodes:
        join()
    while len(places) > nodes:
        places.pop(rng.randrange(len(places)))
    return named(places)


def order(places: Mapping[str, int], slots: int, origin: int) -> list[str]:
    return sorted(places, key=lambda name: (places[name] - origin) % slots)


def settle(places: Mapping[str, int], slots: int, max_skew: float) -> tuple[Mapping[str, int], int]:
    """Shift until all is well; return the positions and the number of shifts. Checks each shift."""
    count = 0
    while (found := shift(places, slots, max_skew)) is not None:
        who, where = found
        others = {other: place for other, place in places.items() if other != who}
        assert where not in others.values()
        moved = {**others, who: where}
        # Between its neighbours: the order round the circle stays, seen from any other node.
        origin = next(iter(others.values()))
        assert order(moved, slots, origin) == order(places, slots, origin)
        assert skew(moved, slots) <= skew(places, slots)
        places = moved
        count += 1
        assert count <= slots * len(places)
    return places, count


def test_arcs_reach_from_the_predecessor() -> None:
    assert arcs([10, 30, 60], 64) == [14, 20, 30]
    assert arcs([5], 64) == [64]


@pytest.mark.parametrize(
    ("positions", "expected"),
    [([], 0.0), ([7], 1.0), ([0, 32], 1.0), ([0, 16], 1.5), ([60, 4, 32], 28 * 3 / 64)],
)
def test_skew(positions: list[int], expected: float) -> None:
    assert skew(named(positions), 64) == pytest.approx(expected)


@pytest.mark.parametrize("positions", [[], [3], [0, 32], [0, 32, 48, 16], [1, 22, 43]])
def test_an_even_ring_is_left_alone(positions: list[int]) -> None:
    assert shift(named(positions), 64, 1.2) is None


def test_two_nodes_come_to_stand_opposite() -> None:
    assert shift({"a": 0, "b": 16}, 64, 1.2) in (("a", 48), ("b", 32))


# At least ten slots a node, as the ring promises.
@pytest.mark.parametrize(
    ("slots", "nodes"), [(slots, n) for slots in (64, 256, 1024) for n in range(1, 13) if 10 * n <= slots]
)
def test_rings_as_they_arise_are_brought_within_the_limit(slots: int, nodes: int) -> None:
    rng = random.Random(slots * 100 + nodes)
    for _ in range(60):
        places, count = settle(joined(rng, slots, nodes, rng.randrange(12)), slots, 1.2)
        assert skew(places, slots) <= 1.2
        assert count <= 2 * nodes


def test_a_large_ring_too() -> None:
    rng = random.Random(5)
    places, count = settle(joined(rng, 1024, 96, 20), 1024, 1.2)
    assert skew(places, 1024) <= 1.2
    assert count <= 2 * 96


@given(st.data())
def test_any_ring_ends_even(data: st.DataObject) -> None:
    slots = data.draw(st.sampled_from([64, 256, 1024]))
    nodes = data.draw(st.integers(1, 24))
    drawn = data.draw(st.lists(st.integers(0, slots - 1), min_size=nodes, max_size=nodes, unique=True))
    places, _ = settle(named(drawn), slots, 1.0)
    widths = arcs(sorted(places.values()), slots)
    assert max(widths) - min(widths) <= 1


@given(st.lists(st.integers(0, 63), min_size=40, max_size=64, unique=True))
def test_a_ring_with_hardly_a_slot_a_node_ends_too(places: list[int]) -> None:
    settle(named(places), 64, 1.0)
