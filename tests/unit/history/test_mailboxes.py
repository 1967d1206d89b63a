"""Mailboxes: a complaint for each kind of fault, none for what is allowed, and a run of a million messages."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.history.__main__ import main
from tests.history.events import History, Kind, Operation
from tests.history.mailboxes import Mailboxes, check_mailboxes, follow


def conversation(count: int = 4) -> tuple[History, list[Operation]]:
    """Let ann send bob some messages, all acknowledged."""
    history = History()
    sends = [history.begin(number, "ann", Kind.SEND, "bob", [f"m{number}", number]) for number in range(count)]
    for number, send in enumerate(sends):
        history.done(send, number + 0.5)
    return history, sends


def show(history: History, *numbers: int, at: float = 50.0) -> None:
    """Let bob's application show them."""
    for number in numbers:
        history.shown(at, "bob", "ann", f"m{number}", number)


def test_each_once_in_order() -> None:
    history, _ = conversation()
    show(history, 0, 1, 2, 3)
    history.drained(60, "bob")
    assert check_mailboxes(history) == []


def test_what_is_unknown_may_be_shown_in_its_place_or_be_missing() -> None:
    history, sends = conversation()
    history.unknown(sends[1])
    history.unknown(sends[2])
    show(history, 0, 2, 3)
    history.drained(60, "bob")
    assert check_mailboxes(history) == []


def test_loss_shows_only_when_the_mailbox_was_drained() -> None:
    history, _ = conversation()
    show(history, 0, 1, 3)
    assert check_mailboxes(history) == []
    history.drained(60, "bob")
    expected = "number 2 from 'ann' to 'bob' was acknowledged, but not shown when the mailbox was drained"
    assert check_mailboxes(history) == [expected]
    history.drained(61, "bob")
    assert check_mailboxes(history) == [expected]
    assert follow(history).lost_count == 1


def test_what_is_acknowledged_after_the_draining_is_not_lost_yet() -> None:
    history, sends = conversation()
    history.done(sends[3], 65)
    show(history, 0, 1, 2)
    history.drained(60, "bob")
    assert check_mailboxes(history) == []
    history.drained(70, "bob")
    assert len(check_mailboxes(history)) == 1


def test_twice() -> None:
    history, _ = conversation()
    show(history, 0, 1, 1)
    assert check_mailboxes(history) == ["message m1 (number 1 from 'ann' to 'bob') was shown twice"]


def test_out_of_order_even_if_unknown() -> None:
    history, sends = conversation()
    history.unknown(sends[1])
    show(history, 0, 2, 1)
    assert check_mailboxes(history) == ["message m1 (number 1 from 'ann' to 'bob') was shown after number 2"]


def test_senders_are_independent() -> None:
    history, _ = conversation(2)
    history.begin(3, "eve", Kind.SEND, "bob", ["e0", 0])
    show(history, 0, 1)
    history.shown(50, "bob", "eve", "e0", 0)
    assert check_mailboxes(history) == []


def test_invented() -> None:
    history, sends = conversation()
    history.refused(sends[2], 10)
    show(history, 0, 2, 9)
    history.shown(50, "bob", "ann", "other", 3)
    history.shown(50, "bob", "zoë", "m0", 0)
    assert check_mailboxes(history) == [
        "message m2 (number 2 from 'ann' to 'bob') was shown, though its sender was told that it is refused",
        "message m9 (number 9 from 'ann' to 'bob') was shown, but never sent",
        "message other (number 3 from 'ann' to 'bob') was shown, but never sent",
        "message m0 (number 0 from 'zoë' to 'bob') was shown, but never sent",
    ]


def test_shown_before_it_was_sent() -> None:
    history = History()
    history.shown(0, "bob", "ann", "m0", 0)
    history.done(history.begin(1, "ann", Kind.SEND, "bob", ["m0", 0]), 2)
    assert check_mailboxes(history) == ["message m0 (number 0 from 'ann' to 'bob') was shown, but never sent"]


def a_run(rng: random.Random) -> History:
    """Write a run that keeps every promise: three people, messages that cross each other, some with unknown ends."""
    history = History()
    people = ("ann", "bob", "eve")
    numbers: dict[tuple[str, str], int] = {}
    waiting: dict[tuple[str, str], list[tuple[str, int]]] = {}
    now = 0.0
    for _ in range(rng.randint(1, 80)):
        now += 1
        pair = (rng.choice(people), rng.choice(people))
        if rng.random() < 0.6:
            number = numbers[pair] = numbers.get(pair, 0) + 1
            send = history.begin(now, pair[0], Kind.SEND, pair[1], [f"{pair}{number}", number])
            fate = rng.random()
            if fate < 0.7:
                history.done(send, now + rng.random() * 5)
            if fate < 0.85:
                waiting.setdefault(pair, []).append((f"{pair}{number}", number))
        elif queue := waiting.get(pair):
            history.shown(now, pair[1], pair[0], *queue.pop(0))
    for (sender, recipient), queue in waiting.items():
        for message, number in queue:
            history.shown(now + 10, recipient, sender, message, number)
    for name in people:
        history.drained(now + 20, name)
    return history


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 3))
def test_runs_are_accepted_and_a_single_fault_is_not(seed: int, fault: int) -> None:
    rng = random.Random(seed)
    history = a_run(rng)
    assert check_mailboxes(history) == []
    operations = history.operations
    shown = [at for at, one in enumerate(operations) if one.kind is Kind.SHOWN]
    if fault == 0:
        acknowledged = [
            at
            for at in shown
            if any(
                one.kind is Kind.SEND and one.ended is not None and [one.actor, *_list(one)] == _list(operations[at])
                for one in operations
                if one.key == operations[at].key
            )
        ]
        if not acknowledged:
            return
        del operations[rng.choice(acknowledged)]
    elif not shown:
        return
    elif fault == 1:
        at = rng.choice(shown)
        operations.insert(rng.randint(at + 1, len(operations)), operations[at])
    elif fault == 2:
        at = rng.choice(shown)
        later = [b for b in shown if b > at and operations[b].key == operations[at].key]
        later = [b for b in later if _list(operations[b])[0] == _list(operations[at])[0]]
        if not later:
            return
        operations.insert(later[0] + 1, operations[at])
        del operations[at]
    else:
        sends = {one.number: at for at, one in enumerate(operations) if one.kind is Kind.SEND}
        del operations[rng.choice(sorted(sends.values()))]
        if len([one for one in operations if one.kind is Kind.SHOWN]) == len(_known(operations)):
            return  # It was one that nobody saw.
    assert check_mailboxes(history) != []


def _list(one: Operation) -> list[str | int]:
    assert isinstance(one.value, list)
    return one.value


def _known(operations: list[Operation]) -> list[Operation]:
    sent = {(one.actor, one.key, _list(one)[1]) for one in operations if one.kind is Kind.SEND}
    return [one for one in operations if one.kind is Kind.SHOWN and (_list(one)[0], one.key, _list(one)[2]) in sent]


def test_the_numbers_are_the_harness_s_duty() -> None:
    boxes = Mailboxes()
    boxes.sent("ann", "bob", "m", 0)
    with pytest.raises(ValueError, match="sent before"):
        boxes.sent("ann", "bob", "m", 0)


def test_a_flood_of_complaints_is_counted() -> None:
    boxes = Mailboxes()
    for number in range(2000):
        boxes.shown("bob", "ann", "m", number)
    assert boxes.complaints()[-1] == "and 1000 more"


def test_half_a_million_messages_in_small_memory() -> None:
    """Streaming takes some 2 microseconds a call and ten bytes a message."""
    boxes = Mailboxes()
    began = time.process_time()
    for number in range(100_000):
        for sender in ("a", "b", "c", "d", "e"):
            boxes.sent(sender, "bob", "m", number)
            boxes.acknowledged(sender, "bob", number)
            boxes.shown("bob", sender, "m", number)
    boxes.drained("bob")
    assert boxes.complaints() == []
    assert time.process_time() - began < 10
    assert (boxes.sent_count, boxes.acknowledged_count, boxes.shown_count) == (500_000,) * 3
    assert sum(len(pair.flags) + pair.ids.itemsize * len(pair.ids) for pair in boxes._pairs.values()) == 9 * 500_000


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history, _ = conversation()
    show(history, 0, 1, 3)
    history.done(history.begin(0, "ann", Kind.REGISTER, "ann", "a"), 1)
    path = tmp_path / "history.jsonl"
    history.save(path)
    assert main([str(path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{path}: 1 operations on 1 names searched for an order; 4 messages sent, 4 acknowledged, 3 shown; "
        "0 of 1 recipients drained",
        "every promise kept",
    ]
    history.drained(60, "bob")
    history.save(path)
    assert main([str(path)]) == 1
    assert capsys.readouterr().out.splitlines()[1:] == [
        "number 2 from 'ann' to 'bob' was acknowledged, but not shown when the mailbox was drained",
        "1 complaints",
    ]
    assert main([f"{tmp_path}/none"]) == 2
