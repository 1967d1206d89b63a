"""One client's WebSocket: frames in, frames out, bounded both ways.

Frames queued in one turn of the event loop leave in one WebSocket message, straight to the transport: a task to wake
for each write would cost more than the write. While the client does not keep up, they wait until it has taken most of
what the transport holds; mail is refused once there is too much of it (its subscription begins anew afterwards),
nothing is read from it, and if what it asked for still piles up it is cut off. What all clients cost together is in
`memory_budget.py`.

A client that floods is slowed by not reading from it: its requests are taken one by one, while few enough of them are
without an answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct

import structlog
from aiohttp import WSCloseCode, WSMsgType, web

from coterie_node.chat.gateway.conversation import INTERNAL, Conversation, Gateway
from coterie_protocol.client_api import Closing, Drained, Event, Mail, Reply, ServerFrame
from coterie_protocol.errors import CoterieError, ErrorCode, FrameError
from coterie_protocol.frames import decode_client, encode, encode_frame, error_of, join

from ..http.guard import Guarded
from ..logs.ration import Ration
from .memory_budget import Debts

log = structlog.get_logger()

HIGH_WATER = 64 * 1024
"""Bytes that wait in the transport before the client counts as slow; it goes on when LOW_WATER are left."""
LOW_WATER = 16 * 1024
MAIL_QUEUED = 2 * 1024 * 1024
"""Bytes that wait for a slow client before it gets no more mail: more than a whole window."""
MAIL_QUEUED_TIGHT = 64 * 1024
"""The same while all clients together cost much."""
MOST_QUEUED = 16 * 1024 * 1024
"""Bytes of frames that wait for a client before it is cut off."""
PACKED_BYTES = 256 * 1024
"""Where one WebSocket message closes; a larger frame travels alone."""
MESSAGE_OVERHEAD = 6
"""The least that a client's message has beside its payload; what it has more is nothing to speak of."""
FINISH_TIMEOUT = 2.0
"""Seconds that a client has to take what is queued before its connection is closed."""
HELLO_TIMEOUT = 10.0
"""Seconds that a client has for its first frame."""
QUEUED_COST = 48
"""What an encoded frame costs in memory beside its bytes."""
FRAME_COST = 200
"""About how many bytes a frame that was decoded and not taken yet costs beside those that came."""
FRAME_BYTES = 1024
"""What a WebSocket frame costs of the bytes that a session may send, beside its payload and be it empty: 6,000 a
second. Nobody who sends what the rates allow needs half of that."""
STRANGER_FRAME_BYTES = 8 * 1024
"""The same of a connection without a session: 16 a second, more than it may ask."""
LONGEST_PAUSE = 5.0
"""Seconds for which nothing is read from a client that has sent more bytes than it may."""
STRANGER_BYTES = 256 * 1024
"""Bytes of a message that are taken of a client without a session: Register has 128 KiB of keys and vault."""
PARTLY = 64 * 1024
"""Bytes of messages that are not taken yet which a connection may keep without owing them."""


class Lines:
    """What is logged of clients that misbehave, of all connections of a port."""

    def __init__(self) -> None:
        self.broke = Ration(log.warning, "a client broke the protocol")
        self.cut_off = Ration(log.warning, "a client is cut off")
        self.failed = Ration(log.error, "a client's connection failed")

    def tell(self) -> None:
        """Say how many were left out."""
        for ration in (self.broke, self.cut_off, self.failed):
            ration.tell()


class Connection:
    """A client's connection (`chat.gateway.conversation.Client`)."""

    def __init__(
        self, gateway: Gateway, socket: web.WebSocketResponse, guarded: Guarded, debts: Debts, lines: Lines
    ) -> None:
        self.address = guarded.address
        self._lines = lines
        self._socket = socket
        self._guarded = guarded
        self._transport = guarded.wire
        self._transport.set_write_buffer_limits(HIGH_WATER, LOW_WATER)
        guarded.on_drained = self._drained
        guarded.on_data = self._came
        guarded.on_frames = self._frames_came
        guarded.on_broken = self._on_broken
        self._debts = debts
        self._conversation: Conversation = gateway.converse(self)
        self._conversation.on_room = self._on_room
        self._conversation.on_welcome = guarded.give_back
        self._room = asyncio.Event()
        self._frames: list[bytes] = []
        """Encoded when they are queued, so that what waits is counted as what it is."""
        self._queued = 0
        self._scheduled = False
        self._slow = False
        """The transport holds as much as it may: frames wait until the client has taken some."""
        self._untaken = 0
        """Bytes that have come of messages which are not taken yet."""
        self._taking = 0
        """Bytes of the message whose requests are being taken."""
        self._stalled = False
        """Mail was refused since the client last kept up."""
        self._ending = False
        self._ended = asyncio.Event()
        self._written = asyncio.Event()

    async def run(self) -> None:
        """Serve the client until it goes, breaks the protocol, or its session is over."""
        tasks = [asyncio.ensure_future(self._read()), asyncio.ensure_future(self._ended.wait())]
        alarm = asyncio.get_running_loop().call_later(HELLO_TIMEOUT, self._no_hello)
        if self._guarded.broken:  # It came with the upgrade.
            self._on_broken(self._guarded.broken)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            await self._finish()
        finally:
            self._ending = True
            alarm.cancel()
            self._conversation.left()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with contextlib.suppress(ConnectionError):
                await self._socket.close(code=WSCloseCode.GOING_AWAY)
            self._guarded.on_drained = self._guarded.on_data = self._guarded.on_broken = None
            self._guarded.on_frames = None
            self._debts.owe(self, 0)
            if self._transport.get_write_buffer_size():
                self._transport.abort()  # In good order it would wait for a client that takes nothing.

    # --- reading ---

    async def _read(self) -> None:
        conversation = self._conversation
        try:
            async for message in self._socket:
                if message.type is WSMsgType.ERROR:
                    return  # The connection broke, or what came on it is no WebSocket's: `_on_broken` has said so.
                if message.type is WSMsgType.TEXT:
                    raise FrameError("a text message; frames are binary")
                size = len(message.data)
                before, self._untaken = self._untaken, max(0, self._untaken - size - MESSAGE_OVERHEAD)
                if message.type is WSMsgType.PING:
                    await self._socket.pong(message.data)
                if message.type is not WSMsgType.BINARY:
                    await self._nothing_asked()
                    continue
                frames = decode_client(message.data, self._unreadable)
                if not frames:
                    await self._nothing_asked()
                size += FRAME_COST * len(frames)
                if before > PARTLY:
                    self._taking = size
                for frame in frames:
                    if conversation.crowded or self._slow:
                        self._taking = size
                        await self._until_room()
                    conversation.take(frame)
                    if conversation.turn_is_over():
                        self._flush()
                        await asyncio.sleep(0)
                    if conversation.pause:
                        self._taking = size
                        self._owe()
                        await self._pause()
                if self._taking:
                    self._taking = 0
                    self._owe()
                if pause := conversation.read(len(message.data)):
                    conversation.pause = min(pause, LONGEST_PAUSE)
                    await self._pause()
                if self._slow:
                    await self._until_room()
        except FrameError as error:
            self._on_broken(error.detail)
        except ConnectionError:
            return  # It went, or was cut off, while a ping of its was being answered.
        except Exception:
            self._lines.failed(self.address, exc_info=True)

    def _unreadable(self, number: int, why: str) -> None:
        """Answer a request that holds what it must not: the others of its message are served."""
        self._conversation.refuse(number, CoterieError(f"not understood: {why}", code=ErrorCode.BAD_REQUEST))

    def _has_room(self) -> bool:
        return not self._conversation.crowded and not self._slow

    async def _until_room(self) -> None:
        """Read no further until the client may ask more."""
        self._owe()
        while not self._has_room():
            self._room.clear()
            await self._room.wait()

    async def _pause(self) -> None:
        """Read no further for a moment: the client was told how long to wait."""
        self._flush()
        seconds, self._conversation.pause = self._conversation.pause, 0.0
        await asyncio.sleep(seconds)

    def _on_room(self) -> None:
        if not self._room.is_set() and self._has_room():
            self._room.set()

    def _came(self, size: int) -> None:
        self._untaken += size
        if self._untaken > STRANGER_BYTES and self._conversation.session is None:
            self.cut_off("it sends much and has no session")
        elif self._untaken > PARTLY:
            self._owe()

    def _frames_came(self, count: int) -> float:
        """Count WebSocket frames; return for how many seconds nothing more should be read from this client."""
        cost = FRAME_BYTES if self._conversation.session is not None else STRANGER_FRAME_BYTES
        return min(self._conversation.read(count * cost), LONGEST_PAUSE)

    async def _nothing_asked(self) -> None:
        """Give the others their turn after messages without a request, too."""
        if self._conversation.turn_is_over():
            await asyncio.sleep(0)

    def _no_hello(self) -> None:
        if not self._conversation.greeted:
            self._on_broken(f"a client says hello within {HELLO_TIMEOUT:g} s")

    def _on_broken(self, why: str) -> None:
        """Say that the client has broken the protocol, and end the connection."""
        if self._ending:
            return
        self._lines.broke(self.address, why=why)
        self._queue(ServerFrame(0, error_of(FrameError(why))))
        self._flush()  # At once: what is no WebSocket's makes aiohttp close in the loop's next turn.
        self.end()

    # --- writing: chat.gateway.Client ---

    def reply(self, number: int, body: Reply) -> None:
        """Queue the answer to a request."""
        self._queue(ServerFrame(number, body))

    def push(self, event: Event) -> None:
        """Queue an event."""
        self._queue(ServerFrame(0, event))

    def push_mail(self, event: Mail | Drained) -> bool:
        """Queue mail, unless the client does not keep up: then its subscription begins anew once it does."""
        if self._stalled or (self._slow and self._queued > (MAIL_QUEUED_TIGHT if self._debts.tight else MAIL_QUEUED)):
            self._stalled = True
            return False
        self._queue(ServerFrame(0, event))
        return True

    def end(self) -> None:
        """Close the connection once what is queued has gone; nothing more is queued."""
        self._ending = True
        self._ended.set()

    def closing(self) -> None:
        """Say that the node is going away: the client goes to another."""
        self.push(Closing())

    def _queue(self, frame: ServerFrame) -> None:
        if self._ending:
            return
        try:
            encoded = encode_frame(frame)
        except Exception:
            self._lines.failed(self.address, encoding=type(frame.body).__name__, exc_info=True)
            if not frame.id:
                return
            encoded = encode_frame(ServerFrame(frame.id, INTERNAL))
        self._frames.append(encoded)
        self._queued += len(encoded) + QUEUED_COST
        if self._slow:
            if self._queued > MOST_QUEUED:
                self.cut_off("it does not read what it asked for")
            else:
                self._owe()
        elif not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        """Write what is queued, unless the client is slow."""
        self._scheduled = False
        if self._slow:
            return
        transport = self._transport
        if self._socket.closed or transport.is_closing():
            self._drop()
        while self._frames and not self._guarded.writing_paused:
            transport.write(websocket_message(join(self._next())))
        if self._frames:
            self._slow = True
            self._owe()
        else:
            self._written.set()

    def _drained(self) -> None:
        """The client has taken most of what the transport held."""
        if not self._slow:
            return
        self._slow = False
        self._flush()
        if self._slow:
            return
        self._owe()
        self._on_room()
        if self._stalled:
            self._stalled = False
            self._conversation.ready_for_mail()

    def _drop(self) -> None:
        self._frames, self._queued = [], 0

    def _owe(self) -> None:
        """Say what this connection costs: what its client does not read, and what it has sent but was not taken yet."""
        owed = self._taking
        if self._untaken > PARTLY:
            owed += self._untaken
        if self._slow:
            owed += self._queued + self._transport.get_write_buffer_size()
        self._debts.owe(self, 0 if self._transport.is_closing() else owed)

    def cut_off(self, why: str) -> None:
        """End the connection now, and drop what is queued: the mail is pending still, and nothing else was promised."""
        self._lines.cut_off(self.address, why=why)
        self._drop()
        self._transport.abort()
        self.end()

    def _next(self) -> list[bytes]:
        """Take the frames of the next WebSocket message."""
        if self._queued <= PACKED_BYTES:
            frames, self._frames, self._queued = self._frames, [], 0
            return frames
        size = count = 0
        for frame in self._frames:
            cost = len(frame) + QUEUED_COST
            if count and size + cost > PACKED_BYTES:
                break
            size += cost
            count += 1
        frames = self._frames[:count]
        del self._frames[:count]
        self._queued -= size
        return frames

    async def _finish(self) -> None:
        """Let what is queued go, for a moment."""
        if self._transport.is_closing():
            return
        self._written.clear()
        self._flush()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FINISH_TIMEOUT):
                await self._written.wait()


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
