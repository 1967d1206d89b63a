"""Errors that travel: each wire code is declared once, and both sides know it.

CoterieError                     anything that a peer or a server answered, or a caller must be told
├── BadName                      a user name that PRECIS refuses
├── Unavailable                  no quorum, or nobody who could answer, within the time
├── StaleEpoch                   the slot's configuration has moved on; carries the newer one
└── FrameError                   a frame that breaks the protocol: the connection ends
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from .registers import KnownConfig


class ErrorCode(IntEnum):
    """Every error code of the wire. A number is never used again for another meaning."""

    INTERNAL = 1
    """The node failed in a way it did not foresee; its log says how."""
    UNAVAILABLE = 2
    """No quorum, or no node that could answer, within the time; try again."""
    STALE_EPOCH = 3
    """The request was made under an older configuration of the slot; the newer one is attached."""
    UNKNOWN_SLOT = 4
    """The node knows nothing of this slot; ask the ring."""
    DUPLICATE_ID = 5
    """Another message is held under this id; a resender takes it as stored."""
    FORMING = 6
    """The ring never yet had as many nodes as its replication factor; it takes nothing."""
    BAD_FRAME = 7
    """A frame that breaks the protocol."""
    UNSUPPORTED_VERSION = 8
    """No common version of the protocol."""
    TOO_LARGE = 9
    """Larger than the limit that is named."""
    RATE_LIMITED = 10
    """Too many in too short a time; the time to wait is named."""
    MAILBOX_FULL = 11
    """The recipient's mailbox has reached its quota."""
    BAD_NAME = 12
    """A user name that PRECIS refuses."""
    NAME_TAKEN = 13
    """The user name belongs to somebody."""
    NO_SUCH_USER = 14
    """Nobody has this user name."""
    REFUSED = 15
    """Wrong password, or a token that is not valid."""
    SUPERSEDED = 16
    """A later login has taken this session over."""
    NOT_LOGGED_IN = 17
    """The connection has no session yet."""
    WRONG_RING = 18
    """The peer belongs to another ring."""
    WRONG_SETTINGS = 19
    """The peer was started with another replication factor or number of slots."""
    BUSY = 20
    """Somebody else is doing this just now; try again shortly."""
    BAD_REQUEST = 21
    """A request whose contents make no sense; the detail says why."""
    SHUTTING_DOWN = 22
    """The node is going away; reconnect to another."""
    ARCHIVE_FULL = 23
    """The user's own archive has reached its quota: no more copies are kept, mail goes on (Discard)."""
    PREDECESSOR_MISSING = 24
    """The node lacks the message after which this one is to be stored: send that one again, then this one."""


class CoterieError(Exception):
    """An error with a wire code, a sentence for people, and a number whose meaning the code gives.

    `value` is the limit in bytes for TOO_LARGE, the time to wait in milliseconds for RATE_LIMITED and BUSY, the
    Unix time in milliseconds of the takeover for SUPERSEDED, and 0 otherwise.
    """

    code: ClassVar[ErrorCode] = ErrorCode.INTERNAL

    def __init__(self, detail: str, *, code: ErrorCode | None = None, value: int = 0) -> None:
        super().__init__(detail)
        self.detail = detail
        self.value = value
        self.wire_code = self.code if code is None else code


class BadName(CoterieError):
    """A user name that PRECIS refuses."""

    code = ErrorCode.BAD_NAME

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name!r} cannot be a user name: {reason}")
        self.name = name
        self.reason = reason


class Unavailable(CoterieError):
    """No quorum, or nobody who could answer, within the time. What was asked may or may not have happened."""

    code = ErrorCode.UNAVAILABLE


class StaleEpoch(CoterieError):
    """The slot's configuration has moved on. `known` is what the answering node knows, newest first."""

    code = ErrorCode.STALE_EPOCH

    def __init__(self, known: tuple[KnownConfig, ...] = ()) -> None:
        super().__init__("the slot's configuration has moved on")
        self.known = known


class FrameError(CoterieError):
    """A frame that breaks the protocol: undecodable, of an unknown kind, or too large."""

    code = ErrorCode.BAD_FRAME
