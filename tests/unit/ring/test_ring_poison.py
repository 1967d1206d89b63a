"""A poisoned effect, answer or timer of the ring: what comes after it happens all the same."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.unit.ring.test_ring_driver import driver_of, ring_of

from coterie_node.ring import Timer
from coterie_node.ring.effects import Changed, StartTimer
from coterie_protocol.ring import Neighbours


async def test_an_effect_that_fails_keeps_no_other_from_being_carried_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ring_of(2) as nodes:
        driver = driver_of(nodes[0])
        heard: list[str] = []

        def failing() -> None:
            raise ZeroDivisionError

        driver._watchers[:0] = [failing]
        driver.watch(lambda: heard.append("changed"))
        before = driver._timers.get(Timer.FINGERS, 0)
        with capture_logs() as logs:
            driver._run([Changed(), StartTimer(Timer.FINGERS, 60.0)])
            monkeypatch.setattr(driver, "_changed", failing)
            driver._run([Changed(), StartTimer(Timer.FINGERS, 60.0)])
        assert heard == ["changed"]
        assert driver._timers[Timer.FINGERS] == before + 2
        assert {entry["event"] for entry in logs} == {"a watcher failed", "an effect of the ring failed"}


async def test_a_timer_that_fails_is_set_again_and_the_ring_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody but the stabilising itself sets the timer of the next: failing once, it would never come again."""
    async with ring_of(2) as nodes:
        driver = driver_of(nodes[0])
        on_timer, failed, went_on = driver._ring.on_timer, asyncio.Event(), asyncio.Event()

        def once(now: float, timer: Timer) -> Any:
            if timer is Timer.STABILIZE and not failed.is_set():
                failed.set()
                raise ZeroDivisionError
            if timer is Timer.STABILIZE:
                went_on.set()
            return on_timer(now, timer)

        monkeypatch.setattr(driver._ring, "on_timer", once)
        with capture_logs() as logs:
            await asyncio.wait_for(went_on.wait(), 20)
        assert [entry["timer"] for entry in logs if "timer" in entry] == [Timer.STABILIZE.value]


async def test_an_answer_that_is_not_understood_counts_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ring_of(2) as nodes:
        driver = driver_of(nodes[0])
        on_answer, poisoned, counted = driver._ring.on_answer, asyncio.Event(), asyncio.Event()

        def once(now: float, token: int, answer: Any) -> Any:
            if isinstance(answer, Neighbours) and not poisoned.is_set():
                poisoned.set()
                raise ZeroDivisionError
            if answer is None and poisoned.is_set():
                counted.set()
            return on_answer(now, token, answer)

        monkeypatch.setattr(driver._ring, "on_answer", once)
        with capture_logs() as logs:
            await asyncio.wait_for(counted.wait(), 20)
        assert any("not understood" in entry["event"] for entry in logs)
