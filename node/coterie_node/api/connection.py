"""One client's WebSocket: frames in, frames out, bounded both ways.

Frames queued in one turn of the event loop leave in one WebSocket message. They are written straight to the transport
while it keeps up; when it does not, a task writes what is queued and waits for the client, mail is refused meanwhile
(its subscription begins anew later), and a client whose queue still grows is cut off.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence

import structlog
from aiohttp import WSCloseCode, WSMsgType, web

from coterie_node.chat.gateway import Conversation, Gateway
from coterie_protocol.client_api import (
    Closing,
    Drained,
    Event,
    Mail,
    PageReply,
    Reply,
    ServerFrame,
)
from coterie_protocol.errors import CoterieError, FrameError
from coterie_protocol.frames import decode_client, encode, error_of

log = structlog.get_logger()

HIGH_WATER = 256 * 1024
"""Bytes that wait in the transport before mail is held back and the slow way is taken."""
MOST_QUEUED = 16 * 1024 * 1024
"""Bytes of frames that wait for a client before it is cut off."""
PACKED_BYTES = 512 * 1024
"""Where one WebSocket message closes."""
FRAME_OVERHEAD = 96
FINISH_TIMEOUT = 2.0
"""Seconds that a client has to take what is queued before its connection is closed."""
HELLO_TIMEOUT = 10.0
"""Seconds until the first frame of a client that is refused anyway."""


class Connection:
    """A client's connection (`chat.gateway.Client`)."""

    def __init__(
        self,
        gateway: Gateway,
        socket: web.WebSocketResponse,
        transport: asyncio.Transport,
        drain: Callable[[], Awaitable[None]],
        address: str,
    ) -> None:
        """Take `drain`, which waits until the transport takes more."""
        self.address = address
        self._gateway = gateway
        self._socket = socket
        self._transport = transport
        self._drain = drain
        self._conversation: Conversation = gateway.converse(self)
        self._conversation.on_room = self._on_room
        self._room = asyncio.Event()
        self._room.set()
        self._frames: list[ServerFrame] = []
        self._frames_bytes = 0
        self._scheduled = False
        self._writer: asyncio.Task[None] | None = None
        self._stalled = False
        """Mail was refused since the client last kept up."""
        self._ending = False
        self._ended = asyncio.Event()

    # --- reading ---

    async def run(self) -> None:
        """Serve the client until it goes, breaks the protocol, or its session is over."""
        reader = asyncio.ensure_future(self._read())
        ended = asyncio.ensure_future(self._ended.wait())
        try:
            await asyncio.wait({reader, ended}, return_when=asyncio.FIRST_COMPLETED)
            if self._ending:
                await self._finish()
        finally:
            for task in (reader, ended, self._writer):
                if task is not None:
                    task.cancel()
            await asyncio.gather(reader, ended, return_exceptions=True)
            self._conversation.left()
            self._ending = True
            if not self._socket.closed:
                await self._socket.close(code=WSCloseCode.GOING_AWAY)

    async def refuse(self, error: CoterieError) -> None:
        """Answer the client's first request with an error, and end."""
        try:
            async with asyncio.timeout(HELLO_TIMEOUT):
                message = await self._socket.receive()
                frames = decode_client(message.data) if message.type is WSMsgType.BINARY else []
                if frames:
                    await self._socket.send_bytes(encode([ServerFrame(frames[0].id, error_of(error))]))
        except (FrameError, TimeoutError, ConnectionError):
            pass
        await self._socket.close(code=WSCloseCode.TRY_AGAIN_LATER)

    async def _read(self) -> None:
        limit = self._gateway.settings.requests_in_flight
        conversation = self._conversation
        try:
            async for message in self._socket:
                if message.type is not WSMsgType.BINARY:
                    raise FrameError("a text message; frames are binary")
                for frame in decode_client(message.data):
                    conversation.take(frame)
                if conversation.unanswered >= limit or self._writer is not None:
                    self._room.clear()
                    await self._room.wait()
        except FrameError as error:
            log.warning("a client broke the protocol", address=self.address, reason=error.detail)
            self._queue(ServerFrame(0, error_of(error)), FRAME_OVERHEAD)
            self.end()
        except Exception:
            log.exception("a client's connection failed", address=self.address)
            self.end()

    def _on_room(self) -> None:
        if not self._room.is_set() and self._conversation.unanswered < self._gateway.settings.requests_in_flight:
            self._room.set()

    # --- writing: chat.gateway.Client ---

    def reply(self, number: int, body: Reply) -> None:
        """Queue the answer to a request."""
        size = FRAME_OVERHEAD
        if isinstance(body, PageReply):
            size += sum(FRAME_OVERHEAD + len(item.body) for item in body.items)
        self._queue(ServerFrame(number, body), size)

    def push(self, event: Event) -> None:
        """Queue an event."""
        self._queue(ServerFrame(0, event), FRAME_OVERHEAD)

    def push_mail(self, event: Mail | Drained) -> bool:
        """Queue mail, unless the client does not keep up: then its subscription begins anew once it does."""
        if self._stalled or self._writer is not None:
            self._stalled = True
            return False
        size = sum(FRAME_OVERHEAD + len(item.body) for item in event.items) if isinstance(event, Mail) else 0
        self._queue(ServerFrame(0, event), size + FRAME_OVERHEAD)
        return True

    def end(self) -> None:
        """Close the connection once what is queued has gone."""
        self._ending = True
        self._ended.set()

    def closing(self) -> None:
        """Say that the node is going away."""
        self.push(Closing())

    def _queue(self, frame: ServerFrame, size: int) -> None:
        if self._ending:
            return
        self._frames.append(frame)
        self._frames_bytes += size
        if self._frames_bytes > MOST_QUEUED:
            log.warning("a client does not read what it asked for: cut off", address=self.address)
            self._frames.clear()
            self._transport.abort()
            self.end()
        elif not self._scheduled and self._writer is None:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        if self._writer is not None or not self._frames or self._socket.closed:
            return
        if self._frames_bytes <= PACKED_BYTES and self._transport.get_write_buffer_size() <= HIGH_WATER:
            frames, self._frames, self._frames_bytes = self._frames, [], 0
            self._transport.write(websocket_message(encode(frames)))
        else:
            self._writer = asyncio.ensure_future(self._write())

    async def _write(self) -> None:
        """Write what is queued, as fast as the client takes it."""
        try:
            while self._frames and not self._socket.closed:
                for packed in self._packed():
                    await self._socket.send_bytes(packed)
                    while self._transport.get_write_buffer_size() > HIGH_WATER:
                        # Below the transport's own high-water mark sending does not wait.
                        await self._drain()
        except (ConnectionError, RuntimeError):
            self.end()
        finally:
            self._writer = None
            self._room.set()
            if self._stalled:
                self._stalled = False
                self._conversation.ready_for_mail()

    def _packed(self) -> Sequence[bytes]:
        frames, self._frames, self._frames_bytes = self._frames, [], 0
        return [encode(frames)]

    async def _finish(self) -> None:
        """Let what is queued go, for a moment."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FINISH_TIMEOUT):
                while self._frames or self._writer is not None:
                    if self._writer is None:
                        self._writer = asyncio.ensure_future(self._write())
                    await asyncio.wait({self._writer})


def websocket_message(data: bytes) -> bytes:
    """Frame a binary message of a server, whole and unmasked (RFC 6455, section 5.2)."""
    size = len(data)
    if size < 126:
        return b"\x82" + size.to_bytes(1, "big") + data
    if size < 1 << 16:
        return b"\x82\x7e" + size.to_bytes(2, "big") + data
    return b"\x82\x7f" + size.to_bytes(8, "big") + data
