"""Accounts as pure functions: every operation may run twice, on its own result or on another's."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from coterie_node.chat.accounts import (
    PAST_SESSIONS,
    check_token,
    create,
    end_session,
    existing,
    resume_token,
    take_session,
    token_hash,
)
from coterie_protocol.account import Account, decode_account, encode_account
from coterie_protocol.chat import CreateAccount, EndSession, TakeSession
from coterie_protocol.client_api import Kdf
from coterie_protocol.errors import CoterieError, ErrorCode

AUTH = b"hashed"


def token(number: int) -> bytes:
    return b"%032d" % number


def creation(op: int = 1) -> CreateAccount:
    return CreateAccount("ann", Kdf(8, 1, 1), AUTH, b"keys", b"vault", b"%016d" % op, token_hash(token(op)))


def taking(op: int, auth: bytes = AUTH) -> TakeSession:
    return TakeSession("ann", auth, b"%016d" % op, token_hash(token(op)))


def after(*steps: Callable[[bytes | None], bytes | None]) -> bytes | None:
    value: bytes | None = None
    for step in steps:
        value = step(value)
    return value


def make(value: bytes | None) -> bytes | None:
    return create(value, creation(), 1000)


def take(op: int, at: int = 2000) -> Callable[[bytes | None], bytes | None]:
    return lambda value: take_session(value, taking(op), at)


def end(epoch: int) -> Callable[[bytes | None], bytes | None]:
    return lambda value: end_session(value, EndSession("ann", epoch), 3000)


def delete(value: bytes | None) -> bytes | None:
    return encode_account(msgspec.structs.replace(existing(value, "ann"), deleted_at=4000))


def test_a_new_account_has_its_first_session() -> None:
    value = after(make)
    assert value is not None
    account = decode_account(value)
    assert (account.name, account.created_at, account.keys, account.vault) == ("ann", 1000, b"keys", b"vault")
    assert (account.session.epoch, account.session.started_at, account.session.ended_at) == (1, 1000, 0)
    check_token(account, token(1))


@pytest.mark.parametrize(
    ("steps", "again"),
    [
        ((make,), make),
        ((make, take(2)), take(2, 9999)),
        ((make, take(2), take(3)), take(3, 9999)),
        ((make, take(2), end(2)), end(2)),
        ((make, take(2)), end(1)),
        ((make, end(1)), end(1)),
    ],
)
def test_repeating_the_last_operation_changes_nothing(
    steps: tuple[Callable[[bytes | None], bytes | None], ...], again: Callable[[bytes | None], bytes | None]
) -> None:
    value = after(*steps)
    assert again(value) == value


@pytest.mark.parametrize(
    ("steps", "step", "code"),
    [
        ((make,), lambda value: create(value, creation(op=9), 1), ErrorCode.NAME_TAKEN),
        ((make, delete), lambda value: create(value, creation(op=9), 1), ErrorCode.NAME_TAKEN),
        ((make, take(2)), make, ErrorCode.SUPERSEDED),
        ((make, take(2), take(3)), take(2), ErrorCode.SUPERSEDED),
        ((make, take(2)), take(1), ErrorCode.SUPERSEDED),
        ((make, take(2), end(2)), take(2), ErrorCode.REFUSED),
        ((), take(2), ErrorCode.NO_SUCH_USER),
        ((make, delete), take(2), ErrorCode.NO_SUCH_USER),
        ((), end(1), ErrorCode.NO_SUCH_USER),
        ((make,), lambda value: take_session(value, taking(2, b"another password"), 1), ErrorCode.REFUSED),
    ],
)
def test_what_is_refused(
    steps: tuple[Callable[[bytes | None], bytes | None], ...],
    step: Callable[[bytes | None], bytes | None],
    code: ErrorCode,
) -> None:
    value = after(*steps)
    with pytest.raises(CoterieError) as caught:
        step(value)
    assert caught.value.wire_code is code


def check(value: bytes | None, one: bytes) -> ErrorCode | None:
    try:
        check_token(existing(value, "ann"), one)
    except CoterieError as error:
        return error.wire_code
    return None


def test_a_token_tells_a_session_that_was_taken_over_from_one_that_never_was() -> None:
    value = after(make, take(2))
    assert check(value, token(2)) is None
    assert check(value, token(1)) is ErrorCode.SUPERSEDED
    assert check(value, token(3)) is ErrorCode.REFUSED
    assert check(value, b"") is ErrorCode.REFUSED
    ended = after(make, take(2), end(2))
    assert check(ended, token(2)) is ErrorCode.REFUSED
    assert check(ended, token(1)) is ErrorCode.SUPERSEDED
    assert check(after(make, end(1), take(2)), token(1)) is ErrorCode.REFUSED


def test_superseded_says_when() -> None:
    value = after(make, take(2, at=77))
    with pytest.raises(CoterieError) as caught:
        check_token(existing(value, "ann"), token(1))
    assert caught.value.value == 77


def test_an_account_does_not_grow_with_its_logins() -> None:
    value = after(make, *(take(op) for op in range(2, 100)))
    account = existing(value, "ann")
    assert account.session.epoch == 99
    assert len(account.past) == PAST_SESSIONS
    assert [past.epoch for past in account.past] == list(range(98, 98 - PAST_SESSIONS, -1))


def test_a_token_is_that_of_its_auth_key_and_request() -> None:
    assert resume_token(b"k" * 32, b"o" * 16) == resume_token(b"k" * 32, b"o" * 16)
    assert len({resume_token(key * 32, op * 16) for key in (b"k", b"l") for op in (b"o", b"p")}) == 4
    assert len(resume_token(b"k" * 32, b"o" * 16)) == 32


def test_a_value_of_a_later_release_is_not_misread() -> None:
    account = existing(after(make), "ann")
    later = msgspec.msgpack.encode([2, *msgspec.msgpack.decode(encode_account(account))[1:]])
    with pytest.raises(CoterieError, match="version 2"):
        decode_account(later)
    longer = msgspec.msgpack.encode([*msgspec.msgpack.decode(encode_account(account)), "a field of tomorrow"])
    assert decode_account(longer) == account
    with pytest.raises(CoterieError, match="cannot be read"):
        decode_account(b"garbage")
    assert isinstance(account, Account)
