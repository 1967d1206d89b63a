"""A flood of connections from one source makes that source wait for its turn, and nobody else."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

from coterie_node.http.newcomers import MOST_SOURCES, Newcomers, NewcomersRate


class Door:
    """Newcomers, on a clock that is turned by hand."""

    def __init__(self, at_once: int = 3, pause: float = 0.1) -> None:
        self.now = 100.0
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self.newcomers = Newcomers(NewcomersRate(at_once, pause), lambda: self.now, self._later)
        self.let_in: list[tuple[float, object]] = []

    def _later(self, seconds: float, callback: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (self.now + seconds, next(self._numbers), callback))

    def come(self, source: str, who: object) -> None:
        self.newcomers.come(source, who, lambda: self.let_in.append((round(self.now - 100.0, 3), who)))

    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while self._timers and self._timers[0][0] <= end:
            self.now, _, callback = heapq.heappop(self._timers)
            callback()
        self.now = end


def test_so_many_come_in_at_once_and_then_one_a_pause_first_come_first_served() -> None:
    door = Door()
    for number in range(6):
        door.come("flood", number)
    assert [who for _, who in door.let_in] == [0, 1, 2]
    door.wait(10.0)
    assert door.let_in[3:] == [(0.1, 3), (0.2, 4), (0.3, 5)]
    for number in range(6, 10):
        door.come("flood", number)
    assert [who for _, who in door.let_in[6:]] == [6, 7, 8]


def test_another_source_comes_in_at_once_whatever_waits() -> None:
    door = Door()
    for number in range(1000):
        door.come("flood", number)
    door.come("elsewhere", "alice")
    assert door.let_in[-1] == (0.0, "alice")


def test_who_has_gone_costs_no_turn() -> None:
    door = Door()
    for number in range(100):
        door.come("flood", number)
    for number in range(3, 99):
        door.newcomers.go("flood", number)
    door.wait(0.1)
    assert door.let_in[-1] == (0.1, 99)
    door.newcomers.go("flood", 99)
    door.newcomers.go("nobody", 1)


def test_who_was_worth_its_place_makes_room_for_the_next() -> None:
    door = Door()
    for number in range(3):
        door.come("office", number)
        door.newcomers.give_back("office")
    for number in range(3, 6):
        door.come("office", number)
    assert [at for at, _ in door.let_in] == [0.0] * 6


def test_nothing_is_kept_of_who_has_come_in_and_sources_are_bounded() -> None:
    door = Door()
    for number in range(MOST_SOURCES + 10):
        door.come(f"source {number}", number)
    assert len(door.newcomers._full_at) <= MOST_SOURCES
    assert not door.newcomers._waiting
