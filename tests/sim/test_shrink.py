"""A walk that fails is cut down to what its failure needs, and can be written down and replayed."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from tests.sim.draw import draw_people, draw_replication
from tests.sim.mutations.rules import append_quorum_of_one
from tests.sim.plan import Plan
from tests.sim.shrink import Shrinker, failure
from tests.sim.stage import play
from tests.sim.wire import Weather

NEEDED = ("crash n2", "heal", "start n2")


def test_what_is_not_needed_goes() -> None:
    def fails(plan: Plan) -> str:
        kept = [step for step in plan.steps if step in NEEDED]
        return f"no {len(plan.steps)}" if kept == list(NEEDED) and plan.weather.loss else ""

    noise = [f"tick {number}s" for number in range(40)]
    steps = (*noise[:9], "crash n2", *noise[9:20], "heal", *noise[20:], "start n2", "crash n3")
    plan = Plan(steps=steps, slots=4, skew_ms=3000, weather=Weather(loss=0.1, late=0.1, fifo=False))
    short = Shrinker(fails).shrink(plan)
    assert short == Plan(steps=NEEDED, weather=Weather(loss=0.1))


def test_another_failure_does_not_count() -> None:
    def fails(plan: Plan) -> str:
        return "lost" if "crash n2" in plan.steps else "nonsense"

    assert Shrinker(fails).shrink(Plan(steps=("heal", "crash n2", "heal"))).steps == ("crash n2",)


@pytest.mark.parametrize("draw", [draw_replication, draw_people])
def test_a_plan_can_be_written_and_read(draw: object) -> None:
    assert callable(draw)
    for seed in range(50):
        plan = draw(seed)
        assert Plan.read(plan.text()) == plan


def test_a_plan_takes_the_same_way_each_time() -> None:
    def digest(plan: Plan) -> str:
        world = play(plan)
        return hashlib.sha256(f"{world.log}{world.network.counts}{world.witness.story}".encode()).hexdigest()

    plan = draw_people(3, 30)
    assert digest(plan) == digest(Plan.read(plan.text()))
    assert digest(plan) != digest(replace(plan, seed=4))


def test_a_planted_fault_is_cut_down_to_some_steps() -> None:
    """One copy is acknowledged: it takes a ring, a message and a crash or two to see that."""
    with append_quorum_of_one():
        plan = next(plan for seed in range(50) if failure(plan := draw_replication(seed)))
        why = failure(plan)
        short = Shrinker(failure, attempts=150).shrink(plan)
        assert failure(short)
        assert len(short.steps) <= 8, f"{why}\n{short.text()}"
    assert not failure(short)
