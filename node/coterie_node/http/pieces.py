"""HTTP read in small pieces: what a request carries is bounded before it is looked at, and said in one line when not.

A body in chunks of one byte costs a hundred times what the same bytes cost in one chunk, and aiohttp takes apart
whatever has come, at once; what a handler did not want it reads all the same, for ten seconds, so that the connection
can go on. Here the connection ends instead. What still comes meanwhile is thrown away unseen, for a moment: to close at
once would lose the answer on its way.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from aiohttp import web
from aiohttp.streams import EMPTY_PAYLOAD

PIECE = 4096
"""Bytes that are looked at in one go."""
SMALL_BODY = 4096
"""Bytes as they travel that a request may carry where no handler wants any."""
SWALLOW_SECONDS = 1.0
SWALLOW_BYTES = 4 * 1024 * 1024
"""For how long, and how much, what nobody wants is taken before the connection is closed."""
PRODUCT = "coterie"
"""What the port says that it is: no version, and not what it is made of."""


class InPieces(web.RequestHandler):
    """A connection of aiohttp's. `body_limit`: bytes of a request's body as they travel, frames of chunks included."""

    __slots__ = ("_body", "_body_limit", "_body_size", "_deaf", "_rest", "_swallowed", "_swallowing")

    def __init__(self, manager: web.Server, *, body_limit: int, **options: Any) -> None:
        super().__init__(manager, loop=asyncio.get_running_loop(), lingering_time=0, **options)
        self._body_limit = body_limit
        self._body: Any = EMPTY_PAYLOAD
        """The body of the last request that has begun."""
        self._body_size = 0
        self._deaf = False
        """What comes is not looked at: the connection ends with the answers that are under way."""
        self._rest = b""
        """What waits until the requests before it are answered."""
        self._swallowed = 0
        self._swallowing: asyncio.Event | None = None

    def data_received(self, data: bytes) -> None:
        """Take bytes; none at all lets aiohttp go on with what it holds."""
        if self._rest:
            data, self._rest = self._rest + data, b""
        at = 0
        while not self._deaf:
            if self._upgraded:
                super().data_received(data[at:] if at else data)
                return
            later = bool(self._messages) and self._body.is_eof()
            piece = b"" if later else data[at : at + PIECE]
            before = self._request_count
            super().data_received(piece)
            self._weigh(self._request_count - before, len(piece))
            at += len(piece)
            if at >= len(data):
                return
            if later:
                self._rest = data[at:]
                self._pause_transport_reading()
                return
        self._swallowed += len(data)
        if self._swallowing is not None and self._swallowed > SWALLOW_BYTES:
            self._swallowing.set()

    def connection_lost(self, exc: BaseException | None) -> None:
        """End."""
        if self._swallowing is not None:
            self._swallowing.set()
        super().connection_lost(exc)

    def _weigh(self, begun: int, size: int) -> None:
        if begun:
            self._body = self._messages[-1][1]
            self._body_size = 0
        elif not self._body.is_eof():
            self._body_size += size
            if self._body_size > self._body_limit:
                self._deaf = True
                self._body.set_exception(
                    web.HTTPRequestEntityTooLarge(
                        self._body_limit,
                        self._body_size,
                        text=f"a request carries at most {self._body_limit} bytes here; the connection ends",
                    )
                )

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Write what is left of an answer; it is the last where more has come than is looked at."""
        more = not request.content.is_eof()
        if self._message_tail and self._payload_parser is None and not self._messages:
            more, self._message_tail = True, b""  # Behind a WebSocket that was refused.
        self._deaf = self._deaf or more
        if not resp.prepared:
            resp = _short(resp)
            resp.headers["Server"] = PRODUCT
            if more:
                resp.force_close()
        result = await super().finish_response(request, resp, start_time)
        if more:
            await self._swallow()
        elif self._rest and not self._messages:
            self.data_received(b"")
            if not self._buffer_paused and not self._reading_paused:
                self._resume_transport_reading()
        return result

    def _resume_transport_reading(self) -> None:
        if not self._rest:
            super()._resume_transport_reading()

    async def _swallow(self) -> None:
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        transport.write_eof()
        self._swallowing, self._rest = asyncio.Event(), b""
        self._resume_transport_reading()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SWALLOW_SECONDS):
                await self._swallowing.wait()


async def say_product(_: web.BaseRequest, response: web.StreamResponse) -> None:
    """Name the product as the server of what a handler writes itself; for `web.Application.on_response_prepare`."""
    response.headers["Server"] = PRODUCT


def _short(resp: web.StreamResponse) -> web.StreamResponse:
    """Return an answer that repeats nothing of what was asked: aiohttp's own to an `Expect` does."""
    if resp.status != web.HTTPExpectationFailed.status_code:
        return resp
    answer = web.Response(status=resp.status, text="no expectation but 100-continue is understood\n")
    answer.force_close()
    return answer
