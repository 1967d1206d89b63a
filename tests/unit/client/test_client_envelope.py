from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coterie_client.envelope import (
    WITHDRAWN,
    Content,
    Problem,
    archive_copy,
    check_text,
    open_archive,
    open_body,
    seal,
)
from coterie_client.errors import ExitCode, UsageError
from coterie_protocol.client_api import MAX_MESSAGE_BODY_BYTES

CONTENTS = st.builds(
    Content,
    st.integers(0, 2**40),
    st.integers(0, 2**40),
    st.binary(max_size=16),
    st.integers(0, 2**45),
    st.text(),
    st.text(max_size=64),
)


@given(CONTENTS)
def test_a_sealed_body_opens_to_the_same_content(content: Content) -> None:
    assert open_body(seal(content)) == content


@given(st.binary())
def test_any_bytes_open_to_content_or_to_a_problem(data: bytes) -> None:
    assert isinstance(open_body(b"\0" + data), Content | Problem)


def test_the_largest_text_fits_a_body() -> None:
    text = check_text("x" * 65_536)
    assert len(archive_copy(seal(Content(2**40, 2**40, b"i" * 16, 2**45, text, "n" * 64)))) <= MAX_MESSAGE_BODY_BYTES


def test_an_unknown_version_says_that_a_newer_client_is_needed() -> None:
    assert open_body(b"\x01whatever") is Problem.NEWER
    assert "newer client" in Problem.NEWER.sentence


def test_a_body_that_does_not_decode_is_damaged() -> None:
    assert open_body(b"") is Problem.DAMAGED
    assert open_body(b"\0\xc1") is Problem.DAMAGED


def test_elements_of_a_later_minor_format_are_ignored() -> None:
    body = b"\0" + msgspec.msgpack.encode([1, 2, b"", 3, "text", "bob", {"more": True}])
    assert open_body(body) == Content(1, 2, b"", 3, "text", "bob")


def test_an_archive_copy_gives_the_body_back() -> None:
    assert open_archive(archive_copy(b"body")) == b"body"
    assert open_archive(WITHDRAWN) == b""
    assert open_archive(b"\x07body") is Problem.NEWER
    assert open_archive(b"") is Problem.DAMAGED


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "empty"), ("", "empty"), (b"\xff", "UTF-8"), ("\udcff", "UTF-8"), ("é" * 32_769, "65536 bytes")],
)
def test_a_text_that_cannot_be_sent_says_why(data: bytes | str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as caught:
        check_text(data)
    assert caught.value.exit_code is ExitCode.USAGE
