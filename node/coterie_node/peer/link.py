"""One link: everything that two nodes say to each other goes over one WebSocket.

This is the hot path of replication. Events are handed on without a task; what is queued in one turn of the loop is one
message; the clock is not read: that something was heard is counted, and `Links` looks at the counters now and then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import structlog
from aiohttp import WSCloseCode

from coterie_protocol.errors import CoterieError, ErrorCode, FrameError, Unavailable
from coterie_protocol.frames import PeerError, decode_peer, exception_of, peer_error_of
from coterie_protocol.identifiers import Uid
from coterie_protocol.nodes import Heartbeat, PeerHello

from ..runtime.dispatch import Dispatcher
from ..runtime.ports import Tasks
from . import packing
from .lines import Lines
from .outbox import Outbox
from .settings import PeerSettings
from .wire import Wire, WireClosed

log = structlog.get_logger()

HEARTBEAT = packing.pack(0, Heartbeat())
GOODBYE = 0.05
"""Seconds that a peer which broke the protocol has to take the reason."""
BUSY = peer_error_of(CoterieError("the node has too much to answer; try again", code=ErrorCode.BUSY, value=100))
BULK_ANSWER = 16 * 1024
"""Answers of this size go behind everything urgent: they are pages of records or accounts."""


class Link:
    """A link that stands. `run` serves it until it ends; `lost` is called once, at once, when it does."""

    def __init__(
        self,
        wire: Wire,
        hello: PeerHello,
        *,
        dialled: bool,
        since: float,
        dispatcher: Dispatcher,
        tasks: Tasks,
        settings: PeerSettings,
        lost: Callable[[Link, str], None],
        lines: Lines,
    ) -> None:
        self.uid: Uid = hello.node.uid
        self.hello = hello
        self.dialled = dialled
        """This node dialled it."""
        self.since = since
        """When it stood (Clock.now)."""
        self.messages_in = 0
        self.unreadable = 0
        """Frames that came and were not understood."""
        self.messages_out = 0
        self.silent = 0
        """How many looks in a row found nothing new (`heard`)."""
        self._looked_in = 0
        self._looked_out = 0
        self._wire = wire
        self._dispatcher = dispatcher
        self._tasks = tasks
        self._settings = settings
        self._lost = lost
        self._lines = lines
        self._outbox = Outbox(settings)
        self._pending: dict[int, asyncio.Future[Any]] = {}
        self._number = 0
        self._answering = 0
        self._bulk_answers = 0
        self._ended = ""
        self._closing = False
        self._writer: asyncio.Task[None] | None = None

    # --- What others call ---

    def send(self, message: Any, *, bulk: bool) -> bool:
        """Queue an event; False when the link has ended or there is too much bulk already. Raises CoterieError."""
        if self._ended:
            return False
        frame = packing.pack(0, message)
        if not bulk:
            return self._put(frame)
        if self._outbox.bulk_full:
            return False
        self._outbox.put_bulk(frame)
        return True

    async def request(self, message: Any, timeout: float, *, bulk: bool) -> Any:
        """Ask and return the answer. Raises Unavailable, or the CoterieError that was answered."""
        if not bulk:
            return await self._ask(message, timeout, bulk=False)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        if self._outbox.bulk_full:
            try:
                async with asyncio.timeout_at(deadline):
                    await self._outbox.bulk_space()
            except TimeoutError:
                raise Unavailable(f"{self._who} took nothing more within {timeout:g} s") from None
        return await self._ask(message, max(deadline - loop.time(), 0.0), bulk=True)

    def beat(self) -> None:
        """Say that this node lives, unless something was sent since the last time."""
        self._looked_out, before = self.messages_out, self._looked_out
        if self._looked_out == before:
            self._looked_out += 1  # the heartbeat itself must not pass for something said when the next is due
            self._put(HEARTBEAT)

    def look(self) -> int:
        """Note whether anything came since the last look; return for how many looks nothing did."""
        if self.messages_in == self._looked_in:
            self.silent += 1
        else:
            self._looked_in = self.messages_in
            self.silent = 0
        return self.silent

    def end(self, reason: str) -> None:
        """Cut the link now: whoever waits for an answer hears so at once."""
        if self._ended:
            return
        self._ended = reason
        self._outbox.close()
        if self._writer is not None:
            self._writer.cancel()
        self._wire.drop()
        self._lost(self, reason)
        pending, self._pending = self._pending, {}
        for future in pending.values():
            if not future.done():
                future.set_exception(Unavailable(f"the link to {self._who} was lost: {reason}"))

    async def close(self, reason: str) -> None:
        """Write what is queued, say goodbye, and end."""
        self._closing = True
        if not self._ended and self._writer is not None:
            self._outbox.finish()
            await asyncio.wait([self._writer], timeout=self._settings.close_timeout)
        if not self._ended:
            await self._wire.close(self._settings.close_timeout, WSCloseCode.GOING_AWAY, reason)
        self.end(reason)

    # --- Its life ---

    def start(self) -> None:
        """Begin to write. The first frame is a heartbeat: it tells the acceptor that the link stands."""
        self._outbox.put(HEARTBEAT)
        self._writer = asyncio.get_running_loop().create_task(self._write(), name=f"peer writer {self.uid}")

    async def run(self, first: bytes | None = None) -> None:
        """Serve the link until it ends; `first` is a message that was received already."""
        reason = "this node gave it up"
        try:
            if first is not None:
                self._take(first)
            while not self._ended:
                self._take(await self._wire.receive())
        except FrameError as error:
            reason = f"it sent what this node does not understand ({error.detail})"
            if not self._ended:
                self._lines.cut(self._who, why=error.detail)
                await self._wire.close(GOODBYE, WSCloseCode.PROTOCOL_ERROR, error.detail)
        except (WireClosed, ConnectionError) as error:
            reason = str(error)
        finally:
            if not self._closing:
                self.end(reason)
                if self._writer is not None:
                    await asyncio.wait([self._writer])

    async def _write(self) -> None:
        message, send = self._outbox.message, self._wire.send
        try:
            while data := await message():
                self.messages_out += 1
                await send(data)
        except ConnectionError as error:
            self.end(str(error) or "the connection was lost")
        except Exception:
            log.exception("writing to a peer failed", peer=self._who)
            self.end("writing failed")

    def _take(self, data: bytes) -> None:
        self.messages_in += 1
        event = self._dispatcher.event
        for frame in decode_peer(data, self._unreadable):
            number, body = frame.id, frame.body
            if number == 0:
                if type(body) is not Heartbeat:
                    event(self.uid, body)
            elif number < 0:
                future = self._pending.get(-number)
                if future is not None and not future.done():
                    future.set_result(body)
            elif self._answering < self._settings.answering:
                self._answering += 1
                self._tasks.start(self._answer(number, body), "answer a peer")
            else:
                self._put(packing.pack(-number, BUSY))

    def _unreadable(self, number: int, why: str) -> None:
        """Deal with a frame that is not understood: its neighbours in the message are, and the link stays.

        It would be made anew, and what its peer means to say would cut it again, for everybody.
        """
        if not self.unreadable:
            self._lines.unreadable(self._who, why=why)
        self.unreadable += 1
        if number > 0:
            refusal = CoterieError(f"not understood: {why}", code=ErrorCode.BAD_REQUEST)
            self._put(packing.pack(-number, peer_error_of(refusal)))
        elif number < 0 and (future := self._pending.get(-number)) is not None and not future.done():
            future.set_exception(Unavailable(f"{self._who} answered what this node does not understand ({why})"))

    async def _answer(self, number: int, body: Any) -> None:
        try:
            reply = packing.pack(-number, await self._dispatcher.request(self.uid, body))
        except CoterieError as error:
            reply = packing.pack(-number, peer_error_of(error))
        finally:
            self._answering -= 1
        if self._ended:
            return
        if len(reply) < BULK_ANSWER:
            self._put(reply)
        elif not self._outbox.bulk_full:
            self._outbox.put_bulk(reply)
        elif self._bulk_answers >= self._settings.bulk_answers:
            self._put(packing.pack(-number, BUSY))
        else:
            await self._answer_in_turn(reply)

    async def _answer_in_turn(self, reply: bytes) -> None:
        self._bulk_answers += 1
        try:
            await self._outbox.bulk_space()
        finally:
            self._bulk_answers -= 1
        if not self._ended:
            self._outbox.put_bulk(reply)

    async def _ask(self, message: Any, timeout: float, *, bulk: bool) -> Any:
        loop = asyncio.get_running_loop()
        self._number += 1
        number = self._number
        frame = packing.pack(number, message)
        if self._ended:
            raise Unavailable(f"the link to {self._who} was lost: {self._ended}")
        future: asyncio.Future[Any] = loop.create_future()
        self._pending[number] = future
        alarm = loop.call_later(timeout, _expire, future)
        if bulk:
            self._outbox.put_bulk(frame)
        else:
            self._put(frame)
        try:
            reply = await future
        except TimeoutError:
            raise Unavailable(f"no answer from {self._who} within {timeout:g} s") from None
        finally:
            alarm.cancel()
            self._pending.pop(number, None)
        if type(reply) is PeerError:
            raise exception_of(reply)
        return reply

    def _put(self, frame: bytes) -> bool:
        if self._outbox.put(frame):
            return True
        self._lines.slow(self._who)
        self.end("it takes too little of what is sent to it")
        return False

    @property
    def _who(self) -> str:
        node = self.hello.node
        return f"{node.name or node.uid} at {node.address}"


def _expire(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_exception(TimeoutError())
