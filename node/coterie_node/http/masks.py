"""Looks at the heads of a client's WebSocket frames, and lets a few of them through in a turn of the loop.

Each head must say that it is masked (RFC 6455, section 5.1). A page can choose the bytes that it sends; unmasked, they
could be what a proxy on the way takes for a request and keeps the answer of for others. aiohttp's reader takes such
frames; it reads on behind this, and finds all else that is wrong.

A frame costs what it costs however little is in it: pings, pongs, empty messages and fragments of one byte are six or
seven bytes each, and some ten thousand of them come in one piece. So frames are counted here, where all kinds of them
pass: so many in a turn of the loop, and then no more for as long as whoever serves the connection says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

LONGEST_HEAD = 10
"""Bytes of a frame's head before its mask."""
NOT_MASKED = "a client's frames must be masked (RFC 6455, section 5.1)"
NOT_WEBSOCKET = "what came is no WebSocket message (RFC 6455), or it is above the limit"


class NotMasked(Exception):
    """A frame's head says that it is not masked."""


class Heads:
    """Finds the heads of frames in a stream that comes in pieces."""

    __slots__ = ("_part", "_skip")

    def __init__(self) -> None:
        self._skip = 0
        """Bytes of the current frame that are still to come."""
        self._part = b""
        """The beginning of a head that has not come whole."""

    def take(self, data: bytes, most: int) -> tuple[int, int]:
        """Look at the next piece, up to where one head more than `most` (1 at least) begins.

        Return how many bytes were looked at, and how many heads were in them. Raises NotMasked.
        """
        if not self._part and self._skip >= len(data):
            self._skip -= len(data)
            return len(data), 0
        at, before, heads = self._skip, len(self._part), 0
        if before:
            data = self._part + data
        size = len(data)
        self._part = b""
        while at < size:
            if heads == most:
                self._skip = 0
                return at - before, heads
            if size - at < 2:
                break
            second = data[at + 1]
            if second < 0x80:
                raise NotMasked
            length = second & 0x7F
            head = 2 if length < 126 else 4 if length == 126 else LONGEST_HEAD
            if size - at < head:
                break
            if head > 2:
                length = int.from_bytes(data[at + 2 : at + head], "big")
            at += head + 4 + length
            heads += 1
        self._skip = max(0, at - size)
        self._part = data[at:] if at < size else b""
        return size - before, heads


class MaskedFrames:
    """A parser for `aiohttp.web.RequestHandler.set_parser`: the WebSocket reader's, behind a look at the heads.

    `broken` is told once, before the reader's own error reaches anybody, why the stream is not read on. `most()` is
    how many frames may pass now (1 at least). `passed` is told how many have, and whether more are there; when it says
    that this was enough for now, what comes is kept until `go_on`.
    """

    def __init__(
        self, reader: Any, broken: Callable[[str], None], most: Callable[[], int], passed: Callable[[int, bool], bool]
    ) -> None:
        self._reader = reader
        self._broken = broken
        self._most = most
        self._passed = passed
        self._heads = Heads()
        self._rest = b""
        self.held = False
        """What comes is kept."""
        self._over = False

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Take bytes; (True, _) ends the reading."""
        if self._over:
            return True, b""
        if self.held:
            self._rest += data
            return False, b""
        return self._feed(data)

    def go_on(self) -> bool:
        """Take what was kept, or some of it; say whether the reading is over."""
        data, self._rest, self.held = self._rest, b"", False
        return self._over or self._feed(data)[0]

    def _feed(self, data: bytes) -> tuple[bool, bytes]:
        try:
            size, heads = self._heads.take(data, self._most())
        except NotMasked:
            self._over = True
            self._broken(NOT_MASKED)
            return True, b""
        self._rest = data[size:]
        self.held = self._passed(heads, bool(self._rest))
        over, rest = self._reader.feed_data(data[:size] if self._rest else data)
        if over:
            self._over = True
            self._broken(NOT_WEBSOCKET)
        return over, rest

    def feed_eof(self) -> None:
        """Take the end."""
        self._rest = b""
        self._reader.feed_eof()
