"""How often discovery is asked in the background."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import structlog.testing

from coterie_node.config.settings import Address
from coterie_node.discovery.lookout import CALM, QUICK, SETTLING, Lookout

AT = Address("10.0.0.1", 7401)


class Enough(Exception):
    """The story is over."""


class Clock:
    """A clock that is put forward by whoever sleeps, until the story is over."""

    def __init__(self, end: float) -> None:
        self.at = 0.0
        self._end = end
        self.slept: list[float] = []

    def now(self) -> float:
        return self.at

    def wall_ms(self) -> int:
        return 0

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.at += seconds
        if self.at > self._end:
            raise Enough


class Discovery:
    """Answers what it is told to, or fails."""

    def __init__(self) -> None:
        self.answer: Sequence[Address] | Exception = ()

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def addresses(self) -> Sequence[Address]:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def describe(self) -> str:
        return "nowhere"


async def test_it_is_quick_at_first_and_calm_when_all_is_well() -> None:
    clock, discovery = Clock(60.0), Discovery()
    discovery.answer = [AT]
    lookout = Lookout(discovery, clock, lambda: False)
    with pytest.raises(Enough):
        await lookout.run()
    assert lookout.addresses == [AT]
    assert set(clock.slept[: int(SETTLING / QUICK)]) == {QUICK}
    assert set(clock.slept[int(SETTLING / QUICK) + 1 :]) == {CALM}


async def test_it_is_quick_for_as_long_as_the_node_is_alone() -> None:
    clock = Clock(120.0)
    with pytest.raises(Enough):
        await Lookout(Discovery(), clock, lambda: clock.at < 100.0).run()
    assert clock.slept.count(QUICK) == 100.0 / QUICK


async def test_what_fails_unexpectedly_is_logged_and_asked_again() -> None:
    discovery = Discovery()
    discovery.answer = ValueError("a bug")
    lookout = Lookout(discovery, Clock(1.0), lambda: True)
    with structlog.testing.capture_logs() as logs, pytest.raises(Enough):
        await lookout.run()
    assert {line["event"] for line in logs} == {"discovery failed"}
    assert len(logs) > 1
