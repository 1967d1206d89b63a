"""Sessions: made by register and login, kept in a file that only its owner can read, ended by logout."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import errno
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from coterie_protocol.bounds import Count, Name, RingUid, TokenText, UnixMs
from coterie_protocol.errors import CoterieError, ErrorCode

from . import kdf
from .errors import ClientError, NotLoggedIn, SessionTaken, Unavailable, translate
from .private import check_ours, read_regular
from .replacing import Replacement, replace

if TYPE_CHECKING:
    from coterie_protocol.client_api import Kdf

    from .connection import Connection

MAX_FILE_BYTES = 65_536
"""A session takes some 200 bytes; what is larger is something else."""
RESERVED_BYTES = 4096
TAKEN_FILE = "taken.json"
TOKEN_BYTES = 32
LOGIN_PATIENCE = 30.0
"""Seconds: a login hashes with bcrypt on the server and may wait its turn there."""


class Session(msgspec.Struct, frozen=True):
    """A session as session.json holds it. The token lets its holder act as the account: it is a secret."""

    name: Name
    ring_uid: RingUid
    epoch: Count
    token_base64: TokenText

    @property
    def token(self) -> bytes:
        """Return the resume token (32 bytes)."""
        return base64.b64decode(self.token_base64)

    def __repr__(self) -> str:
        return f"Session({self.name!r}, epoch={self.epoch})"


def load_session(path: Path) -> Session:
    """Read the session file; raises NotLoggedIn if there is none, ClientError if it cannot be read or trusted."""
    check_ours(path, "the session file")
    try:
        session = msgspec.json.decode(read_regular(path, MAX_FILE_BYTES), type=Session)
    except FileNotFoundError:
        raise NotLoggedIn("you are not logged in; run: coterie login NAME (or coterie register NAME)") from None
    except OSError as error:
        raise ClientError(f"cannot read {path}: {error.strerror}; run: coterie login NAME") from None
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise ClientError(f"{path} is damaged or empty; run: coterie login NAME") from None
    if not session.name or not session.ring_uid:
        raise ClientError(f"{path} is damaged; run: coterie login NAME")
    return session


def is_newer_here(path: Path, session: Session) -> bool:
    """Say whether the session file holds a later session of the same account: the takeover was made here."""
    try:
        kept = load_session(path)
    except ClientError:
        return False
    return (kept.name, kept.ring_uid) == (session.name, session.ring_uid) and kept.epoch > session.epoch


class Taken(msgspec.Struct, frozen=True):
    """A session that a later login has taken over, at `at` (Unix ms, 0 if nobody said): what a server told last."""

    name: Name
    ring_uid: RingUid
    epoch: Count
    at: UnixMs


def remember_taken(path: Path, session: Session, at: int) -> None:
    """Note beside the session file that the session was taken over; that it fails costs no more than the note."""
    data = msgspec.json.encode(Taken(session.name, session.ring_uid, session.epoch, at))
    with contextlib.suppress(OSError):
        replace(path.with_name(TAKEN_FILE), data)


@contextlib.contextmanager
def noting_takeover(path: Path, session: Session) -> Iterator[None]:
    """Remember beside the session file that the session was taken over, if the block says so.

    The error that leaves the block says whether the login that did it was made here.
    """
    try:
        yield
    except SessionTaken as error:
        if is_newer_here(path, session):
            raise SessionTaken(session.name, error.at, here=True) from None
        remember_taken(path, session, error.at)
        raise


def check_taken(path: Path, session: Session) -> None:
    """Raise SessionTaken if it is known here that the session was taken over; it needs no server."""
    try:
        taken = msgspec.json.decode(read_regular(path.with_name(TAKEN_FILE), MAX_FILE_BYTES), type=Taken)
    except (OSError, msgspec.MsgspecError, UnicodeError, RecursionError):
        return
    if (taken.name, taken.ring_uid, taken.epoch) == (session.name, session.ring_uid, session.epoch):
        raise SessionTaken(session.name, taken.at)


class Reserved:
    """A place for a session file that is on disk already: what fails for want of room or rights fails before a login.

    Use it as a context manager; what was not kept is removed.
    """

    def __init__(self, path: Path) -> None:
        """Write a file as large as a session may be beside the session file; raises ClientError."""
        self._path = path
        self._file: Replacement | None = None
        try:
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            self._file = Replacement(path)
            self._file.write(b" " * RESERVED_BYTES)
        except OSError as error:
            self.close()
            raise ClientError(
                f"cannot write {path}: {error.strerror}; make room and COTERIE_HOME writable, then try again"
            ) from None

    def keep(self, session: Session) -> None:
        """Put the session into the place and the place where the session file is, in one step; raises ClientError."""
        assert self._file is not None
        try:
            self._file.write(msgspec.json.format(msgspec.json.encode(session), indent=2) + b"\n")
            with _alone(self._path):
                self._file.put()
        except OSError as error:
            raise ClientError(
                f"cannot write {self._path}: {error.strerror}; make COTERIE_HOME writable and log in again"
            ) from None

    def close(self) -> None:
        """Give up what was not kept."""
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> Reserved:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def save_session(path: Path, session: Session) -> None:
    """Write the session file with mode 0600, replacing the old one in one step; raises ClientError."""
    with Reserved(path) as place:
        place.keep(session)


def remove_session(path: Path, session: Session | None) -> bool:
    """Remove the session file if it is there; say whether it is gone: a later login's than `session` stays."""
    with _alone(path):
        if session is not None and is_newer_here(path, session):
            return False
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
    return True


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other commands of this home from replacing or removing the session file meanwhile."""
    try:
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:  # what is done to the file fails as well, and says so
        yield
        return
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


async def register(connection: Connection, name: str, password: str, *, parameters: Kdf = kdf.DEFAULT) -> Session:
    """Create an account with its first session, and go on with it on this connection.

    Raises UsageError for a password that is too short, ClientError for a name that is taken, Unavailable.
    """
    from coterie_protocol.client_api import Register

    kdf.check_password(password, new=True)
    ring_uid = ring_uid_of(connection)
    auth = await _auth_key(password, ring_uid, name, parameters)
    request = Register(name, parameters, auth, b"", b"", secrets.token_bytes(16))
    return await _granted(connection, request, ring_uid, name)


async def login(connection: Connection, name: str, password: str, *, minimum: Kdf = kdf.MINIMUM) -> Session:
    """Take an account's next session, ending the one before it, and go on with it on this connection.

    Raises NoSuchUser, Refused (wrong password), Unavailable, and ClientError if the server names hashing parameters
    below `minimum`.
    """
    from coterie_protocol.client_api import Login, LoginParams, LoginParamsReply

    kdf.check_password(password, new=False)
    ring_uid = ring_uid_of(connection)
    try:
        reply = await connection.call(LoginParams(name), name=name)
    except CoterieError as error:
        raise translate(error, name) from None
    assert isinstance(reply, LoginParamsReply)
    kdf.check_parameters(reply.kdf, minimum)
    auth = await _auth_key(password, ring_uid, name, reply.kdf)
    return await _granted(connection, Login(name, auth, secrets.token_bytes(16)), ring_uid, name)


async def logout(connection: Connection) -> None:
    """End this connection's session: its token is worth nothing afterwards."""
    from coterie_protocol.client_api import Logout

    try:
        await connection.call(Logout())
    except CoterieError as error:
        if error.wire_code is not ErrorCode.REFUSED:
            raise translate(error) from None


def ring_uid_of(connection: Connection) -> str:
    """Return the ring of the current server; raises Unavailable if it has just gone."""
    welcome = connection.welcome
    if welcome is None:
        raise Unavailable("the server has just gone away; try again")
    return welcome.ring_uid


async def _auth_key(password: str, ring_uid: str, name: str, parameters: Kdf) -> str:
    root = await asyncio.to_thread(kdf.root_key, password, ring_uid=ring_uid, name=name, kdf=parameters)
    return kdf.auth_key(root)


async def _granted(connection: Connection, request: object, ring_uid: str, name: str) -> Session:
    from coterie_protocol.client_api import SessionGranted

    try:
        reply = await connection.call(request, patience=LOGIN_PATIENCE, name=name)  # type: ignore[arg-type]
    except CoterieError as error:
        raise translate(error, name) from None
    assert isinstance(reply, SessionGranted)
    if reply.name != name or len(reply.token) != TOKEN_BYTES:
        raise ClientError(f"{connection.url} granted something else than a session of {name}; ask another server")
    session = Session(reply.name, ring_uid, reply.epoch, base64.b64encode(reply.token).decode())
    connection.adopt(session)
    return session
