"""What may happen to an account: pure functions from a register's value to its next one.

They may run several times, also on their own result, so each recognises itself by the request's `op`. They refuse by
raising CoterieError. Sessions have epochs 1, 2, 3, ...; only a login raises the epoch.
"""

from __future__ import annotations

import hashlib
import hmac

import msgspec

from coterie_protocol.account import (
    OP_BYTES,
    VERSION,
    Account,
    AccountSession,
    PastSession,
    decode_account,
    encode_account,
)
from coterie_protocol.chat import CreateAccount, EndSession, TakeSession
from coterie_protocol.errors import CoterieError, ErrorCode

PAST_SESSIONS = 16
"""Superseded sessions whose tokens are still told that they are superseded, rather than refused as unknown."""


def create(value: bytes | None, request: CreateAccount, at: int) -> bytes:
    """Create the account with its first session, at Unix ms `at`. Raises NAME_TAKEN.

    The creating request again finds its own account and changes nothing, unless a login has come since (SUPERSEDED).
    """
    if value is None:
        session = AccountSession(1, request.token_hash, request.op, at)
        account = Account(
            VERSION, request.name, at, request.op, request.kdf, request.auth_hash, request.keys, request.vault,
            session, (),
        )  # fmt: skip
        return encode_account(account)
    account = decode_account(value)
    if account.create_op != request.op:
        raise CoterieError(f"the name {request.name!r} is taken", code=ErrorCode.NAME_TAKEN)
    if account.session.op != request.op:
        raise superseded(account)
    return value


def take_session(value: bytes | None, request: TakeSession, at: int) -> bytes:
    """Take the next session epoch at Unix ms `at`. Raises NO_SUCH_USER, REFUSED (the password was changed meanwhile).

    The taking request again finds its own session and changes nothing, unless another has come since (SUPERSEDED).
    """
    account = existing(value, request.name)
    if not hmac.compare_digest(account.auth_hash, request.auth_hash):
        raise CoterieError("the password has just been changed", code=ErrorCode.REFUSED)
    session = account.session
    if session.op == request.op:
        if session.ended_at:
            raise CoterieError("this session has ended", code=ErrorCode.REFUSED)
        return encode_account(account)
    if any(past.op == request.op for past in account.past):
        raise superseded(account)
    past = (PastSession(session.epoch, session.token_hash, session.op), *account.past)[:PAST_SESSIONS]
    following = AccountSession(session.epoch + 1, request.token_hash, request.op, at)
    return encode_account(msgspec.structs.replace(account, session=following, past=past))


def end_session(value: bytes | None, request: EndSession, at: int) -> bytes:
    """End the session of an epoch at Unix ms `at`; an older one, or one that has ended, stays as it is.

    Raises NO_SUCH_USER.
    """
    account = existing(value, request.name)
    session = account.session
    if session.epoch != request.epoch or session.ended_at:
        return encode_account(account)
    ended = msgspec.structs.replace(session, token_hash=b"", ended_at=at)
    return encode_account(msgspec.structs.replace(account, session=ended))


def existing(value: bytes | None, name: str) -> Account:
    """Read an account that must be there; raises NO_SUCH_USER."""
    account = decode_account(value) if value is not None else None
    if account is None or account.deleted_at:
        raise no_such_user(name)
    return account


def check_token(account: Account, token: bytes) -> None:
    """Check a resume token. Raises SUPERSEDED for one that a login has taken over, REFUSED for any other."""
    digest = token_hash(token)
    session = account.session
    if not session.ended_at and hmac.compare_digest(session.token_hash, digest):
        return
    if any(past.token_hash and hmac.compare_digest(past.token_hash, digest) for past in account.past):
        raise superseded(account)
    raise CoterieError("this session has ended; log in again", code=ErrorCode.REFUSED)


def token_hash(token: bytes) -> bytes:
    """Return the SHA-256 of a resume token: all that is stored of it."""
    return hashlib.sha256(token).digest()


def resume_token(auth_key: bytes, op: bytes) -> bytes:
    """Derive the resume token of the session that a request takes: HMAC-SHA256 (RFC 2104) under the auth key.

    A client that lost the answer repeats its request anywhere, and gets the same token though no node stores it. `op`
    is stored and random; without the auth key it says nothing of the token.
    """
    return hmac.new(auth_key, b"coterie resume token\0" + op, hashlib.sha256).digest()


def check_op(op: bytes) -> None:
    """Check a client's operation id; raises BAD_REQUEST."""
    if len(op) != OP_BYTES:
        raise CoterieError(f"an operation id has {OP_BYTES} bytes", code=ErrorCode.BAD_REQUEST)


def no_such_user(name: str) -> CoterieError:
    """Return the error for a name that nobody has."""
    return CoterieError(f"nobody is called {name!r}", code=ErrorCode.NO_SUCH_USER)


def ended() -> CoterieError:
    """Return the error for requests under a session that was logged out."""
    return CoterieError("this session has ended; log in again", code=ErrorCode.NOT_LOGGED_IN)


def superseded(account: Account) -> CoterieError:
    """Return the error for a session that the account's newest one has taken over."""
    return superseded_at(account.session.started_at)


def superseded_at(at: int) -> CoterieError:
    """Return the error for a session that was taken over at Unix ms `at`."""
    return CoterieError("a later login has taken this session over", code=ErrorCode.SUPERSEDED, value=at)


def unforeseen() -> CoterieError:
    """Return the error for what failed in a way that nobody foresaw; whoever makes it has logged how."""
    return CoterieError("the node failed; its log says how")
