"""An account: the value of its register (docs/protocol.md, "Accounts").

Fields are only ever added at the end, with a default. A deleted account stays as a value that says so: names are not
issued again.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from .bounds import AuthHash, Count, Few, Name, Opaque, OpOrNone, TokenOrNone, UnixMs, WireVersion
from .client_api import Kdf
from .errors import CoterieError

VERSION = 1
OP_BYTES = 16
TOKEN_BYTES = 32


class AccountSession(msgspec.Struct, array_like=True, frozen=True):
    """The newest session. `token_hash` is the SHA-256 of its resume token; `op` the request that took it."""

    epoch: Count
    token_hash: TokenOrNone
    op: OpOrNone
    started_at: UnixMs
    """Unix ms of the acting owner that took it."""
    ended_at: UnixMs = 0
    """Unix ms of the logout; 0 while the session stands."""


class PastSession(msgspec.Struct, array_like=True, frozen=True):
    """A session that a later login has taken over: its token and its request are recognised, and refused."""

    epoch: Count
    token_hash: TokenOrNone
    op: OpOrNone


class Account(msgspec.Struct, array_like=True, frozen=True):
    """A user's account."""

    version: WireVersion
    name: Name
    created_at: UnixMs
    """Unix ms."""
    create_op: OpOrNone
    kdf: Kdf
    auth_hash: AuthHash
    """bcrypt(base64(auth key)); never sent to clients."""
    keys: Opaque
    """The public key bundle, opaque."""
    vault: Opaque
    """Opaque."""
    session: AccountSession
    past: Annotated[tuple[PastSession, ...], Few]
    """The sessions before, newest first; only the last few."""
    hidden: bool = False
    """The user does not want to be seen online."""
    deleted_at: UnixMs = 0
    """Unix ms; 0 while the account exists."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Account)


def encode_account(account: Account) -> bytes:
    """Write an account as its register's value."""
    return _encoder.encode(account)


def decode_account(value: bytes) -> Account:
    """Read a register's value. Raises CoterieError INTERNAL for one that this release cannot read."""
    try:
        account = _decoder.decode(value)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise CoterieError(f"an account's value cannot be read: {error}") from None
    if account.version != VERSION:
        raise CoterieError(f"an account of version {account.version}; this node reads version {VERSION}: update it")
    return account
