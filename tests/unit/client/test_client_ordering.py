from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coterie_client.history import Message
from coterie_client.ordering import LAST_RESORT, PATIENCE, HoldBack


def message(counter: int, *, epoch: int = 1, sender: str = "bob", prev: bytes = b"", time: int = 0) -> Message:
    identity = b"%s-%d-%d" % (sender.encode(), epoch, counter)
    return Message(
        counter, sender, identity, sender, epoch, counter, prev, time, str(counter), b"", "delivered", archived=False
    )


def hold(last: tuple[int, int] = (0, 0), shown: frozenset[bytes] = frozenset()) -> HoldBack:
    return HoldBack(last_shown=lambda sender: last, was_shown=lambda sender, identity: identity in shown)


def counters(messages: list[Message]) -> list[int]:
    return [m.counter for m in messages]


def test_what_follows_what_was_shown_is_shown_at_once() -> None:
    box = hold(last=(1, 4))
    box.offer([message(5), message(6)], 0)
    assert counters(box.take(0)) == [5, 6]
    assert box.impatient_at() is None


def test_a_message_waits_for_the_one_before_it() -> None:
    box = hold()
    box.offer([message(2, prev=b"bob-1-1")], 0)
    assert box.take(1) == []
    box.offer([message(1)], 1.5)
    assert counters(box.take(1.5)) == [1, 2]


def test_a_drain_ends_the_waiting_of_what_had_waited_when_it_was_asked_for() -> None:
    box = hold(last=(1, 1))
    box.offer([message(9, prev=b"?")], 0)
    box.offer([message(7, prev=b"?")], 1)
    assert box.impatient_at() == PATIENCE
    assert box.take(PATIENCE, drain_asked_at=1.9) == []
    assert counters(box.take(5, drain_asked_at=PATIENCE)) == [7, 9]
    assert box.impatient_at() is None


def test_a_drain_lets_what_has_just_come_wait() -> None:
    box = hold(last=(1, 1))
    box.offer([message(3, prev=b"?")], 0)
    assert box.take(0, drain_asked_at=0) == []


def test_without_any_drain_it_is_shown_in_the_end() -> None:
    box = hold(last=(1, 1))
    box.offer([message(5, prev=b"?")], 0)
    box.offer([message(3, prev=b"?")], 1)
    assert box.take(LAST_RESORT - 0.01) == []
    assert counters(box.take(LAST_RESORT)) == [3, 5]


def test_a_message_that_names_none_before_it_does_not_wait() -> None:
    """The ones before it were withdrawn."""
    box = hold()
    box.offer([message(3)], 0)
    assert counters(box.take(0)) == [3]


def test_prev_bridges_session_epochs_and_withdrawn_messages() -> None:
    box = hold(last=(1, 3), shown=frozenset({b"bob-1-3"}))
    box.offer([message(1, epoch=2, prev=b"bob-1-3"), message(3, epoch=2, prev=b"bob-2-1")], 0)
    assert counters(box.take(0)) == [1, 3]


def test_a_late_message_is_shown_at_once_though_others_were_shown_before() -> None:
    box = hold(last=(2, 8))
    box.offer([message(4, epoch=1, prev=b"?")], 0)
    assert counters(box.take(0)) == [4]


def test_senders_do_not_wait_for_each_other() -> None:
    box = hold()
    box.offer([message(2, prev=b"?", time=1), message(1, sender="carol", time=2)], 0)
    assert [m.sender for m in box.take(0)] == ["carol"]


def test_senders_are_merged_by_the_time_of_storing() -> None:
    box = hold()
    box.offer([message(1, time=10), message(2, time=30), message(1, sender="carol", time=20)], 0)
    assert [m.time for m in box.take(0)] == [10, 20, 30]


@given(st.permutations(list(range(1, 12))), st.data())
def test_any_order_of_arrival_comes_out_in_the_senders_order(order: list[int], data: st.DataObject) -> None:
    box = hold()
    shown: list[int] = []
    for step, counter in enumerate(order):
        prev = b"bob-1-%d" % (counter - 1) if counter > 1 else b""
        box.offer([message(counter, prev=prev)], step * 0.01)
        if data.draw(st.booleans()):
            shown += counters(box.take(step * 0.01))
    shown += counters(box.take(1.0))
    assert shown == list(range(1, 12))
