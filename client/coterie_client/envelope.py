r"""What is inside a message's body and an archive copy. The nodes never look into either.

**Body, version 0** (plain): the byte 0x00, then the msgpack array of `Content`:

    [epoch, counter, prev, sent_at, text, to]

    epoch    int    the sender's session epoch
    counter  int    rises from message to message to this recipient within this epoch (`placing`), with gaps
    prev     bytes  the id of the sender's message to this recipient before this one, empty for the first
    sent_at  int    Unix milliseconds of the sender's clock; shown, never ordered by
    text     str    1 to 65,536 bytes of UTF-8
    to       str    the recipient's user name; an own copy learns from it whom it was sent to

A decoder ignores further elements of the array. A body with another version byte was written by a newer client: it is
kept, shown as such and never dropped. So is one that does not decode.

**Archive copy, version 0**: the byte 0x00, then the body as it was received or sent. An empty body says that an own
copy was withdrawn: its message was refused (nobody has the name, the mailbox is full) and was never sent.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from coterie_protocol.bounds import Count, IdOrNone, Name, Text, UnixMs
from coterie_protocol.client_api import MAX_TEXT_BYTES

from .errors import UsageError

BODY_VERSION = 0
ARCHIVE_VERSION = 0
WITHDRAWN = bytes([ARCHIVE_VERSION])
"""The archive copy of a message that was never sent."""


class Content(msgspec.Struct, array_like=True, frozen=True):
    """What a body of version 0 says; the module's docstring names the fields' meaning."""

    epoch: Count
    counter: Count
    prev: IdOrNone
    sent_at: UnixMs
    text: Text
    to: Name


class Problem(StrEnum):
    """Why a body cannot be shown."""

    NEWER = "newer"
    """Written by a newer client."""
    DAMAGED = "damaged"
    """Of a known version, but it does not decode."""

    @property
    def sentence(self) -> str:
        """Say it to a person."""
        if self is Problem.NEWER:
            return "a newer client is needed to read this message"
        return "this message does not decode; it is kept as it came"


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Content)


def seal(content: Content) -> bytes:
    """Write a body of version 0."""
    return bytes([BODY_VERSION]) + _encoder.encode(content)


def open_body(body: bytes) -> Content | Problem:
    """Read a body; what cannot be read comes back as the Problem to show."""
    if not body:
        return Problem.DAMAGED
    if body[0] != BODY_VERSION:
        return Problem.NEWER
    try:
        return _decoder.decode(memoryview(body)[1:])
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        return Problem.DAMAGED


def archive_copy(body: bytes) -> bytes:
    """Write the archive copy of a body."""
    return bytes([ARCHIVE_VERSION]) + body


def open_archive(copy: bytes) -> bytes | Problem:
    """Return the body in an archive copy (empty: withdrawn), or the Problem to show."""
    if not copy:
        return Problem.DAMAGED
    return copy[1:] if copy[0] == ARCHIVE_VERSION else Problem.NEWER


def check_text(data: bytes | str) -> str:
    """Return a message's text, or raise UsageError: it is empty, too large or not UTF-8."""
    try:
        raw = data.encode() if isinstance(data, str) else data
        text = raw.decode()
    except UnicodeError:
        raise UsageError("the message is not UTF-8 text; convert it first, for example with iconv") from None
    if not raw:
        raise UsageError("the message is empty; give a text")
    if len(raw) > MAX_TEXT_BYTES:
        raise UsageError(
            f"the message has {len(raw)} bytes and the limit is {MAX_TEXT_BYTES} bytes; send it in several parts"
        )
    return text
