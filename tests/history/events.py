"""What was asked of a ring and what came of it: one history, whether it was simulated or of real processes.

An operation begins, and ends in one of three ways: `done` (with a result), `refused` (it certainly had no effect) or
`unknown` (it may have happened, and may happen yet: a time-out, a lost connection, a crash). What never ends is
unknown. Times are seconds on one clock that all actors share; only their order matters. A history is kept as JSON
lines, so that one that a checker has rejected can be looked at, replayed and shrunk.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

import msgspec

UNSEEN = -1
"""The session epoch of a READ that could not see it."""


class Kind(StrEnum):
    """What is asked. `key` is the account's name, for `SEND` and `SHOWN` the recipient's."""

    REGISTER = "register"
    """Make the account; `value` is a token of the one who asks. Done: the name is theirs. Refused: it is taken.

    The token names one request with all its repeats: who asks anew, under a new operation id, takes another token.
    Refused for another reason than `name taken` is not REFUSED but left out, or unknown.
    """
    LOGIN = "login"
    """Take the session over. Done: `result` is the new session epoch.

    `Superseded` by a later login says that it may well have happened: unknown, not refused.
    """
    READ = "read"
    """Read the account. Done: `result` is [token of who registered it, newest session epoch], or None: no such user.

    The epoch is UNSEEN where the one who asks is not shown it.
    """
    SEND = "send"
    """Send a message; `actor` is the sender, `value` [message id, number]. Done: it was acknowledged as stored.

    Numbers rise by one for each (sender, recipient) in the order in which the sender's application was given them.
    """
    SHOWN = "shown"
    """The recipient's application showed a message; `actor` is the recipient, `value` [sender, message id, number].

    It begins and ends at once.
    """
    DRAINED = "drained"
    """The recipient's application has shown all that waits, as its node says; `key` and `actor` are the recipient.

    It begins and ends at once. Whatever was acknowledged before must have been shown before.
    """


class End(StrEnum):
    """How an operation ended."""

    DONE = "done"
    REFUSED = "refused"
    UNKNOWN = "unknown"


Value = str | int | list[str | int] | None


class Operation(msgspec.Struct):
    """One operation of one actor."""

    number: int
    actor: str
    kind: Kind
    key: str
    value: Value
    began: float
    ended: float | None = None
    """None: unknown for ever."""
    end: End = End.UNKNOWN
    result: Value = None


class History:
    """All operations of a run, in the order in which they began."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []

    def begin(self, at: float, actor: str, kind: Kind, key: str, value: Value = None) -> Operation:
        """Note that an operation begins; its end is noted on what is returned, by `done`, `refused` or `unknown`."""
        operation = Operation(len(self.operations), actor, kind, key, value, at)
        self.operations.append(operation)
        return operation

    def shown(self, at: float, owner: str, sender: str, message: str, number: int) -> None:
        """Note that a recipient's application showed a message."""
        self.done(self.begin(at, owner, Kind.SHOWN, owner, [sender, message, number]), at)

    def drained(self, at: float, owner: str) -> None:
        """Note that a recipient's application has shown all that waits."""
        self.done(self.begin(at, owner, Kind.DRAINED, owner), at)

    def done(self, operation: Operation, at: float, result: Value = None) -> None:
        """Note that it was acknowledged."""
        operation.ended, operation.end, operation.result = at, End.DONE, result

    def refused(self, operation: Operation, at: float) -> None:
        """Note that it certainly had, and will have, no effect."""
        operation.ended, operation.end = at, End.REFUSED

    def unknown(self, operation: Operation) -> None:
        """Note that nobody can tell: it may happen at any time from its beginning on."""
        operation.ended, operation.end = None, End.UNKNOWN

    def of(self, *kinds: Kind) -> Iterator[Operation]:
        """Return the operations of some kinds."""
        return (operation for operation in self.operations if operation.kind in kinds)

    def save(self, path: Path) -> None:
        """Write it, one JSON object a line."""
        path.write_bytes(msgspec.json.Encoder().encode_lines(self.operations))

    @classmethod
    def load(cls, path: Path) -> History:
        """Read what `save` wrote."""
        history = cls()
        history.operations = msgspec.json.Decoder(Operation).decode_lines(path.read_bytes())
        return history
