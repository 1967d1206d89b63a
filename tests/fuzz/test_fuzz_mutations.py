"""What the fuzzing is good for: faults that are put back are found.

Here are those that are found within seconds; `python -m tests.fuzz --mutations` looks for all.
"""

from __future__ import annotations

import pytest
from tests.fuzz import mutations
from tests.fuzz.mutations import MUTANTS, Mutant, search

SOON = (
    "client-bounds-removed",
    "a-frame-cuts-the-link",
    "a-token-that-is-no-text",
    "a-datagram-that-does-not-decode",
    "body-bounds-removed",
    "the-terminal-obeys",
    "session-bounds-removed",
    "a-row-of-another-type",
    "a-list-that-is-none",
    "a-page-weighs-bodies-alone",
    "a-copied-page-weighs-bodies-alone",
    "an-append-weighs-bodies-alone",
)
BY_NAME = {mutant.name: mutant for mutant in MUTANTS}


@pytest.mark.parametrize("name", SOON)
def test_a_fault_that_is_put_back_is_found(name: str) -> None:
    finding, _ = search(BY_NAME[name], seeds=5)
    assert finding is not None


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutation_leaves_nothing_behind(mutant: Mutant) -> None:
    modules = [value for value in vars(mutations).values() if isinstance(value, type(mutations))]
    before = [dict(vars(module)) for module in modules]
    with mutant.mutation():
        assert [dict(vars(module)) for module in modules] != before
    assert [dict(vars(module)) for module in modules] == before
