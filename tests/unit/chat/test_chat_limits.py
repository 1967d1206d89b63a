"""Limits, with the time as a parameter."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coterie_node.chat.limits import MOST_KEYS, Counter, Limiter, TokenBucket
from coterie_node.chat.owner.quotas import AHEAD_MS, Box
from coterie_protocol.errors import CoterieError, ErrorCode


def test_a_bucket_takes_its_burst_and_then_one_a_pause() -> None:
    bucket = TokenBucket(3, 0.5)
    assert [bucket.take(10.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert bucket.take(10.0) == pytest.approx(0.5)
    assert bucket.take(10.2) == pytest.approx(0.3)
    assert bucket.take(10.5) == 0.0
    assert bucket.take(10.5) == pytest.approx(0.5)
    bucket.give_back()
    assert bucket.take(10.5) == 0.0
    assert bucket.take(100.0) == 0.0
    assert not bucket.idle(100.0)
    assert bucket.idle(100.5)


@given(st.lists(st.floats(0, 0.2), min_size=1, max_size=200))
def test_a_bucket_never_gives_more_than_its_rate(pauses: list[float]) -> None:
    bucket = TokenBucket(5, 0.1)
    now = 1.0
    taken = 0
    for pause in pauses:
        now += pause
        if not bucket.take(now):
            taken += 1
        assert taken <= 5 + (now - 1.0) / 0.1 + 1e-6


def test_a_limiter_names_the_wait_and_keeps_keys_apart() -> None:
    limiter = Limiter(1, 2.0, "logins to this account")
    limiter.take("ann", 0.0)
    limiter.take("bob", 0.0)
    with pytest.raises(CoterieError, match="logins to this account; try again in 1500 ms") as caught:
        limiter.take("ann", 0.5)
    assert (caught.value.wire_code, caught.value.value) == (ErrorCode.RATE_LIMITED, 1500)
    limiter.give_back("ann")
    limiter.take("ann", 0.5)


def test_a_limiter_does_not_grow_without_bound() -> None:
    limiter = Limiter(1, 100.0, "logins")
    for number in range(MOST_KEYS + 100):
        limiter.take(f"user{number}", 0.0)
    assert len(limiter._buckets) <= MOST_KEYS
    limiter.take("later", 1000.0)


def test_a_counter_counts_what_is_open() -> None:
    counter = Counter(2)
    assert [counter.enter("a") for _ in range(3)] == [True, True, False]
    assert counter.enter("b")
    counter.leave("a")
    counter.leave("a")
    assert counter.enter("a")
    counter.leave("a")
    counter.leave("a")
    assert counter.enter("a")


def test_stamps_rise_with_the_clock_and_past_it_but_not_far() -> None:
    box = Box("ann", 0)
    assert [box.next_stamp(1000) for _ in range(3)] == [1000, 1001, 1002]
    assert box.next_stamp(2000) == 2000
    assert box.next_stamp(1500) == 2001  # The clock was set back.
    stamps = [box.next_stamp(2000) for _ in range(5 * AHEAD_MS)]
    assert stamps == sorted(stamps)
    assert stamps[-1] == 2000 + AHEAD_MS
    assert box.next_stamp(9000) == 9000
