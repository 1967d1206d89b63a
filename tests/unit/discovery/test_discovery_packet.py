"""The sealed datagram: what is taken, and that nothing else is."""

from __future__ import annotations

from typing import cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import inspect as mi
from tests.values import outside

from coterie_node.discovery.packet import (
    MAX_BYTES,
    MAX_SKEW,
    Announcement,
    NotOurs,
    OtherSecret,
    OtherVersion,
    WrongTime,
    mac_of,
    seal,
    unseal,
)

SECRET, OTHER = b"s" * 32, b"o" * 32
NOW = 1_700_000_000_000
HEAD = len(b"coterie") + 1 + 32


def said(**changes: object) -> Announcement:
    plain = Announcement(False, NOW, b"n" * 12, "a" * 32, "b" * 32, "c" * 32, "10.0.0.1", 7401, "n1")
    return msgspec.structs.replace(plain, **changes)


def test_what_was_sealed_comes_back() -> None:
    for one in (said(), said(asks=True, ring_uid="", host="", name="Zürich")):
        assert unseal(SECRET, seal(SECRET, one), NOW) == one


def test_the_largest_announcement_fits() -> None:
    texts = {"uid": "u" * 32, "boot": "b" * 32, "ring_uid": "r" * 32, "host": "h" * 253, "name": "€" * 64}
    assert len(seal(SECRET, said(**texts))) < MAX_BYTES


def test_every_field_out_of_bounds_is_nobody_s_of_ours() -> None:
    for place, value in outside(mi.type_info(Announcement), "Announcement"):
        data = seal(SECRET, cast("Announcement", value))
        if len(data) <= MAX_BYTES:
            with pytest.raises(NotOurs):
                unseal(SECRET, data, NOW)
        else:
            assert "too long" in place


@pytest.mark.parametrize("skew", [-MAX_SKEW, 0.0, MAX_SKEW])
def test_a_clock_may_differ_a_little(skew: float) -> None:
    unseal(SECRET, seal(SECRET, said(sent_ms=NOW + int(skew * 1000))), NOW)


@pytest.mark.parametrize("skew", [-MAX_SKEW - 0.1, MAX_SKEW + 0.1, 1e6, -1e9])
def test_what_is_old_or_from_the_future_is_refused(skew: float) -> None:
    with pytest.raises(WrongTime) as error:
        unseal(SECRET, seal(SECRET, said(sent_ms=NOW + int(skew * 1000))), NOW)
    assert error.value.ahead == pytest.approx(skew)


def test_another_secret_is_told_from_garbage() -> None:
    with pytest.raises(OtherSecret):
        unseal(SECRET, seal(OTHER, said()), NOW)
    with pytest.raises(NotOurs):
        unseal(SECRET, b"M-SEARCH * HTTP/1.1\r\n" * 4, NOW)


def test_another_version_is_told() -> None:
    data = bytearray(seal(SECRET, said()))
    data[len(b"coterie")] = 2
    with pytest.raises(OtherVersion):
        unseal(SECRET, bytes(data), NOW)


@pytest.mark.parametrize("wrong", [{"port": 0}, {"port": 65536}, {"port": -1}, {"host": "h" * 256}, {"uid": "u" * 300}])
def test_what_cannot_be_is_refused_although_it_is_sealed(wrong: dict[str, object]) -> None:
    with pytest.raises(NotOurs):
        unseal(SECRET, seal(SECRET, said(**wrong)), NOW)


def test_later_fields_are_ignored() -> None:
    later = msgspec.defstruct("Later", [("fields", list)], array_like=True)
    assert later is not None
    plain = msgspec.msgpack.decode(msgspec.msgpack.encode(said()))
    data = seal(SECRET, [*plain, "new"])  # type: ignore[arg-type]  # a newer node writes one field more
    assert unseal(SECRET, data, NOW) == said()


def test_the_seal_differs_with_the_nonce() -> None:
    assert mac_of(seal(SECRET, said())) != mac_of(seal(SECRET, said(nonce=b"m" * 12)))


@given(st.binary(max_size=2 * MAX_BYTES))
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(NotOurs):
        unseal(SECRET, data, NOW)


@given(st.binary(max_size=MAX_BYTES))
def test_garbage_behind_the_right_beginning_is_refused(data: bytes) -> None:
    with pytest.raises((NotOurs, OtherSecret, OtherVersion)):
        unseal(SECRET, b"coterie\x01" + data, NOW)


@given(st.integers(0, len(seal(SECRET, said())) - 1), st.integers(1, 255))
def test_a_changed_byte_is_noticed(at: int, change: int) -> None:
    data = bytearray(seal(SECRET, said()))
    data[at] ^= change
    with pytest.raises((NotOurs, OtherSecret, OtherVersion)):
        unseal(SECRET, bytes(data), NOW)


@given(st.binary(max_size=MAX_BYTES - HEAD))
def test_garbage_that_is_sealed_is_refused(body: bytes) -> None:
    with pytest.raises((NotOurs, WrongTime)):
        unseal(SECRET, seal(SECRET, msgspec.Raw(body)), NOW)  # type: ignore[arg-type]
