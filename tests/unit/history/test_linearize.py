"""The search for an order of accounts and sessions: against stories, against brute force, and against the clock."""

from __future__ import annotations

import copy
import random
import time
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.history.events import UNSEEN, End, History, Kind, Operation, Value
from tests.history.linearize import check_accounts, linearizable
from tests.unit.history.sequential import account_history, by_force

Line = tuple[str, float, float | None, Value, Value]
"""What, began, ended, token, result; the result "?" is unknown, "no" refused."""


def story(*lines: Line) -> History:
    """Write a history of ann's account."""
    history = History()
    for what, began, ended, token, result in sorted(lines, key=lambda line: line[1]):
        operation = history.begin(began, "somebody", Kind(what), "ann", token)
        if result == "no":
            assert ended is not None
            history.refused(operation, ended)
        elif result != "?":
            assert ended is not None
            history.done(operation, ended, result)
    return history


GOOD: dict[str, list[Line]] = {
    "nothing": [],
    "one after the other": [
        ("read", 0, 1, None, None),
        ("register", 2, 3, "a", None),
        ("login", 4, 5, None, 2),
        ("read", 6, 7, None, ["a", 2]),
    ],
    "one of two gets the name": [("register", 0, 9, "a", None), ("register", 1, 8, "b", "no")],
    "both are left in the dark, and one has it": [
        ("register", 0, None, "a", "?"),
        ("register", 0, None, "b", "?"),
        ("read", 3, 4, None, ["b", 1]),
    ],
    "taken by somebody who never heard": [("register", 0, None, "a", "?"), ("register", 5, 6, "b", "no")],
    "an unknown one happens late": [
        ("register", 0, None, "a", "?"),
        ("read", 5, 6, None, None),
        ("read", 7, 8, None, ["a", 1]),
    ],
    "unknown sessions come to light": [
        ("register", 0, 1, "a", None),
        ("login", 2, None, None, "?"),
        ("login", 2, None, None, "?"),
        ("read", 3, 4, None, ["a", 1]),
        ("login", 5, 6, None, 4),
    ],
    "logins that overlap, in either order": [
        ("register", 0, 1, "a", None),
        ("login", 2, 9, None, 3),
        ("login", 3, 8, None, 2),
        ("read", 4, 7, None, ["a", 2]),
    ],
    "asked twice under one token": [
        ("register", 0, None, "a", "?"),
        ("login", 2, 3, None, 2),
        ("register", 4, 5, "a", None),
    ],
    "what touches may have overlapped": [("register", 0, 1, "a", None), ("read", 1, 2, None, None)],
    "a refused login says nothing": [("login", 0, 1, None, "no")],
    "whose it is, seen by who cannot see the epoch": [
        ("register", 0, None, "a", "?"),
        ("login", 1, 2, None, 2),
        ("read", 3, 4, None, ["a", UNSEEN]),
        ("read", 5, 6, None, ["a", 2]),
    ],
}
BAD: dict[str, list[Line]] = {
    "two owners, seen by who cannot see the epoch": [
        ("register", 0, None, "a", "?"),
        ("register", 0, None, "b", "?"),
        ("read", 3, 4, None, ["a", UNSEEN]),
        ("read", 5, 6, None, ["b", UNSEEN]),
    ],
    "gone again, for who cannot see the epoch": [
        ("register", 0, 1, "a", None),
        ("read", 3, 4, None, ["a", UNSEEN]),
        ("read", 5, 6, None, None),
    ],
    "two have the name": [("register", 0, 9, "a", None), ("register", 1, 8, "b", None)],
    "taken, but by nobody": [("register", 0, 1, "a", "no")],
    "taken before anybody asked": [("register", 0, 1, "b", "no"), ("register", 2, 3, "a", None)],
    "taken by oneself": [("register", 0, 1, "a", None), ("register", 2, 3, "a", "no")],
    "forgotten": [("register", 0, 1, "a", None), ("read", 2, 3, None, None)],
    "refused by who then is not there": [
        ("register", 0, None, "a", "?"),
        ("register", 1, 2, "b", "no"),
        ("read", 3, 4, None, None),
    ],
    "somebody else's": [("register", 0, 1, "a", None), ("read", 2, 3, None, ["b", 1])],
    "one session for two": [
        ("register", 0, 1, "a", None),
        ("login", 2, 9, None, 2),
        ("login", 3, 8, None, 2),
    ],
    "a session that nobody took": [("register", 0, 1, "a", None), ("login", 2, 3, None, 3)],
    "a session that was taken only later": [
        ("register", 0, 1, "a", None),
        ("read", 2, 3, None, ["a", 2]),
        ("login", 4, None, None, "?"),
    ],
    "back to an older session": [
        ("register", 0, 1, "a", None),
        ("login", 2, 3, None, 2),
        ("read", 4, 5, None, ["a", 1]),
    ],
    "older, then newer, within one": [
        ("register", 0, 1, "a", None),
        ("login", 2, 9, None, 2),
        ("read", 3, 4, None, ["a", 2]),
        ("read", 5, 6, None, ["a", 1]),
    ],
    "the loser had it": [
        ("register", 0, None, "a", "?"),
        ("register", 1, 2, "a", "no"),
        ("read", 3, 4, None, ["a", 1]),
    ],
    "more sessions than were asked for": [
        ("register", 0, 1, "a", None),
        ("login", 2, None, None, "?"),
        ("login", 3, 4, None, 4),
    ],
    "logged in as nobody": [("login", 0, 1, None, 2), ("register", 2, 3, "a", None)],
}


@pytest.mark.parametrize("name", GOOD)
def test_good_stories(name: str) -> None:
    history = story(*GOOD[name])
    assert check_accounts(history) == []
    assert by_force(history.operations)


@pytest.mark.parametrize("name", BAD)
def test_bad_stories(name: str) -> None:
    history = story(*BAD[name])
    (complaint,) = check_accounts(history)
    assert complaint.startswith("account 'ann': no order explains its first ")
    assert not by_force(history.operations)


def test_a_complaint_names_what_contradicts_each_other() -> None:
    history = History()
    for number in range(50):
        history.done(history.begin(number * 10.0, "eve", Kind.READ, "zoë"), number * 10.0 + 1, None)
    history.done(history.begin(500, "ann", Kind.REGISTER, "zoë", "a"), 501)
    for number in range(50):
        history.done(history.begin(510 + number, "ann", Kind.LOGIN, "zoë"), 511 + number, number + 2)
    history.done(history.begin(600, "eve", Kind.READ, "zoë"), 601, ["a", 50])
    history.done(history.begin(700, "eve", Kind.READ, "zoë"), 701, None)
    assert check_accounts(history) == [
        "account 'zoë': no order explains its first 102 operations, up to 601.000000 s; these cannot all be true:\n"
        "  [559.000000 560.000000] #100 ann: login -> done: 51\n"
        "  [600.000000 601.000000] #101 eve: read -> done: ['a', 50]"
    ]


def test_names_are_searched_alone() -> None:
    history = story(("register", 0, 1, "a", None))
    history.done(history.begin(2, "bob", Kind.READ, "bob"), 3, None)
    assert check_accounts(history) == []


def shaken(rng: random.Random, operations: list[Operation]) -> list[Operation]:
    """Change one thing that was answered, so that the history is probably wrong."""
    operations = copy.deepcopy(operations)
    one = rng.choice(operations)
    if one.kind is Kind.REGISTER:
        one.end = rng.choice((End.DONE, End.REFUSED))
        one.ended = one.began + 1
    elif one.kind is Kind.LOGIN and one.end is End.DONE:
        assert isinstance(one.result, int)
        one.result += rng.choice((-1, 1))
    elif one.end is End.DONE:
        one.result = rng.choice([None, *(other.result for other in operations if other.kind is Kind.READ)])
    return operations


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6), st.sampled_from((0.1, 1.0, 4.0)), st.sampled_from((0.0, 0.3)))
def test_it_says_what_brute_force_says(seed: int, count: int, overlap: float, unknown: float) -> None:
    rng = random.Random(seed)
    operations = account_history(rng, count, overlap, unknown).operations
    assume(operations)
    assert linearizable(operations)
    assert by_force(operations)
    for _ in range(4):
        operations = shaken(rng, operations)
        assert linearizable(operations) == by_force(operations)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 300), st.sampled_from((0.1, 3.0, 20.0)), st.sampled_from((0.0, 0.2)))
def test_what_a_sequential_account_answered_is_accepted(seed: int, count: int, overlap: float, unknown: float) -> None:
    assert check_accounts(account_history(random.Random(seed), count, overlap, unknown)) == []


def order_of(history: History, *kinds: Kind) -> list[Operation]:
    """Return what was done of some kinds."""
    return [one for one in history.of(*kinds) if one.end is End.DONE]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from((0.5, 3.0, 10.0)))
def test_answers_that_changed_places_are_rejected(seed: int, overlap: float) -> None:
    rng = random.Random(seed)
    history = account_history(rng, 100, overlap, 0.0)
    logins = order_of(history, Kind.LOGIN)
    pairs = [
        (one, other)
        for one in logins
        for other in logins
        if one.ended is not None and one.ended < other.began and one.result != other.result
    ]
    assume(pairs)
    one, other = rng.choice(pairs)
    one.result, other.result = other.result, one.result
    assert len(check_accounts(history)) == 1


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from((0.5, 3.0, 10.0)))
def test_an_acknowledged_write_that_was_dropped_is_noticed(seed: int, overlap: float) -> None:
    """A login that nobody counted: all later ones get the epoch before."""
    rng = random.Random(seed)
    history = account_history(rng, 100, overlap, 0.0)
    logins = order_of(history, Kind.LOGIN)
    assume(len(logins) > 1)
    lost = rng.choice([one.result for one in logins][:-1])
    assert isinstance(lost, int)
    for one in order_of(history, Kind.LOGIN, Kind.READ):
        if isinstance(one.result, int) and one.result > lost:
            one.result -= 1
        elif isinstance(one.result, list) and isinstance(one.result[1], int) and one.result[1] > lost:
            one.result = [one.result[0], one.result[1] - 1]
    assume(any(one.result == lost for one in logins if one.kind is Kind.LOGIN))
    assert len(check_accounts(history)) == (1 if sum(one.result == lost for one in logins) > 1 else 0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from((0.5, 3.0, 10.0)))
def test_a_name_given_twice_is_noticed(seed: int, overlap: float) -> None:
    rng = random.Random(seed)
    history = account_history(rng, 100, overlap, 0.0)
    losers = [one for one in history.of(Kind.REGISTER) if one.end is End.REFUSED]
    assume(losers)
    rng.choice(losers).end = End.DONE
    (complaint,) = check_accounts(history)
    assert "-> done" in complaint


@pytest.mark.parametrize("unknown", [0.0, 0.3])
def test_ten_thousand_operations_on_one_name(unknown: float) -> None:
    """Twenty under way at any time; 0.3 s here, and 3,000 that never end do not matter."""
    history = account_history(random.Random(1), 10_000, 20.0, unknown)
    began = time.process_time()
    assert check_accounts(history) == []
    assert time.process_time() - began < 3


def test_what_is_wrong_in_thousands_is_found_soon() -> None:
    history = account_history(random.Random(2), 4_000, 20.0, 0.1)
    *_, last = order_of(history, Kind.READ)
    last.result = ["t0", 1]
    began = time.process_time()
    assert len(check_accounts(history)) == 1
    assert time.process_time() - began < 30


def test_a_history_is_saved_and_loaded(tmp_path: Path) -> None:
    history = account_history(random.Random(3), 50, 3.0, 0.2)
    history.save(tmp_path / "history.jsonl")
    again = History.load(tmp_path / "history.jsonl")
    assert again.operations == history.operations
    assert check_accounts(again) == []
