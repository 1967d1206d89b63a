"""One client's WebSocket: frames in, frames out, bounded both ways.

Frames queued in one turn of the event loop leave in one WebSocket message. They go straight to the transport while
the client keeps up: a task to wake for each write would cost more than the write. When it does not keep up, a task
writes and waits for it, mail is refused meanwhile (its subscription begins anew afterwards), nothing is read from it,
and if what it asked for still piles up it is cut off.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct

import structlog
from aiohttp import WebSocketError, WSCloseCode, WSMsgType, web

from coterie_node.chat.gateway import Conversation, Gateway
from coterie_protocol.client_api import Closing, Drained, Event, Mail, PageReply, Reply, ServerFrame
from coterie_protocol.errors import CoterieError, FrameError
from coterie_protocol.frames import decode_client, encode, error_of

log = structlog.get_logger()

HIGH_WATER = 256 * 1024
"""Bytes that wait in the transport before the client counts as slow."""
MAIL_QUEUED = 2 * 1024 * 1024
"""Bytes that wait for a slow client before it gets no more mail."""
MOST_QUEUED = 16 * 1024 * 1024
"""Bytes of frames that wait for a client before it is cut off."""
PACKED_BYTES = 256 * 1024
"""Where one WebSocket message closes; a larger frame travels alone."""
FRAME_OVERHEAD = 96
FINISH_TIMEOUT = 2.0
"""Seconds that a client has to take what is queued before its connection is closed."""
HELLO_TIMEOUT = 10.0
"""Seconds that a client which is refused has for its first frame."""
SLOW_POLL = 0.05


class Connection:
    """A client's connection (`chat.gateway.Client`)."""

    def __init__(
        self, gateway: Gateway, socket: web.WebSocketResponse, transport: asyncio.Transport, address: str
    ) -> None:
        self.address = address
        self._limit = gateway.settings.requests_in_flight
        self._socket = socket
        self._transport = transport
        self._conversation: Conversation = gateway.converse(self)
        self._conversation.on_room = self._on_room
        self._room = asyncio.Event()
        self._frames: list[ServerFrame] = []
        self._sizes: list[int] = []
        self._queued = 0
        self._scheduled = False
        self._writer: asyncio.Task[None] | None = None
        self._stalled = False
        """Mail was refused since the client last kept up."""
        self._ending = False
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """Serve the client until it goes, breaks the protocol, or its session is over."""
        tasks = [asyncio.ensure_future(self._read()), asyncio.ensure_future(self._ended.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            await self._finish()
        finally:
            self._ending = True
            self._conversation.left()
            if self._writer is not None:
                tasks.append(self._writer)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with contextlib.suppress(ConnectionError):
                await self._socket.close(code=WSCloseCode.GOING_AWAY)

    # --- reading ---

    async def _read(self) -> None:
        conversation = self._conversation
        try:
            async for message in self._socket:
                if message.type is WSMsgType.ERROR:
                    if isinstance(message.data, WebSocketError):
                        raise FrameError(f"not a WebSocket message of legal size: {message.data}")
                    return  # The connection broke.
                if message.type is not WSMsgType.BINARY:
                    raise FrameError("a text message; frames are binary")
                for frame in decode_client(message.data):
                    conversation.take(frame)
                while conversation.unanswered >= self._limit or self._writer is not None:
                    self._room.clear()
                    await self._room.wait()
        except FrameError as error:
            log.warning("a client broke the protocol", address=self.address, reason=error.detail)
            self._queue(ServerFrame(0, error_of(error)), FRAME_OVERHEAD)
        except Exception:
            log.exception("a client's connection failed", address=self.address)

    def _on_room(self) -> None:
        if self._conversation.unanswered < self._limit:
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
        if self._stalled or (self._writer is not None and self._queued > MAIL_QUEUED):
            self._stalled = True
            return False
        size = FRAME_OVERHEAD
        if isinstance(event, Mail):
            size += sum(FRAME_OVERHEAD + len(item.body) for item in event.items)
        self._queue(ServerFrame(0, event), size)
        return True

    def end(self) -> None:
        """Close the connection once what is queued has gone; nothing more is queued."""
        self._ending = True
        self._ended.set()

    def closing(self) -> None:
        """Say that the node is going away: the client goes to another."""
        self.push(Closing())

    def _queue(self, frame: ServerFrame, size: int) -> None:
        if self._ending:
            return
        self._frames.append(frame)
        self._sizes.append(size)
        self._queued += size
        if self._queued > MOST_QUEUED:
            log.warning("a client does not read what it asked for: cut off", address=self.address)
            self._transport.abort()
            self.end()
        elif not self._scheduled and self._writer is None:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        if self._writer is not None:
            return
        if self._socket.closed or self._transport.is_closing():
            self._frames, self._sizes, self._queued = [], [], 0
        while self._frames and self._transport.get_write_buffer_size() <= HIGH_WATER:
            self._transport.write(websocket_message(encode(self._next())))
        if self._frames:
            self._writer = asyncio.ensure_future(self._write())

    async def _write(self) -> None:
        """Write what is queued, as fast as the client takes it."""
        try:
            while self._frames:
                # aiohttp lets one wait for a slow client only while writing.
                while self._transport.get_write_buffer_size() > HIGH_WATER:  # noqa: ASYNC110
                    await asyncio.sleep(SLOW_POLL)
                await self._socket.send_bytes(encode(self._next()))
        except ConnectionError:
            self.end()
        finally:
            self._writer = None
            self._room.set()
        if self._stalled:
            self._stalled = False
            self._conversation.ready_for_mail()

    def _next(self) -> list[ServerFrame]:
        """Take the frames of the next WebSocket message."""
        if self._queued <= PACKED_BYTES:
            frames, self._frames, self._sizes, self._queued = self._frames, [], [], 0
            return frames
        size = count = 0
        for one in self._sizes:
            if count and size + one > PACKED_BYTES:
                break
            size += one
            count += 1
        frames = self._frames[:count]
        del self._frames[:count], self._sizes[:count]
        self._queued -= size
        return frames

    async def _finish(self) -> None:
        """Let what is queued go, for a moment."""
        self._flush()
        if self._writer is not None:
            await asyncio.wait([self._writer], timeout=FINISH_TIMEOUT)


async def refuse(socket: web.WebSocketResponse, error: CoterieError) -> None:
    """Answer a client's first request with an error, and close the connection."""
    with contextlib.suppress(FrameError, TimeoutError, ConnectionError):
        async with asyncio.timeout(HELLO_TIMEOUT):
            message = await socket.receive()
            frames = decode_client(message.data) if message.type is WSMsgType.BINARY else []
            if frames:
                await socket.send_bytes(encode([ServerFrame(frames[0].id, error_of(error))]))
    with contextlib.suppress(ConnectionError):
        await socket.close(code=WSCloseCode.TRY_AGAIN_LATER)


def websocket_message(payload: bytes) -> bytes:
    """Frame a binary message as a server does: final, unmasked, uncompressed (RFC 6455, section 5.2)."""
    size = len(payload)
    if size < 126:
        return struct.pack("!BB", 0x82, size) + payload
    if size < 65536:
        return struct.pack("!BBH", 0x82, 126, size) + payload
    return struct.pack("!BBQ", 0x82, 127, size) + payload
