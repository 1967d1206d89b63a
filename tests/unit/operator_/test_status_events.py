"""Events tell what a person cares about, once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from tests.unit.operator_.toy import Toy
from tests.unit.operator_.toy_parts import SLOTS
from tests.unit.operator_.views import (
    claim,
    fresh,
    new_set,
    one_pod,
    other,
    seen,
    silent,
)

from coterie_operator.model import Observed, Plan, RingSpec
from coterie_operator.plan import plan
from coterie_operator.status import events, status


def told(observed: Observed) -> dict[str, Any]:
    return status(observed, plan(observed))


def later(observed: Observed, found: Mapping[str, Any], seconds: float = 2.0) -> Observed:
    """Return the same a little later, with that status."""
    return replace(observed, status=found, now=observed.now + timedelta(seconds=seconds))


def life(toy: Toy) -> list[str]:
    """Let the ring come to rest; return the reasons of what was told meanwhile, repetitions left out."""
    before = len(toy.notes)
    toy.run()
    return list(dict.fromkeys(note.reason for note in toy.notes[before:]))


def test_the_events_of_a_life() -> None:
    toy = Toy(RingSpec(slots=SLOTS, rebalance=False))
    assert life(toy) == ["Founded", "Available"]
    toy.change(replicas=4)
    assert life(toy) == ["ScalingUp", "Joined"]
    toy.template, toy.generation = "b", toy.generation + 1
    assert life(toy) == ["RollingUpdate", "Updated"]
    toy.change(replicas=3)
    assert life(toy) == ["ScalingDown", "Leaving", "ScaledDown"]
    toy.change(rebalance=True, max_skew=1.05)
    assert life(toy) == ["Rebalancing", "Rebalanced"]
    toy.change(paused=True)
    toy.reconcile()
    toy.change(paused=False)
    assert life(toy) == ["Resumed"]
    assert {note.type for note in toy.notes} == {"Normal"}


def test_the_events_of_a_bad_image() -> None:
    toy = Toy(RingSpec(slots=SLOTS, rebalance=False, image="coterie:bad"))
    life(toy)
    toy.template, toy.generation = "bad", toy.generation + 1
    for _ in range(40):
        toy.reconcile()
        toy.tick()
    warnings = [note for note in toy.notes if note.type == "Warning"]
    assert [note.reason for note in warnings] == ["UpdateStopped"]
    assert "main-2 cannot get its image coterie:bad" in warnings[0].message
    toy.template, toy.generation = "a", toy.generation + 1
    assert {"Recovered", "Updated"} <= set(life(toy))


def test_the_events_of_a_lost_volume() -> None:
    toy = Toy(RingSpec(slots=SLOTS, rebalance=False))
    life(toy)
    toy.lose(1)
    assert life(toy) == ["Replacing", "ClaimLost", "Recovered", "Replaced"]


def test_the_events_of_a_changed_mind() -> None:
    toy = Toy(RingSpec(replicas=5, slots=SLOTS, rebalance=False))
    life(toy)
    toy.change(replicas=4)
    for _ in range(2):
        toy.reconcile()
        toy.tick()
    toy.change(replicas=5)
    assert life(toy) == ["LeaveCancelled"]


def test_the_events_of_a_refusal() -> None:
    toy = Toy(RingSpec(replicas=4, slots=SLOTS, rebalance=False))
    life(toy)
    toy.change(replicas=3)
    toy.refuses = True
    for _ in range(10):
        toy.reconcile()
        toy.tick()
    toy.refuses = False
    said = [note for note in toy.notes if note.type == "Warning"]
    assert [note.reason for note in said] == ["ScaleDownBlocked"]
    assert "LeaveRefused: main-3 refuses to leave: not while I am told not to" in said[0].message
    assert life(toy) == ["Leaving", "ScaleDownUnblocked", "ScaledDown"]


def test_a_claim_that_never_binds_is_told() -> None:
    observed = fresh(
        statefulset=new_set(),
        pods=one_pod(ready=False, ip=""),
        claims=seen(3, claim(0, phase="Pending", age=60.0)).claims[:1],
    )
    decided: Plan = plan(observed)
    notes = events({}, decided, status(observed, decided))
    assert [(note.type, note.reason) for note in notes] == [("Warning", "ClaimPending")]
    assert "data-main-0" in notes[0].message


def test_what_another_part_of_the_operator_says_is_not_told_twice() -> None:
    observed = seen(3)
    found = told(observed)
    after = {
        **found,
        "conditions": [{"type": "Degraded", "status": "True", "reason": "OperatorForbidden", "message": "no"}],
    }
    assert "Degraded" not in [note.reason for note in events(found, plan(observed), after)]


def test_a_power_cut_is_told_and_so_is_its_end() -> None:
    before = told(seen(3))
    observed = later(seen(3, silent(0), silent(1), silent(2), other(ring=None)), before)
    dark = told(observed)
    assert "Unavailable" in [note.reason for note in events(before, plan(observed), dark)]
    assert "Available" in [note.reason for note in events(dark, plan(seen(3)), told(later(seen(3), dark)))]
