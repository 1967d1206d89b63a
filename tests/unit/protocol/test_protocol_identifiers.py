"""Identifiers, slots and names."""

import hashlib
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coterie_protocol.errors import BadName
from coterie_protocol.identifiers import (
    RING_BITS,
    RING_SIZE,
    key_of,
    message_id,
    message_id_of,
    message_id_text,
    position_of,
    slot_bits,
    slot_of,
    slot_of_name,
    uid_of,
    user_name,
)


def test_a_key_is_the_first_160_bits_of_sha_256() -> None:
    assert key_of("alice").to_bytes(20, "big") == hashlib.sha256(b"alice").digest()[:20]


@given(st.integers(0, RING_SIZE - 1), st.integers(0, 12))
def test_a_slot_holds_the_identifiers_from_its_position_on(key: int, bits: int) -> None:
    slots = 1 << bits
    slot = slot_of(key, slots)  # type: ignore[arg-type]
    first = position_of(slot, slots)
    assert 0 <= slot < slots
    assert first <= key < first + (1 << (RING_BITS - bits))


@pytest.mark.parametrize("slots", [0, -1, 3, 1000, 1 << 21])
def test_the_number_of_slots_is_a_power_of_two(slots: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        slot_bits(slots)


def test_names_are_normalised_by_precis() -> None:
    assert user_name("ALICE") == "alice"
    assert user_name("Ａlice") == "alice"
    assert user_name("İpek") == unicodedata.normalize("NFC", "i̇pek")
    assert slot_of_name(user_name("Alice"), 1024) == slot_of_name("alice", 1024)


@pytest.mark.parametrize("text", ["", " ", "two words", "a\u200bb", "\u265a", "a" * 65, "ابc1", "a\n", "\ud800"])
def test_precis_refuses_with_a_reason(text: str) -> None:
    with pytest.raises(BadName) as caught:
        user_name(text)
    assert "cannot be a user name" in caught.value.detail
    assert caught.value.reason


def test_message_ids_are_uuids_version_7_in_the_order_of_time() -> None:
    early = message_id(1_700_000_000_000, bytes(10))
    late = message_id(1_700_000_000_001, b"\xff" * 10)
    text = message_id_text(late)
    assert early < late
    assert text[14] == "7"
    assert text[19] in "89ab"
    assert message_id_of(text) == late


@pytest.mark.parametrize("text", ["", "zz", "00", "0190-"])
def test_what_is_no_message_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  (bytes.fromhex words its own)
        message_id_of(text)


def test_a_uid_is_32_hexadecimal_digits() -> None:
    assert uid_of(bytes(range(16))) == "000102030405060708090a0b0c0d0e0f"
    with pytest.raises(ValueError, match="16 bytes"):
        uid_of(b"short")
