"""Seeded random schedules over the real rooms of replication and chat; a failure names its seed.

`python -m tests.sim` takes more of them, and cuts down what fails.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.sim.plan import Plan
from tests.sim.stage import perform
from tests.sim.storm import storm
from tests.sim.walk import people, walk

BATCHES = 10
SEEDS = 20
"""Walks a batch: some 60 ms each."""
REORDERED = """
seed 2785
slots 2
start 4
suggest all 3 n4 n2 n1
tick 0.9259s
change eve 6 n1
cut n1 n4
suggest right
tick 0.6835s
replace n2
"""


@pytest.mark.parametrize("batch", range(BATCHES))
def test_random_walks_keep_every_promise(simulate: Callable[..., Any], batch: int) -> None:
    """Crashes, lost disks, partitions, frozen nodes, bad networks, wrong suggestions and stale proposers, all at once.

    The witness asserts after every step; after the storm everything is whole and everything acknowledged is there.
    """
    for seed in range(batch * SEEDS, (batch + 1) * SEEDS):
        simulate(walk(), seed)


def test_the_same_members_in_another_order_need_no_accounts_carried_over(simulate: Callable[..., Any]) -> None:
    """One of the two disks that have an account is lost meanwhile, which is within the promise: the third gets it."""
    plan = Plan.read(f"kind replication{REORDERED}")
    simulate(perform(plan), plan.seed)


@pytest.mark.parametrize("batch", range(2))
def test_long_walks(simulate: Callable[..., Any], batch: int) -> None:
    """The same for longer: configurations of high epochs, and state that many have left behind."""
    for seed in range(batch * 3, batch * 3 + 3):
        simulate(walk(steps=500), seed)


@pytest.mark.parametrize("batch", range(6))
def test_storms_of_proposers_fork_nothing(simulate: Callable[..., Any], batch: int) -> None:
    """One slot, configurations of one to three, and many proposers at once: safety alone, at its narrowest."""
    for seed in range(batch * 10, (batch + 1) * 10):
        simulate(storm(), seed)


@pytest.mark.parametrize("batch", range(3))
def test_people_lose_nothing(simulate: Callable[..., Any], batch: int) -> None:
    """People register, log in, write and read while nodes, disks, links and clocks fail; then all is accounted for."""
    for seed in range(batch * 10, (batch + 1) * 10):
        simulate(people(), seed)
