"""Cuts a plan that fails down to a short one that still fails: delta debugging over its steps, then simpler weather.

Zeller and Hildebrandt, "Simplifying and isolating failure-inducing input" (2002). A shorter plan counts if it fails in
the same way, names and numbers aside: another way may be another fault, or a plan that makes no sense any more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from tests.sim.loop import Livelock
from tests.sim.plan import NUMBERS, Plan
from tests.sim.stage import play
from tests.sim.wire import Weather


def failure(plan: Plan) -> str:
    """Perform a plan; return in one line why it fails, or nothing."""
    heard = logging.getLogger("asyncio")
    before, heard.disabled = heard.disabled, True  # Of many tasks that fail, one is heard.
    try:
        play(plan)
    except (Exception, Livelock) as error:
        text = str(error).splitlines()
        return f"{type(error).__name__}: {text[0] if text else ''}"
    finally:
        heard.disabled = before
    return ""


def way(why: str) -> str:
    """Return what a failure has in common with others of its kind."""
    return " ".join(word for word in why.split() if word.isalpha())


@dataclass
class Shrinker:
    """Looks for a shorter plan, within a number of attempts."""

    fails: Callable[[Plan], str]
    attempts: int = 400
    tell: Callable[[str], None] = lambda _: None
    _way: str = ""

    def shrink(self, plan: Plan) -> Plan:
        """Return the shortest plan that was found to fail in the same way."""
        self._way = way(self.fails(plan))
        plan = self._steps(plan)
        plan = self._climate(plan)
        return self._steps(plan)

    def _still(self, plan: Plan) -> bool:
        if self.attempts <= 0:
            return False
        self.attempts -= 1
        why = self.fails(plan)
        return bool(why) and way(why) == self._way

    def _steps(self, plan: Plan) -> Plan:
        """Leave steps out: halves, quarters, ..., single ones, until none can be missed."""
        size = max(1, len(plan.steps) // 2)
        while self.attempts > 0:
            shorter = self._without(plan, size)
            if shorter is not None:
                plan = shorter
                self.tell(f"{len(plan.steps)} steps")
                size = min(size, max(1, len(plan.steps) // 2))
            elif size == 1:
                break
            else:
                size //= 2
        return plan

    def _without(self, plan: Plan, size: int) -> Plan | None:
        """Leave out runs of so many steps; return what is left, None if none can be missed."""
        steps, found = plan.steps, False
        start = len(steps)
        while start > 0 and self.attempts > 0:
            begin = max(0, start - size)
            candidate = replace(plan, steps=steps[:begin] + steps[start:])
            if self._still(candidate):
                steps, found = candidate.steps, True
            start = begin
        return replace(plan, steps=steps) if found else None

    def _climate(self, plan: Plan) -> Plan:
        for simpler in self._simpler(plan):
            candidate = simpler(plan)
            if candidate != plan and self._still(candidate):
                plan = candidate
        return plan

    def _simpler(self, plan: Plan) -> Iterator[Callable[[Plan], Plan]]:
        yield lambda plan: replace(plan, weather=Weather(streams=plan.weather.streams))
        for name, value in (*((name, 0.0) for name in NUMBERS), ("fifo", True)):
            yield lambda plan, name=name, value=value: replace(  # type: ignore[misc]
                plan, weather=replace(plan.weather, **{name: value})
            )
        yield lambda plan: replace(plan, weather=replace(plan.weather, delay=Weather().delay))
        yield lambda plan: replace(plan, skew_ms=0)
        yield lambda plan: replace(plan, factor=3)
        yield lambda plan: replace(plan, slots=1)
