"""What a node counts as a change of its ring: from views as nodes really have them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from coterie_node.ring.changes import History, Sight, changes, size
from coterie_protocol.identifiers import Uid
from coterie_protocol.nodes import NodeRef

SLOTS = 64
LENGTH = 4


def ref(number: int, position: int | None = None, leaving: bool = False) -> NodeRef:
    return NodeRef(
        Uid(f"{number:032x}"), f"n{number}", number if position is None else position, "h", 1, 2, 3, 1, leaving
    )


def sight(circle: Sequence[int], me: int) -> Sight:
    """Return what a node sees of a circle of nodes (at the positions of their numbers)."""
    after = [*circle[circle.index(me) + 1 :], *circle[: circle.index(me)]]
    return Sight(ref(me), ref(after[-1]) if after else None, tuple(map(ref, after[:LENGTH])))


@pytest.mark.parametrize("circle", [[5], [5, 9], [5, 9, 20, 33], [5, 9, 20, 33, 40], list(range(0, 64, 4))])
def test_every_node_of_an_even_or_small_circle_knows_its_size(circle: list[int]) -> None:
    assert {size(sight(circle, me), SLOTS) for me in circle} == {len(circle)}


def test_a_node_that_sees_a_part_estimates_and_never_below_what_it_sees() -> None:
    circle = [0, 1, 2, 3, 4, 30, 31, 50]
    for me in circle:
        assert size(sight(circle, me), SLOTS) >= LENGTH + 2


@pytest.mark.parametrize("others", [3, 8])
def test_a_join_is_counted_once_by_each_who_sees_it_and_by_nobody_else(others: int) -> None:
    circle = list(range(0, 8 * others, 8))[:others]
    larger = sorted([*circle, 3])
    for me in circle:
        found = changes(sight(circle, me), sight(larger, me), LENGTH, SLOTS)
        sees = 3 in [int(one.uid, 16) for one in sight(larger, me).successors]
        assert dict(found) == ({"joined": 1} if sees else {})


@pytest.mark.parametrize("others", [2, 3, 8])
def test_a_death_is_counted_once_by_each_who_saw_it(others: int) -> None:
    circle = list(range(0, 8 * others, 8))[:others]
    rest = circle[:-1]
    for me in rest:
        before, after = sight(circle, me), sight(rest, me)
        saw = circle[-1] in [int(one.uid, 16) for one in before.successors]
        assert dict(changes(before, after, LENGTH, SLOTS)) == ({"failed": 1} if saw else {})
        # At first the list is only shorter, and nobody is known to stand before this node.
        short = Sight(before.me, None, tuple(one for one in before.successors if one.uid != ref(circle[-1]).uid))
        assert changes(before, short, LENGTH, SLOTS)["failed"] == saw
        assert not changes(short, after, LENGTH, SLOTS)["joined"]


def test_who_had_said_so_has_left() -> None:
    before = Sight(ref(0), ref(20), (ref(10, leaving=True), ref(20)))
    assert dict(changes(before, Sight(ref(0), ref(20), (ref(20),)), LENGTH, SLOTS)) == {"left": 1}


def test_moves_of_others_and_of_oneself() -> None:
    before = Sight(ref(0), ref(20), (ref(10), ref(20)))
    assert dict(changes(before, Sight(ref(0), ref(20), (ref(10, 12), ref(20))), LENGTH, SLOTS)) == {"moved": 1}
    elsewhere = Sight(ref(0, 15), ref(10), (ref(20), ref(10)))
    assert dict(changes(before, elsewhere, LENGTH, SLOTS)) == {"moved": 1}
    placeless = Sight(ref(0, -1), None, ())
    assert not changes(placeless, before, LENGTH, SLOTS)


def test_a_dead_node_that_is_named_again_has_failed_once() -> None:
    circle = [0, 10, 20, 30]
    whole, rest = sight(circle, 0), sight(circle[:-1], 0)
    history = History(whole, LENGTH, SLOTS)
    for seen in (whole, rest, whole, rest, rest, rest):
        history.look(seen)
    assert dict(history.totals) == {"failed": 1}
