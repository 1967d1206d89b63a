"""What a node believes of what it hears on the multicast group, as a story in which time is handed in."""

from __future__ import annotations

from itertools import count

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coterie_node.config.settings import Address
from coterie_node.discovery.hearing import FRESH, MAX_NODES, MAX_TROUBLES, REMIND, STRANGERS_EVERY, Heard, Hearing
from coterie_node.discovery.packet import Announcement, seal

SECRET, OTHER = b"s" * 32, b"o" * 32
RING, FOREIGN = "5" * 32, "7" * 32
NOW = 1_700_000_000_000
AT = Address("10.0.0.1", 7401)
_nonces = count()


def said(uid: str = "n1", **changes: object) -> Announcement:
    nonce = next(_nonces).to_bytes(12)
    plain = Announcement(False, NOW, nonce, uid, "boot", RING, "", 7401, uid)
    return msgspec.structs.replace(plain, **changes)


def listener(ring: str = "", *, only_this: bool = False) -> Hearing:
    return Hearing(lambda: SECRET, "me", "boot", lambda: ring, only_this=only_this)


def hear(by: Hearing, what: Announcement, at: float = 0.0, source: str = "10.0.0.1", secret: bytes = SECRET) -> Heard:
    return by.hear(at, NOW, source, seal(secret, what))


def test_a_node_that_was_heard_is_known_for_a_while() -> None:
    one = listener()
    assert one.lonely(0.0)
    assert hear(one, said()) == Heard()
    assert one.addresses(FRESH - 0.1) == [AT]
    assert not one.lonely(FRESH - 0.1)
    assert one.addresses(FRESH) == []
    assert one.lonely(FRESH)


def test_the_latest_heard_comes_first() -> None:
    one = listener()
    hear(one, said("n1"), 0.0, "10.0.0.1")
    hear(one, said("n2"), 1.0, "10.0.0.2")
    assert one.addresses(2.0) == [Address("10.0.0.2", 7401), AT]
    hear(one, said("n1"), 2.0, "10.0.0.1")
    assert one.addresses(2.0) == [AT, Address("10.0.0.2", 7401)]


def test_what_a_node_says_of_its_host_counts_before_where_it_was_heard() -> None:
    one = listener()
    hear(one, said(host="10.9.9.9"))
    assert one.addresses(0.0) == [Address("10.9.9.9", 7401)]


def test_a_question_is_to_be_answered_and_is_an_announcement() -> None:
    one = listener()
    assert hear(one, said(asks=True)).answer
    assert one.addresses(0.0) == [AT]


def test_a_node_does_not_hear_itself() -> None:
    one = listener()
    assert hear(one, said("me", asks=True)) == Heard()
    assert one.addresses(0.0) == []


def test_a_datagram_counts_once() -> None:
    one = listener()
    data = seal(SECRET, said(asks=True))
    assert one.hear(0.0, NOW, "10.0.0.1", data).answer
    assert one.hear(25.0, NOW + 25_000, "10.6.6.6", data) == Heard()
    assert one.addresses(25.0) == []


def test_another_secret_is_said_once_a_minute_and_believed_never() -> None:
    one = listener()
    words = "hears nodes that have another secret (from 10.0.0.3)"
    due = [bool(hear(one, said(), at, "10.0.0.3", OTHER).warning) for at in (0.0, 1.0, REMIND - 1.0, REMIND, 90.0)]
    assert due == [True, False, False, True, False]
    assert one.remarks(90.0) == [words]
    assert one.remarks(90.0 + FRESH) == []
    assert one.addresses(90.0) == []


def test_several_outsiders_are_one_remark() -> None:
    one = listener()
    for number in range(7):
        assert hear(one, said(), 0.0, f"10.0.0.{number}", OTHER).warning
    (remark,) = one.remarks(0.0)
    assert remark.endswith("10.0.0.4 and 2 more)")


@pytest.mark.parametrize(("skew", "words"), [(42_000, "42 s ahead"), (-3_600_000, "3600 s behind")])
def test_a_wrong_clock_is_said(skew: int, words: str) -> None:
    one = listener()
    heard = hear(one, said(sent_ms=NOW + skew))
    assert "clock differs by more than 30 s" in heard.warning
    assert words in heard.warning
    assert one.remarks(0.0) == [heard.warning]
    assert one.addresses(0.0) == []


def test_nodes_without_a_ring_are_no_help_but_are_mentioned() -> None:
    one = listener()
    assert hear(one, said(ring_uid="", asks=True)).answer
    assert one.addresses(0.0) == []
    assert one.lonely(0.0)
    assert one.remarks(0.0) == ["hears nodes that wait for a ring too (n1)"]


def test_another_ring_is_offered_now_and_then() -> None:
    one = listener(RING)
    assert "nodes of another ring" in hear(one, said(ring_uid=FOREIGN)).warning
    offered = [bool(one.addresses(at)) for at in (0.0, 1.0, STRANGERS_EVERY - 0.1, STRANGERS_EVERY, 6.0)]
    assert offered == [True, False, False, True, False]
    assert one.lonely(0.0)


def test_another_ring_than_the_expected_is_never_offered() -> None:
    one = listener(RING, only_this=True)
    hear(one, said(ring_uid=FOREIGN))
    hear(one, said("n2"), source="10.0.0.2")
    assert one.addresses(0.0) == [Address("10.0.0.2", 7401)]
    assert one.remarks(0.0) == [f"hears nodes of another ring (from 10.0.0.1:7401: {FOREIGN})"]


def test_memory_is_bounded_whoever_talks() -> None:
    one = listener()
    for number in range(MAX_NODES + 10):
        hear(one, said(f"n{number}", port=1 + number))
        hear(one, said(), source=f"s{number}", secret=OTHER)
    assert len(one.addresses(0.0)) == MAX_NODES
    (remark,) = one.remarks(0.0)
    assert f"and {MAX_TROUBLES - 5} more" in remark


@given(st.lists(st.binary(max_size=200)))
def test_garbage_changes_nothing(datagrams: list[bytes]) -> None:
    one = listener()
    for data in datagrams:
        assert one.hear(0.0, NOW, "10.0.0.1", data) == Heard()
    assert one.addresses(0.0) == []
    assert one.remarks(0.0) == []
