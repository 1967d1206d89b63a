"""What can go wrong for a person, each with the exit code that scripts see.

ClientError (1)          anything that this program tells its user about
├── UsageError (2)       what was asked for makes no sense as it stands: a bad name, an empty or too large message
│   └── BadUserName      what is no user name
├── NotLoggedIn (3)      there is no session, or the server no longer knows it
├── Refused (3)          a wrong password
├── NoSuchUser (4)       nobody has this name
├── Unavailable (5)      no server, or no quorum, within the time
│   └── ConnectionLost   the connection broke before the answer came; what was asked may have happened
├── SessionTaken (7)     a later login has taken this session over
├── Kept (8)             a message is not stored yet; it is in the outbox, and sent later by itself
├── NotDelivered (9)     a message is stored, but its recipient has not received it
└── AlreadyReceiving (1) another process of this account receives already
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import TYPE_CHECKING, ClassVar

from coterie_protocol.errors import CoterieError, ErrorCode
from coterie_protocol.words import counted

from .times import local

if TYPE_CHECKING:
    from pathlib import Path


class ExitCode(IntEnum):
    """What the `coterie` command exits with."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3
    NO_SUCH_USER = 4
    UNAVAILABLE = 5
    SESSION_TAKEN = 7
    KEPT = 8
    NOT_DELIVERED = 9
    INTERRUPTED = 130


_TRY_AGAIN = re.compile(r"(;|,| and)? try again\b[^;]*$")


class ClientError(Exception):
    """A failure with one sentence for people: what, why, what to do next."""

    exit_code: ClassVar[ExitCode] = ExitCode.FAILED

    def preface(self, sentence: str) -> None:
        """Put the consequence that the caller knows of before the sentence."""
        self.args = (f"{sentence}: {self}",)

    @property
    def reason(self) -> str:
        """Say the failure without the advice to try again, for what is tried again by itself."""
        return _TRY_AGAIN.sub("", str(self))


class UsageError(ClientError):
    """What was asked for makes no sense as it stands."""

    exit_code = ExitCode.USAGE


class IdTaken(UsageError):
    """The id of a message was given to another one before."""

    def __init__(self, message_id: str, to: str) -> None:
        super().__init__(f"{message_id} is the id of another message, to {to}; give every message its own")


class BadUserName(UsageError):
    """Nobody can have this for a user name."""


class NotLoggedIn(ClientError):
    """There is no session, or the server no longer knows it."""

    exit_code = ExitCode.REFUSED


class Refused(ClientError):
    """The server refused the password."""

    exit_code = ExitCode.REFUSED


class NoSuchUser(ClientError):
    """Nobody has this user name."""

    exit_code = ExitCode.NO_SUCH_USER


class Unavailable(ClientError):
    """No server could be used, or no quorum answered, within the time."""

    exit_code = ExitCode.UNAVAILABLE


class ConnectionLost(Unavailable):
    """The connection broke before the answer came. What was asked may or may not have happened."""

    def __init__(self, url: str) -> None:
        super().__init__(f"the connection to {url} was lost before the answer came; try again")
        self.url = url


class SessionTaken(ClientError):
    """A later login has taken this session over, at `at` (Unix ms; 0 when the server did not say)."""

    exit_code = ExitCode.SESSION_TAKEN

    def __init__(self, name: str, at: int, *, here: bool = False) -> None:
        """`here`: the login was made in this COTERIE_HOME."""
        when = local(at, " at %Y-%m-%d %H:%M:%S") if at else ""
        if here:
            what, remedy = "ended by a later login on this device", "run the command again: it goes on with the new one"
        else:
            what = "taken over by a login on another device"
            remedy = f"to go on here, run: coterie login {name or 'NAME'}"
        super().__init__(f"this session was {what}{when}; {remedy}")
        self.at = at


def kept(earlier: int) -> str:
    """Say that a message stays in the outbox, with so many earlier ones."""
    beside, them = (f" with {counted(earlier, 'earlier one')}", "them") if earlier else ("", "it")
    return f"the message is not sent yet but kept here{beside}, and the next command that connects sends {them}"


class Kept(ClientError):
    """A message is not stored yet because of `error`, nor are `earlier` ones.

    They are in the outbox and will be sent without anybody's doing.
    """

    exit_code = ExitCode.KEPT

    def __init__(self, error: ClientError, earlier: int = 0) -> None:
        super().__init__(f"{kept(earlier)}: {error.reason}")


class NotDelivered(ClientError):
    """A message is stored, but its recipient has not received it in time, or never will."""

    exit_code = ExitCode.NOT_DELIVERED


class AlreadyReceiving(ClientError):
    """Another process of this account holds the receiver's lock; `pid` is 0 when it could not be read."""

    def __init__(self, pid: int, path: Path) -> None:
        who = f"process {pid}" if pid else "another process"
        super().__init__(
            f"{who} already receives this account's messages (lock {path}); "
            "stop it, or read what it has saved with: coterie history NAME"
        )
        self.pid = pid


RETRIABLE = frozenset(
    {
        ErrorCode.UNAVAILABLE,
        ErrorCode.BUSY,
        ErrorCode.RATE_LIMITED,
        ErrorCode.SHUTTING_DOWN,
        ErrorCode.FORMING,
        ErrorCode.STALE_EPOCH,
    }
)
"""Codes after which the same request may succeed a little later, at this server or at another."""


NO_MAJORITY = "no majority"
"""How a node begins when too few of those that hold a name can be reached."""


def _remedy(detail: str) -> str:
    """Say what to do when the ring cannot do something just now: without a majority, time alone mends nothing."""
    if detail.startswith(NO_MAJORITY):
        return "start the nodes that are down (coterie ring shows them) and try again"
    return "try again shortly"


def translate(error: CoterieError, name: str = "") -> ClientError:
    """Say a server's error to a person. `name` is the account's or, for a message, the recipient's."""
    code, detail = error.wire_code, error.detail.rstrip(".")
    shown = name or "NAME"
    match code:
        case ErrorCode.NO_SUCH_USER:
            return NoSuchUser(f"nobody is called {shown!r} in this ring; check the spelling of the name")
        case ErrorCode.SUPERSEDED:
            return SessionTaken(name, error.value)
        case ErrorCode.REFUSED:
            return Refused(f"the server refused {shown!r}: {detail}; check the name and the password")
        case ErrorCode.NOT_LOGGED_IN:
            return NotLoggedIn("the server does not know this session; run: coterie login NAME")
        case ErrorCode.NAME_TAKEN:
            return ClientError(
                f"the name {shown!r} is taken; choose another, or if it is yours run: coterie login {shown}"
            )
        case ErrorCode.BAD_NAME:
            return UsageError(f"{detail}; choose another name")
        case ErrorCode.TOO_LARGE:
            # The number is bytes, items or names: the server's own sentence says which.
            return UsageError(f"this is too much for the server at once: {detail}; send less at once")
        case ErrorCode.MAILBOX_FULL:
            return ClientError(f"{shown}'s mailbox is full, so the message was not sent; try again later")
        case ErrorCode.ARCHIVE_FULL:
            return ClientError(
                "your archive on the ring is full: messages still come and go, and are saved on this device, but new "
                "ones are not kept for your other devices; ask who runs the ring for more room (--archive-bytes)"
            )
        case ErrorCode.FORMING:
            return Unavailable(
                "the ring is still forming: it takes nothing before it has as many nodes as its replication factor; "
                "start more nodes (coterie ring shows them) and try again"
            )
        case ErrorCode.RATE_LIMITED:
            wait = f"{max(1, round(error.value / 1000))} s" if error.value else "a moment"
            return Unavailable(f"the server limits how often this may be done; try again in {wait}")
        case ErrorCode.UNAVAILABLE | ErrorCode.BUSY | ErrorCode.SHUTTING_DOWN | ErrorCode.STALE_EPOCH:
            reason = _TRY_AGAIN.sub("", detail)
            return Unavailable(f"the ring cannot do this just now: {reason}; {_remedy(detail)}")
        case ErrorCode.UNSUPPORTED_VERSION:
            return Unavailable(f"client and server share no protocol version: {detail}; update the older of the two")
        case _:
            return ClientError(f"the server failed ({code.name}): {detail}; see the node's log")
