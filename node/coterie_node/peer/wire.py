"""A connection: the two ends of aiohttp's WebSockets, which differ in type only, with a way to drop one."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from aiohttp import ClientWebSocketResponse, WebSocketError, WSCloseCode, WSMsgType
from aiohttp.http import WebSocketWriter
from aiohttp.web import WebSocketResponse

from coterie_protocol.errors import FrameError

from ..http.listening import plain


class WireClosed(Exception):
    """The connection has ended, in good order or not. The text says how, for the log."""


class DiallingSocket(ClientWebSocketResponse):
    """aiohttp's client end, which shows its transport and can be let go of.

    When a connection is lost, aiohttp marks the socket closed but leaves its connection in the pool's books for good.
    """

    def __init__(self, reader: Any, writer: WebSocketWriter, *args: Any, **kwargs: Any) -> None:
        super().__init__(reader, writer, *args, **kwargs)
        self.transport: asyncio.Transport = writer.transport

    def let_go(self) -> None:
        """Give the connection back to the pool, which closes it."""
        self._response.close()


class Wire:
    """One WebSocket between two nodes."""

    def __init__(self, socket: ClientWebSocketResponse | WebSocketResponse, transport: asyncio.Transport) -> None:
        self._broken = ""
        self._socket = socket
        self._transport = transport
        self.send = socket.send_bytes
        """Write one message; waits while the peer takes nothing. Raises ConnectionError."""
        self.local = _address(transport, "sockname")
        """This machine's address at this end; empty when the connection has none, or is gone already."""
        self.remote = _address(transport, "peername")
        """The address at the other end; empty likewise."""

    async def receive(self) -> bytes:
        """Return the next message. Raises WireClosed, or FrameError for what is no binary message of a legal size."""
        message = await self._socket.receive()
        if self._broken:
            raise FrameError(self._broken)
        if message.type is WSMsgType.BINARY:
            data: bytes = message.data
            return data
        if message.type is WSMsgType.TEXT:
            raise FrameError("a text message")
        if message.type is WSMsgType.ERROR and isinstance(message.data, WebSocketError):
            raise FrameError(str(message.data))
        goodbye = message.extra if message.type is WSMsgType.CLOSE else None
        raise WireClosed(goodbye or "the connection was closed")

    def broke(self, why: str) -> None:
        """End the connection: what came on it is no WebSocket's, whatever it would say."""
        self._broken = why
        self._transport.abort()

    async def close(self, timeout: float, code: int = WSCloseCode.OK, reason: str = "") -> None:
        """Say goodbye and close; after the timeout (seconds), drop the connection."""
        try:
            with contextlib.suppress(TimeoutError, ConnectionError):
                async with asyncio.timeout(timeout):
                    await self._socket.close(code=code, message=reason.encode()[:120])
        finally:
            self.drop()

    def drop(self) -> None:
        """End the connection now, whatever is still to be written: a frozen peer would never take it."""
        self._transport.abort()
        if isinstance(self._socket, DiallingSocket):
            self._socket.let_go()


def _address(transport: asyncio.Transport, which: str) -> str:
    found = transport.get_extra_info(which)
    return plain(str(found[0])) if isinstance(found, tuple) and found else ""
