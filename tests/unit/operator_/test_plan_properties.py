"""Whatever users, crashes and restarts do, the plan ends where the spec says, and takes away nothing that is needed.

The promises that hold at every moment are asserted by the toy itself: nobody goes who has not left, one leaves at a
time, a new StatefulSet takes no pods away. Here also: never two pods down by our doing.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.operator_.toy import Toy
from tests.unit.operator_.toy_parts import SLOTS

from coterie_operator.model import RingSpec

Action = tuple[str, int]

ACTIONS = st.one_of(
    st.tuples(st.just("scale"), st.integers(3, 6)),
    st.tuples(st.just("template"), st.integers(0, 3)),
    st.tuples(st.just("pass"), st.integers(1, 12)),
    st.tuples(st.just("kill pod"), st.integers(0, 5)),
    st.tuples(st.just("kill operator after status"), st.integers(0, 3)),
    st.tuples(st.just("kill operator after manifests"), st.integers(0, 3)),
    st.tuples(st.just("lose volume"), st.integers(0, 5)),
    st.tuples(st.just("pause"), st.integers(1, 5)),
    st.tuples(st.just("refuse"), st.integers(1, 5)),
    st.tuples(st.just("controller away"), st.integers(1, 5)),
    st.tuples(st.just("orphan"), st.integers(0, 0)),
)
TEMPLATES = ("a", "b", "c", "bad")


def step(toy: Toy) -> None:
    """One pass and two seconds; no pod that works may go while another does not."""
    before = {ordinal for ordinal in toy.pods if toy.ready(ordinal)}
    down = set(range(toy.statefulset.replicas)) - before if toy.statefulset else set()
    stopping = {ordinal for ordinal, pod in toy.pods.items() if pod.stopping}
    toy.reconcile()
    toy.tick()
    taken = {ordinal for ordinal, pod in toy.pods.items() if pod.stopping} - stopping
    worked = taken & before
    assert len(worked) <= 1, f"{sorted(worked)} at once"
    assert not (worked and down - taken), f"{sorted(worked)} while {sorted(down)} were down"


def act(toy: Toy, action: Action) -> None:
    what, number = action
    if what == "scale":
        toy.change(replicas=number)
    elif what == "template":
        toy.template = TEMPLATES[number]
        toy.generation += 1
    elif what == "pass":
        for _ in range(number):
            step(toy)
    elif what == "kill pod":
        toy.stop(number)
    elif what.startswith("kill operator"):
        toy.reconcile(killed_after=what.rpartition(" ")[2])
        toy.killed()
        for _ in range(number):
            toy.tick()
    elif what == "lose volume":
        if toy.formed and not toy.under_replicated() and len(toy.live()) > toy.spec.replication_factor // 2 + 1:
            toy.lose(number)
    elif what == "pause":
        toy.change(paused=True)
        before = toy.statefulset and (toy.statefulset.replicas, toy.statefulset.partition)
        for _ in range(number):
            step(toy)
        assert before == (toy.statefulset and (toy.statefulset.replicas, toy.statefulset.partition))
        toy.change(paused=False)
    elif what == "refuse":
        toy.refuses = True
        for _ in range(number):
            step(toy)
        toy.refuses = False
    elif what == "controller away":
        toy.controller_away = number
    else:
        toy.statefulset = None


def steady(toy: Toy) -> None:
    """Check that nothing is written any more."""
    writes, generation = toy.writes, toy.status
    for _ in range(5):
        decided = toy.reconcile()
        toy.tick()
        assert decided.step is None
        assert decided.doing == "", decided
    assert toy.writes == writes
    assert toy.status == generation


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(ACTIONS, max_size=14), st.integers(3, 6), st.sampled_from(TEMPLATES[:3]))
def test_it_ends_as_the_spec_says(actions: list[Action], replicas: int, template: str) -> None:
    toy = Toy(RingSpec(slots=SLOTS))
    toy.run()
    for action in actions:
        act(toy, action)
    toy.change(replicas=replicas)
    toy.template = template
    toy.run()
    assert toy.status["skew"] <= toy.spec.max_skew  # type: ignore[operator]
    steady(toy)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(ACTIONS.filter(lambda action: action[0] not in ("lose volume", "orphan")), max_size=8))
def test_so_it_does_from_the_first_moment(actions: list[Action]) -> None:
    toy = Toy(RingSpec(slots=SLOTS))
    for action in actions:
        act(toy, action)
    toy.change(replicas=4)
    toy.template = "b"
    toy.run()
    steady(toy)


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_with_fewer_copies_too(factor: int) -> None:
    toy = Toy(RingSpec(replicas=factor, replication_factor=factor, slots=SLOTS))
    toy.run()
    for replicas in (4, factor, 5, factor):
        toy.change(replicas=replicas)
        toy.run()
    toy.template = "b"
    toy.run()
    steady(toy)
