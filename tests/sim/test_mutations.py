"""What the random schedules are good for: they catch rules that are broken on purpose, and the real code passes them.

Here are those that are caught often; `python -m tests.sim.mutations` looks for all, some of which take 100 seeds. The
rare ones have scripted scenarios, which catch them each time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.sim.aged import aged
from tests.sim.estranged import estranged
from tests.sim.inbox import inbox
from tests.sim.mutations import rules
from tests.sim.mutations.search import MUTANTS, Mutant, search
from tests.sim.siege import siege

from coterie_node.replication.consensus import acceptor

OFTEN = (
    "plain-follows-any-joint",
    "sync-is-skipped",
    "joint-is-replaced",
    "unknown-is-empty",
    "register-quorum-of-one",
    "answered-before-fsync",
    "append-quorum-of-one",
    "held-before-fsync",
    "fsync-lies",
    "tombstone-dropped",
    "who-is-back-is-not-asked",
    "dedupe-left-out",
    "shown-is-forgotten",
    "order-left-out",
)
BY_NAME = {mutant.name: mutant for mutant in MUTANTS}


@pytest.mark.parametrize("name", OFTEN)
def test_a_broken_rule_is_noticed_soon(name: str) -> None:
    assert search(BY_NAME[name], seeds=60, share=0).caught


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutation_leaves_nothing_behind(mutant: Mutant) -> None:
    """What it has replaced is back, and what it only covered is covered no more."""
    owners: list[object] = [value for value in vars(rules).values() if isinstance(value, type)]
    owners.append(acceptor)
    before = [dict(vars(owner)) for owner in owners]
    with mutant.mutation():
        assert [dict(vars(owner)) for owner in owners] != before
    assert [dict(vars(owner)) for owner in owners] == before


@pytest.mark.parametrize("batch", range(4))
def test_sieges_fork_nothing(simulate: Callable[..., Any], batch: int) -> None:
    """The sharpest schedule, with the real code."""
    for seed in range(batch * 5, (batch + 1) * 5):
        simulate(siege(), seed)


def test_what_was_deleted_does_not_come_back(simulate: Callable[..., Any]) -> None:
    """Nodes go away and come back while tombstones go: with the real code."""
    for seed in (*range(6), 55):
        simulate(aged(), seed)


def test_who_comes_back_with_much_to_hand_over_does_not_spoil_the_order(simulate: Callable[..., Any]) -> None:
    for seed in range(25):
        simulate(estranged(), seed)


def test_devices_show_each_message_once_and_in_order(simulate: Callable[..., Any]) -> None:
    """Mail in any order and more than once, broken links, restarts: with the client library as it is."""
    for seed in range(5):
        simulate(inbox(), seed)
