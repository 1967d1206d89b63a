"""The mutation run: what is changed, and that each verdict is earned by real tests in a real process."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.mutate.campaign import Campaign, Drawn, Seen, draw
from tests.mutate.operators import Mutant, mutants
from tests.mutate.rooms import ROOMS, ROOT, Room

SOURCE = '''
"""A module."""
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from x import y

LIMIT = 5


def take(queue: list[int], most: int = 3) -> int:
    """Take."""
    if len(queue) > most and not most:
        log.info("full", size=len(queue) + 1)
        raise ValueError(f"{len(queue)} + 1")
    queue.clear()
    assert LIMIT > 1
    return len(queue) - 1
'''
ORDERING = "client/coterie_client/ordering.py"
TESTS = "tests/unit/client/test_client_ordering.py"
ROOM = Room("ordering", (ORDERING,), (TESTS,), simulated=False)


def changes(source: str) -> set[tuple[str, str]]:
    return {(mutant.before.strip(), mutant.after.strip()) for mutant, _ in mutants("a.py", source)}


def test_faults_are_small_and_none_is_in_what_only_people_and_checkers_read() -> None:
    found = changes(SOURCE)
    assert ("5", "6") in found
    assert ("queue.clear()", "pass") in found
    assert ("len(queue) > most and not most", "len(queue) > most or not most") in found
    assert ("return len(queue) - 1", "return None") in found
    assert any(before.startswith("if len(queue)") and after.startswith("if False") for before, after in found)
    assert any(before.startswith("raise ValueError") and after == "pass" for before, after in found)
    assert not any("log" in before and not before.startswith("if") for before, _ in found)
    assert not any(before in ("TYPE_CHECKING", "LIMIT > 1", "1.") for before, _ in found)


def test_every_mutant_is_another_text_that_compiles() -> None:
    made = {make() for _, make in mutants("a.py", SOURCE)}
    assert len(made) >= 15
    for source in made:
        assert source != SOURCE
        compile(source, "a.py", "exec")


def test_the_same_seed_draws_the_same_mutants() -> None:
    (client,) = (room for room in ROOMS if room.name == "client")
    one, other, another = (draw([client], 20, seed) for seed in (1, 1, 2))
    assert [drawn.mutant for drawn in one] == [drawn.mutant for drawn in other]
    assert {str(drawn.mutant) for drawn in one} != {str(drawn.mutant) for drawn in another}


@pytest.mark.parametrize(
    ("path", "source", "verdict"),
    [
        (ORDERING, "", "survived"),
        (ORDERING, "\nraise RuntimeError\n", "killed"),
        ("node/coterie_node/store/rows.py", "", "unchanged"),
    ],
)
def test_a_verdict_is_earned_and_kept(tmp_path: Path, path: str, source: str, verdict: str) -> None:
    mutant = Mutant(path, 0, 1, 1, "a", "b")
    one = Drawn(ROOM, mutant, (ROOT / path).read_text() + source)
    test = f"{TESTS}::{first_test()}"
    seen = {ROOM.name: Seen({test: 0.1}, {path: {"1": [test]}})}
    for _ in range(2):  # the second time the file knows it
        (outcome,) = Campaign(tmp_path / "results.jsonl", jobs=1, walks=0).run([one], seen)
        assert outcome.verdict == verdict
        assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 1


def first_test() -> str:
    return next(
        line.removeprefix("def ").removeprefix("async def ").partition("(")[0]
        for line in (ROOT / TESTS).read_text().splitlines()
        if line.startswith(("def test_", "async def test_"))
    )
