"""Looks at the heads of a client's WebSocket frames: each must say that it is masked (RFC 6455, section 5.1).

A page can choose the bytes that it sends. Unmasked, they could be what a proxy on the way takes for a request and keeps
the answer of for others. aiohttp's reader takes such frames; it reads on behind this, and finds all else that is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

LONGEST_HEAD = 10
"""Bytes of a frame's head before its mask."""
NOT_MASKED = "a client's frames must be masked (RFC 6455, section 5.1)"
NOT_WEBSOCKET = "what came is no WebSocket message (RFC 6455), or it is above the limit"


class Heads:
    """Finds the heads of frames in a stream that comes in pieces."""

    __slots__ = ("_part", "_skip")

    def __init__(self) -> None:
        self._skip = 0
        """Bytes of the current frame that are still to come."""
        self._part = b""
        """The beginning of a head that has not come whole."""

    def masked(self, data: bytes) -> bool:
        """Take the next piece; say whether all heads in it are masked."""
        if not self._part and self._skip >= len(data):
            self._skip -= len(data)
            return True
        at = self._skip
        if self._part:
            data = self._part + data
        size = len(data)
        while size - at >= 2:
            second = data[at + 1]
            if second < 0x80:
                return False
            length = second & 0x7F
            head = 2 if length < 126 else 4 if length == 126 else LONGEST_HEAD
            if size - at < head:
                break
            if head > 2:
                length = int.from_bytes(data[at + 2 : at + head], "big")
            at += head + 4 + length
        self._skip = max(0, at - size)
        self._part = data[at:] if at < size else b""
        return True


class MaskedOnly:
    """A parser for `aiohttp.web.RequestHandler.set_parser`: the WebSocket reader's, behind a look at the masks.

    `broken` is told once, before the reader's own error reaches anybody, why the stream is not read on.
    """

    def __init__(self, reader: Any, broken: Callable[[str], None]) -> None:
        self._reader = reader
        self._broken = broken
        self._heads = Heads()
        self._over = False

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Take bytes; (True, _) ends the reading."""
        if self._over:
            return True, b""
        if not self._heads.masked(data):
            self._over = True
            self._broken(NOT_MASKED)
            return True, b""
        over, rest = self._reader.feed_data(data)
        if over:
            self._over = True
            self._broken(NOT_WEBSOCKET)
        return over, rest

    def feed_eof(self) -> None:
        """Take the end."""
        self._reader.feed_eof()
