"""One WebSocket to one server: numbered requests out, replies and events in, packed both ways.

Everything that is posted in one turn of the event loop leaves in one WebSocket message. A link is used once: when it
breaks, what was under way fails with ConnectionLost, and `connection.Connection` opens another.

A server that is frozen, or cut off, breaks nothing: it only says nothing. So the link looks each LOOK seconds whether
something came; if not, and an answer is awaited, it pings, and counts the looks at which nothing has come since
(`silent`). It never ends itself for that before HOPELESS: whoever uses it may have another server at hand, or not.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import aiohttp
import msgspec

from coterie_protocol.client_api import (
    ANSWERS,
    CLIENT_PATH,
    MAX_CLIENT_FRAME_BYTES,
    MAX_CLIENT_FRAMES,
    PROTOCOL_HIGH,
    PROTOCOL_LOW,
    ClientFrame,
    Closing,
    Drained,
    Error,
    Event,
    Hello,
    Mail,
    Receipt,
    Reply,
    Request,
    Superseded,
    Unsubscribed,
    Welcome,
)
from coterie_protocol.errors import CoterieError, ErrorCode, FrameError
from coterie_protocol.frames import decode_server, encode_frame, exception_of, join

from . import __version__
from .errors import ConnectionLost
from .problems import ServerProblem

if TYPE_CHECKING:
    import ssl

PROGRAM = f"coterie/{__version__}"
OPEN_TIMEOUT = 3.0
"""Seconds for a connection and the server's Welcome; a frozen machine answers neither."""
LOOK = 0.25
"""Seconds between two looks at whether the server has said anything. Looks are counted, not seconds: while this process
stands still none are made, so no server is blamed for that."""
IDLE_LOOKS = 8
"""After so many looks (2 s) without a word the server is pinged although no answer is awaited: mail may be missing.
A thousand idle clients cost the ring 500 pings a second."""
HOPELESS = 24
"""Looks (6 s) without an answer to a ping after which the link is given up, whether there is another server or not."""
MAX_DETAIL = 300
"""Characters of a server's sentence that people are shown."""
NO_NODE = "this is not a coterie node's client port"
PACKED_BYTES = MAX_CLIENT_FRAME_BYTES // 2
"""Where one WebSocket message closes; a larger request travels alone."""
MAX_FRAME = MAX_CLIENT_FRAME_BYTES - 5
"""The largest request that a message can carry."""
MAX_INCOMING_BYTES = 16 * 1024 * 1024
"""A larger message of a server ends the link: what a node packs together is far smaller."""


REDIRECTED = "set COTERIE_SERVERS to the address of the node itself"
RING_UID = re.compile("[0-9a-f]{32}")


class _Redirected(Exception):
    """The server answered the upgrade with a redirect."""


def http_session(connector: aiohttp.BaseConnector) -> aiohttp.ClientSession:
    """Make a session for links: it follows no redirect, keeps no cookie and knows no proxy."""
    guard = aiohttp.TraceConfig()
    guard.on_request_redirect.append(_refuse_redirect)
    return aiohttp.ClientSession(
        connector=connector, trace_configs=[guard], cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
    )


async def _refuse_redirect(*_: object) -> None:
    """Refuse before the next request is made: it would take the resume token to whomever the server names."""
    raise _Redirected


class Link:
    """An open WebSocket that has exchanged Hello and Welcome."""

    def __init__(self, url: str, socket: aiohttp.ClientWebSocketResponse, on_event: Callable[[Event], None]) -> None:
        """Use `Link.open`."""
        self.url = url
        self.welcome: Welcome
        self._socket = socket
        self._on_event = on_event
        self._numbers = itertools.count(1)
        self._replies: dict[int, tuple[type[Request], asyncio.Future[Reply]]] = {}
        self._outgoing: list[bytes] = []
        self._wake = asyncio.Event()
        self._over = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False
        self.fault = ""
        """How the server has broken the protocol, which ended the link; empty if it has not."""
        self.silent = 0
        """At how many looks in a row a ping had no answer; nothing else came either."""
        self.news = asyncio.Event()
        """Set when `silent` has changed, or the link is over. Whoever waits for it clears it."""
        self._heard = False
        self._quiet = 0
        self._pinging: asyncio.Task[None] | None = None
        self._pinged = False
        self._looking = asyncio.get_running_loop().call_later(LOOK, self._look)
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
                    autoping=False,
                    max_msg_size=MAX_INCOMING_BYTES,
                    ssl=tls if tls is not None else True,
                    timeout=aiohttp.ClientWSTimeout(ws_close=0.5),
                )
                link = cls(url, socket, on_event)
                reply = await link.post([Hello(PROTOCOL_LOW, PROTOCOL_HIGH, PROGRAM)])[0]
            assert isinstance(reply, Welcome)
            if not RING_UID.fullmatch(reply.ring_uid):
                raise FrameError("it names no ring")
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
            frame = encode_frame(ClientFrame(number, request))
            if len(frame) > MAX_FRAME:
                detail = f"{type(request).__name__} of {len(frame)} bytes; servers take at most {MAX_FRAME}"
                future.set_exception(CoterieError(detail, code=ErrorCode.TOO_LARGE, value=MAX_FRAME))
                continue
            self._replies[number] = type(request), future
            self._outgoing.append(frame)
            self._idle.clear()
        self._wake.set()
        return futures

    @property
    def over(self) -> bool:
        """Say whether the link has broken, or the server has said that it is going away."""
        return self._over

    async def settle(self, timeout: float) -> None:
        """Wait until everything posted is answered, for at most `timeout` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._idle.wait()

    def end(self) -> None:
        """Use the link no more: what is unanswered fails with ConnectionLost."""
        self._closed = self._over = True
        self._looking.cancel()
        self._idle.set()
        self.news.set()
        replies, self._replies = self._replies, {}
        for _, future in replies.values():
            if not future.done():
                future.set_exception(ConnectionLost(self.url))

    def break_off(self, fault: str) -> None:
        """End the link because the server has broken the protocol."""
        self.fault = self.fault or fault
        self.end()

    async def close(self) -> None:
        """End the link and close its socket; a server that does not answer costs half a second."""
        self.end()
        tasks = [*self._tasks, *([self._pinging] if self._pinging else [])]
        for task in tasks:
            task.cancel()
        try:
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:  # also for who is cancelled meanwhile: nobody else closes the socket
            with contextlib.suppress(Exception):
                await self._socket.close()

    async def _read(self) -> None:
        try:
            async for message in self._socket:
                self._heard = True
                if message.type is aiohttp.WSMsgType.BINARY:
                    for frame in decode_server(message.data):
                        self._take(frame.id, frame.body)
                elif message.type is aiohttp.WSMsgType.PING:
                    await self._socket.pong(message.data)
                elif message.type is aiohttp.WSMsgType.TEXT:
                    raise FrameError("a text message; frames are binary")
                elif message.type is aiohttp.WSMsgType.ERROR and isinstance(message.data, aiohttp.WebSocketError):
                    raise FrameError(f"no WebSocket message of legal size ({message.data})")
                elif message.type is not aiohttp.WSMsgType.PONG:
                    break
        except FrameError as error:
            self.break_off(error.detail)
        except (aiohttp.ClientError, OSError):
            pass
        finally:
            self.end()

    def _take(self, number: int, body: Reply | Event) -> None:
        if number == 0 and self._closed:
            return  # what a server still says that is not used any more concerns nobody
        if number == 0:
            match body:
                case Closing():
                    self._over = True
                    self.news.set()
                case Error():
                    # Its farewell to who has broken the rules.
                    raise FrameError(f"it ended the connection: {_short(body.detail)}")
                case Mail() | Drained() | Receipt() | Superseded() | Unsubscribed():
                    self._on_event(body)
                case _:
                    raise FrameError(f"{type(body).__name__} without a request")
            return
        asked, future = self._replies.pop(number, (None, None))
        if not self._replies:
            self._idle.set()
        if asked is None or future is None:
            raise FrameError(f"{type(body).__name__} in answer to nothing")
        if not isinstance(body, (ANSWERS[asked], Error)):
            self._replies[number] = asked, future  # it fails like all others that are open
            raise FrameError(f"{type(body).__name__} in answer to {asked.__name__}")
        if future.done():
            return
        if isinstance(body, Error):
            future.set_exception(exception_of(msgspec.structs.replace(body, detail=_short(body.detail))))
        else:
            future.set_result(body)

    async def _write(self) -> None:
        with contextlib.suppress(aiohttp.ClientError, OSError):
            while True:
                await self._wake.wait()
                self._wake.clear()
                frames, self._outgoing = self._outgoing, []
                for batch in _batches(frames):
                    await self._socket.send_bytes(join(batch))

    # --- Does the server still say anything? ---

    def _look(self) -> None:
        self._looking = asyncio.get_running_loop().call_later(LOOK, self._look)
        before = self.silent
        if self._heard:
            self._heard = self._pinged = False
            self.silent = self._quiet = 0
        else:
            self._quiet += 1
            if self._pinged:
                self.silent += 1
            elif self._replies or self._quiet >= IDLE_LOOKS:
                self._ping()
        if self.silent != before:
            self.news.set()
        if self.silent >= HOPELESS:
            self.end()

    def _ping(self) -> None:
        self._pinged = True
        if self._pinging is None or self._pinging.done():  # else one still waits for room in a full socket
            self._pinging = asyncio.create_task(self._send_ping())

    async def _send_ping(self) -> None:
        with contextlib.suppress(aiohttp.ClientError, OSError):
            await self._socket.ping()


def _batches(frames: list[bytes]) -> list[list[bytes]]:
    batches: list[list[bytes]] = [[]]
    room = PACKED_BYTES
    for frame in frames:
        if batches[-1] and (len(frame) > room or len(batches[-1]) == MAX_CLIENT_FRAMES):
            batches.append([])
            room = PACKED_BYTES
        batches[-1].append(frame)
        room -= len(frame)
    return batches


def _short(detail: str) -> str:
    return detail if len(detail) <= MAX_DETAIL else detail[: MAX_DETAIL - 1] + "…"


def _retrieved(future: asyncio.Future[Reply]) -> None:
    if not future.cancelled():
        future.exception()


def _problem(url: str, error: BaseException) -> ServerProblem | None:
    match error:
        case TimeoutError():
            return ServerProblem(url, f"no answer within {OPEN_TIMEOUT:.0f} s", lasting=False)
        case aiohttp.ClientConnectorCertificateError():
            remedy = "name the authority that signed its certificate with --ca or COTERIE_CA"
            reason = f"its certificate is not trusted ({error.certificate_error})"
            return ServerProblem(url, reason, lasting=True, remedy=remedy)
        case aiohttp.ClientConnectorSSLError():
            reason = (error.os_error.strerror or "no reason given").split("] ")[-1].split(" (_ssl")[0]
            remedy = "if the server speaks no TLS, write its address with ws://; that is for safe ways only"
            return ServerProblem(url, f"TLS failed ({reason})", lasting=True, remedy=remedy)
        case aiohttp.ClientConnectorDNSError():
            return ServerProblem(url, "its name cannot be resolved", lasting=True)
        case aiohttp.ClientConnectorError():
            refused = isinstance(error.os_error, ConnectionRefusedError)
            reason = "connection refused" if refused else (error.os_error.strerror or "cannot connect").lower()
            return ServerProblem(url, reason, lasting=True)
        case aiohttp.WSServerHandshakeError(status=503):
            return ServerProblem(url, "it takes no more connections just now", lasting=False)
        case _Redirected():
            reason = "it sends elsewhere, and no redirect is followed"
            return ServerProblem(url, reason, lasting=True, remedy=REDIRECTED)
        case FrameError() | aiohttp.WSServerHandshakeError() | aiohttp.ClientResponseError() | ConnectionLost():
            return ServerProblem(url, NO_NODE, lasting=True)
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError():
            return ServerProblem(url, NO_NODE, lasting=True)
        case aiohttp.ClientError() | OSError() | ValueError():
            return ServerProblem(url, f"the connection failed ({type(error).__name__})", lasting=False)
        case CoterieError():
            return ServerProblem(url, error.detail, lasting=False, answer=error)
        case _:
            return None
