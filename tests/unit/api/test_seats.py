"""Seats shared by sources: none takes what the others would need."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from coterie_node.api.seats import Seats
from coterie_protocol.errors import Unavailable


def seats(most: int = 32) -> Seats:
    return Seats(most, lambda count: f"all {count} are taken", lambda count: f"you have {count}")


def fill(house: Seats, source: str, stack: ExitStack) -> tuple[int, str]:
    """Take seats until there is none for the source: how many it took, and why it got no more."""
    for count in range(100):
        try:
            stack.enter_context(house.seat(source))
        except Unavailable as refusal:
            return count, refusal.detail
    raise AssertionError("no end")


def test_each_source_that_comes_finds_a_seat_until_six_greedy_ones_have_them_all() -> None:
    house = seats()
    with ExitStack() as stack:
        took = [fill(house, f"192.0.2.{number}", stack) for number in range(6)]
        assert took == [
            (16, "you have 16"),
            (8, "you have 8"),
            (4, "you have 4"),
            (2, "you have 2"),
            (1, "you have 1"),
            (1, "all 32 are taken"),
        ]
        assert fill(house, "192.0.2.9", stack) == (0, "all 32 are taken")
        assert house.taken == 32
    assert house.taken == 0


def test_a_seat_that_is_left_is_free_for_others_and_the_source_is_forgotten() -> None:
    house = seats(2)
    with house.seat("one"), pytest.raises(Unavailable, match="you have 1"), house.seat("one"):
        pass
    with house.seat("one"), house.seat("two"):
        assert house.taken == 2
    with pytest.raises(KeyError), house.seat("one"):
        raise KeyError
    assert (house.taken, len(house._taken)) == (0, 0)


def test_a_lone_seat_is_for_whoever_comes_first() -> None:
    house = seats(1)
    with house.seat("one"), pytest.raises(Unavailable, match="all 1 are taken"), house.seat("two"):
        pass
