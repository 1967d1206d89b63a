"""One WebSocket to one server: numbered requests out, replies and events in, packed both ways.

Everything that is posted in one turn of the event loop leaves in one WebSocket message. A link is used once: when it
breaks, what was under way fails with ConnectionLost, and `connection.Connection` opens another.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import aiohttp

from coterie_protocol.client_api import (
    CLIENT_PATH,
    MAX_CLIENT_FRAME_BYTES,
    PROTOCOL_HIGH,
    PROTOCOL_LOW,
    Archive,
    ClientFrame,
    Closing,
    Error,
    Event,
    Hello,
    Keep,
    Reply,
    Request,
    Send,
    Welcome,
)
from coterie_protocol.errors import CoterieError, FrameError
from coterie_protocol.frames import decode_server, encode, exception_of

from . import __version__
from .errors import ConnectionLost

if TYPE_CHECKING:
    import ssl

PROGRAM = f"coterie/{__version__}"
OPEN_TIMEOUT = 3.0
"""Seconds for a connection and the server's Welcome; a frozen machine answers neither."""
HEARTBEAT = 4.0
"""Seconds between pings; a server that stays silent for half of that again is taken for gone."""
PACKED_BYTES = MAX_CLIENT_FRAME_BYTES // 2
"""About how much is packed into one WebSocket message; a single request is always smaller than the rest."""
MAX_INCOMING_BYTES = 16 * 1024 * 1024


class ServerProblem(Exception):
    """Why one server could not be used. `lasting` says that trying again at once is pointless."""

    def __init__(self, url: str, reason: str, *, lasting: bool, remedy: str = "") -> None:
        super().__init__(f"{url}: {reason}")
        self.url = url
        self.reason = reason
        self.lasting = lasting
        self.remedy = remedy


class Link:
    """An open WebSocket that has exchanged Hello and Welcome."""

    def __init__(self, url: str, socket: aiohttp.ClientWebSocketResponse, on_event: Callable[[Event], None]) -> None:
        """Use `Link.open`."""
        self.url = url
        self.welcome: Welcome
        self._socket = socket
        self._on_event = on_event
        self._numbers = itertools.count(1)
        self._replies: dict[int, asyncio.Future[Reply]] = {}
        self._outgoing: list[ClientFrame] = []
        self._wake = asyncio.Event()
        self._over = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._write())]

    @classmethod
    async def open(
        cls,
        http: aiohttp.ClientSession,
        url: str,
        on_event: Callable[[Event], None],
        tls: ssl.SSLContext | None = None,
    ) -> Link:
        """Connect and exchange Hello and Welcome; raises ServerProblem."""
        link: Link | None = None
        try:
            async with asyncio.timeout(OPEN_TIMEOUT):
                socket = await http.ws_connect(
                    url + CLIENT_PATH,
                    heartbeat=HEARTBEAT,
                    max_msg_size=MAX_INCOMING_BYTES,
                    ssl=tls if tls is not None else True,
                    timeout=aiohttp.ClientWSTimeout(ws_close=0.5),
                )
                link = cls(url, socket, on_event)
                reply = await link.post([Hello(PROTOCOL_LOW, PROTOCOL_HIGH, PROGRAM)])[0]
            if not isinstance(reply, Welcome):
                raise FrameError("no Welcome")
        except BaseException as error:
            if link is not None:
                await link.close()
            if problem := _problem(url, error):
                raise problem from None
            raise
        link.welcome = reply
        return link

    @property
    def closed(self) -> bool:
        """Say whether the link has ended: what is posted on it now fails at once."""
        return self._closed

    def post(self, requests: Sequence[Request]) -> list[asyncio.Future[Reply]]:
        """Queue requests in this order; each future gets its reply, a CoterieError or ConnectionLost."""
        futures: list[asyncio.Future[Reply]] = []
        for request in requests:
            future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
            future.add_done_callback(_retrieved)
            futures.append(future)
            if self._closed:
                future.set_exception(ConnectionLost(self.url))
                continue
            number = next(self._numbers)
            self._replies[number] = future
            self._outgoing.append(ClientFrame(number, request))
            self._idle.clear()
        self._wake.set()
        return futures

    async def wait_over(self) -> None:
        """Wait until the link has broken or the server has said that it is going away."""
        await self._over.wait()

    async def settle(self, timeout: float) -> None:
        """Wait until everything posted is answered, for at most `timeout` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._idle.wait()

    def end(self) -> None:
        """Use the link no more: what is unanswered fails with ConnectionLost."""
        self._closed = True
        self._over.set()
        self._idle.set()
        replies, self._replies = self._replies, {}
        for future in replies.values():
            if not future.done():
                future.set_exception(ConnectionLost(self.url))

    async def close(self) -> None:
        """End the link and close its socket."""
        self.end()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(Exception):
            await self._socket.close()

    async def _read(self) -> None:
        try:
            async for message in self._socket:
                if message.type is not aiohttp.WSMsgType.BINARY:
                    break
                for frame in decode_server(message.data):
                    self._take(frame.id, frame.body)
        except (FrameError, aiohttp.ClientError, OSError):
            pass  # a server that breaks the protocol is left like one that breaks the connection
        finally:
            self.end()

    def _take(self, number: int, body: Reply | Event) -> None:
        if number == 0:
            if isinstance(body, Closing):
                self._over.set()
            else:
                self._on_event(body)  # type: ignore[arg-type]
            return
        future = self._replies.pop(number, None)
        if not self._replies:
            self._idle.set()
        if future is None or future.done():
            return
        if isinstance(body, Error):
            future.set_exception(exception_of(body))
        else:
            future.set_result(body)  # type: ignore[arg-type]

    async def _write(self) -> None:
        with contextlib.suppress(aiohttp.ClientError, OSError):
            while True:
                await self._wake.wait()
                self._wake.clear()
                frames, self._outgoing = self._outgoing, []
                for batch in _batches(frames):
                    await self._socket.send_bytes(encode(batch))


def _batches(frames: list[ClientFrame]) -> list[list[ClientFrame]]:
    batches: list[list[ClientFrame]] = [[]]
    room = PACKED_BYTES
    for frame in frames:
        size = _size(frame.body)
        if batches[-1] and size > room:
            batches.append([])
            room = PACKED_BYTES
        batches[-1].append(frame)
        room -= size
    return batches


def _size(request: Request) -> int:
    match request:
        case Send() | Keep():
            return 256 + len(request.body)
        case Archive():
            return 256 + sum(128 + len(copy) for _, _, _, copy in request.items)
        case _:
            return 256


def _retrieved(future: asyncio.Future[Reply]) -> None:
    if not future.cancelled():
        future.exception()


def _problem(url: str, error: BaseException) -> ServerProblem | None:
    match error:
        case TimeoutError():
            return ServerProblem(url, f"no answer within {OPEN_TIMEOUT:.0f} s", lasting=False)
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
            remedy = "name the authority that signed its certificate with --ca or COTERIE_CA"
            return ServerProblem(url, f"TLS failed ({error})", lasting=True, remedy=remedy)
        case aiohttp.ClientConnectorDNSError():
            return ServerProblem(url, "its name cannot be resolved", lasting=True)
        case aiohttp.ClientConnectorError():
            refused = isinstance(error.os_error, ConnectionRefusedError)
            reason = "connection refused" if refused else (error.os_error.strerror or "cannot connect").lower()
            return ServerProblem(url, reason, lasting=True)
        case FrameError() | aiohttp.WSServerHandshakeError() | aiohttp.ClientResponseError() | ConnectionLost():
            return ServerProblem(url, "this is not a coterie node's client port", lasting=True)
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError():
            return ServerProblem(url, "this is not a coterie node's client port", lasting=True)
        case aiohttp.ClientError() | OSError():
            return ServerProblem(url, f"the connection failed ({error})", lasting=False)
        case CoterieError():
            return ServerProblem(url, error.detail, lasting=False)
        case _:
            return None
