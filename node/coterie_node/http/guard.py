"""The connections of a port: counted, bounded in number and in patience, and told apart by whether they ask anything.

Whoever connects and asks nothing, or asks and takes no answer, is cut off: neither costs more than some seconds of a
connection. At the limits a new connection takes the place of the one that has asked nothing for longest, of its own
source where that has too many; where all are being answered it is told so in one line, and closed. Where a source opens
many, they wait for their turn (`newcomers.py`) before anything is made for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import structlog
from aiohttp import web

from coterie_protocol.words import counted

from ..logs.ration import Ration
from .masks import MaskedFrames
from .newcomers import Newcomers, NewcomersRate
from .origins import source_of
from .pieces import SMALL_BODY, InPieces

log = structlog.get_logger()

HEAD_TIMEOUT = 10.0
"""Seconds within which a request's head must be there."""
MAX_HEADERS = 64
"""Lines of a request's head, each of at most 8 KiB (aiohttp's own bound)."""
MAX_HELD = 16 * 1024
"""Bytes that a connection may send before it is let in: a request's head, and no more makes sense before an answer."""
FRAMES_AT_ONCE = 64
"""WebSocket frames of one connection that are taken in one turn of the loop ..."""
FRAMES_OF_SOURCE = 256
"""... and of all connections of one source: beyond it each connection has one."""
STUCK_LOOK = 15.0
"""Seconds between two looks at who takes nothing: one that took nothing from one look to the next is cut off."""


@dataclass(frozen=True)
class PortLimits:
    """How many connections a port takes, and for how long one may say nothing."""

    connections: int
    per_address: int
    idle: float
    """Seconds from the connection to its first whole request, and from one answer to the next request."""
    head: float = HEAD_TIMEOUT
    """Seconds from a request's first byte to its head's last, and from the connection to its first request."""
    newcomers: NewcomersRate | None = None
    """How many connections of one source are let in, and how fast; None lets in all."""
    reserve: int = 0
    """Connections above the limits that are taken all the same; `Guarded.refusal` says so to the application, which
    answers only what must always be answered."""
    body: int = SMALL_BODY
    """Bytes that a request may carry, as they travel."""


class Guarded(InPieces):
    """A connection: aiohttp's, counted, with its transport shown, which tells when it is written to and read from."""

    __slots__ = (
        "_admitted",
        "_begun",
        "_frames",
        "_guard",
        "_head",
        "_held",
        "_late",
        "_on",
        "address",
        "broken",
        "left",
        "on_broken",
        "on_data",
        "on_drained",
        "on_frames",
        "refusal",
        "wire",
    )

    def __init__(self, guard: Guard, manager: web.Server, limits: PortLimits) -> None:
        head = min(limits.head, limits.idle)
        super().__init__(
            manager,
            body_limit=limits.body,
            keepalive_timeout=max(limits.idle, head + 1.0),  # Whose head is late is told so before.
            max_headers=MAX_HEADERS,
            # 389 kB of gzip hold 400 MB, which would keep the node from everything else for two seconds.
            auto_decompress=False,
            access_log=None,  # aiohttp's own way to have none
        )
        self._guard = guard
        self._admitted = False
        self._head = head
        self._held: bytearray | None = None
        """What has come while the connection waits to be let in."""
        self._begun = False
        """Part of a request's head has come."""
        self._late: asyncio.TimerHandle | None = None
        """Rings when a request's head takes too long."""
        self._frames: MaskedFrames | None = None
        self._on: asyncio.Handle | None = None
        """Goes on with the frames that have come: nothing is read meanwhile."""
        self.address = ""
        """Where it comes from (`origins.source_of`)."""
        self.refusal = ""
        """Why only what must always be answered is; empty when everything is."""
        self.wire: asyncio.Transport
        self.left = 0
        """Bytes that waited for the other side at the last look."""
        self.broken = ""
        """Why what comes as a WebSocket is not read on."""
        self.on_broken: Callable[[str], None] | None = None
        """Called with that, as soon as it is so."""
        self.on_data: Callable[[int], None] | None = None
        """Called with the number of bytes that have come."""
        self.on_frames: Callable[[int], float] | None = None
        """Called with the number of WebSocket frames that are taken, whatever they hold; returns for how many seconds
        nothing more should be read."""
        self.on_drained: Callable[[], None] | None = None
        """Called when the other side has taken most of what it was too slow for."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or refuse it."""
        self.wire = transport = cast("asyncio.Transport", transport)  # uvloop's is none by its type
        peer = transport.get_extra_info("peername")
        self.address = source_of(str(peer[0])) if isinstance(peer, tuple) else ""
        admitted, self.refusal = self._guard.enter(self)
        if not admitted:
            transport.write(_line("503 Service Unavailable", self.refusal, "Retry-After: 1\r\n"))
            transport.close()
            return
        self._admitted = True
        self._late = asyncio.get_running_loop().call_later(self._head, self._too_late)
        self._held = bytearray()
        self._guard.come(self, self._let_in)
        if self._held is not None:
            transport.pause_reading()

    def _let_in(self) -> None:
        held, self._held = self._held, None
        if held is None or self.wire.is_closing():
            return
        super().connection_made(self.wire)
        self.wire.resume_reading()
        if held:
            self.data_received(bytes(held))

    def _hold(self, data: bytes) -> None:
        """Keep what came before the connection is let in: uvloop may read once after it was told not to."""
        assert self._held is not None
        self._held += data
        if len(self._held) > MAX_HELD:
            self.wire.abort()
        else:
            self.wire.pause_reading()

    def stop_waiting(self) -> None:
        """End a connection that was not let in: the port closes, and knows nothing of it."""
        if self._held is not None:
            self.wire.abort()

    def give_back(self) -> None:
        """Say that this connection was worth a newcomer's place of its source."""
        self._guard.give_back(self.address)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Count it no more."""
        if self._admitted:
            self._on_time()
            if self._on is not None:
                self._on.cancel()
                self._on = None
            self._guard.leave(self)
            if self._held is None:
                super().connection_lost(exc)
            self._held = None

    def data_received(self, data: bytes) -> None:
        """Take bytes."""
        if not self._admitted:
            return
        if self._held is not None:
            self._hold(data)
            return
        before = self._request_count
        super().data_received(data)
        if self._request_count != before:
            self._on_time()
            self._guard.busy(self)
        elif self._guard.is_idle(self):
            self._begun = True
            if self._late is None:
                self._late = asyncio.get_running_loop().call_later(self._head, self._too_late)
        if self.on_data is not None:
            self.on_data(len(data))

    def set_parser(self, parser: Any, data_received_cb: Callable[[], None] | None = None) -> None:
        """Read on as a WebSocket."""
        frames = self._frames = MaskedFrames(parser, self._break, self._most, self._passed)
        super().set_parser(frames, data_received_cb)  # type: ignore[arg-type]  # it is as one

    def _most(self) -> int:
        return self._guard.frames(self.address)

    def _passed(self, heads: int, more: bool) -> bool:
        """Count frames that are taken; say whether that was enough for now."""
        self._guard.took(self.address, heads)
        pause = self.on_frames(heads) if heads and self.on_frames is not None else 0.0
        if not more and pause <= 0:
            return False
        loop = asyncio.get_running_loop()
        self._on = loop.call_later(pause, self._go_on) if pause > 0 else loop.call_soon(self._go_on)
        self._pause_transport_reading()
        return True

    def _go_on(self) -> None:
        """Take more of the frames that have come, unless the reader has enough: it says so when it has not."""
        self._on = None
        if self._frames is None or self._reading_paused or self.transport is None:
            return
        if self._frames.go_on():
            self.close()
        elif self._on is None:
            self._resume_transport_reading()

    def _resume_transport_reading(self) -> None:
        if self._frames is None or not self._frames.held:
            super()._resume_transport_reading()
        elif self._on is None:
            self._on = asyncio.get_running_loop().call_soon(self._go_on)

    def _break(self, why: str) -> None:
        self.broken = why
        if self.on_broken is not None:
            self.on_broken(why)

    def _on_time(self) -> None:
        self._begun = False
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _too_late(self) -> None:
        """End a connection whose request did not come in time; who has begun one is told so."""
        if self._begun:
            self.wire.write(_line("408 Request Timeout", f"a request's head must be there within {self._head:g} s"))
        self.wire.close()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Write what is left of an answer; then the connection is idle, unless more was asked meanwhile."""
        result = await super().finish_response(request, resp, start_time)
        if not self._messages:
            self._guard.idle(self)
        return result

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no request in one line that repeats nothing of it.

        aiohttp's own answer would, and it logs a traceback.
        """
        if status != 400:
            return super().handle_error(request, status, exc, message)
        self._guard.nonsense(self.address, why=type(exc).__name__)
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun already")
        response = web.Response(status=400, text="this is no request of HTTP/1.1 as the node takes it; try again\n")
        response.force_close()
        return response

    def resume_writing(self) -> None:
        """Go on after a pause: the other side has taken most of what waited for it."""
        super().resume_writing()
        if self.on_drained is not None:
            self.on_drained()


class Guard:
    """Knows the connections of a port."""

    def __init__(self, whom: str, limits: PortLimits) -> None:
        self._whom = whom
        self._limits = limits
        self._by_source: dict[str, int] = {}
        """How many connections each source has."""
        self._number = 0
        self._idle: dict[str, dict[Guarded, None]] = {}
        """Those of them that are being asked nothing, the one that has been so for longest first."""
        self._waiting: dict[Guarded, None] = {}
        """The same of all sources."""
        self._newcomers = _newcomers(limits.newcomers) if limits.newcomers is not None else None
        self._frames: dict[str, int] = {}
        """WebSocket frames of each source that were taken in this turn of the loop."""
        self._reserve: dict[Guarded, None] = {}
        """Connections above the limits."""
        self._open: set[Guarded] = set()
        self._look_later: asyncio.TimerHandle | None = None
        self._refused = Ration(log.warning, "connections are refused")
        self._stuck = Ration(log.info, "a connection took nothing: cut off")
        self.nonsense = Ration(log.info, "what came is no HTTP request")

    def enter(self, one: Guarded) -> tuple[bool, str]:
        """Count a connection; return whether it is taken, and why not, or why only for what must be answered."""
        limits = self._limits
        refusal = ""
        if self._by_source.get(one.address, 0) >= limits.per_address and not self._shed(self._idle.get(one.address)):
            refusal = (
                f"more than {counted(limits.per_address, 'connection')} from one address; close some and try again"
            )
        elif self._number >= limits.connections and not self._shed(self._waiting):
            taken = counted(limits.connections, "connection")
            refusal = f"this node has {taken} and takes no more; try another node, or later"
        if refusal:
            self._refused(one.address, whom=self._whom, why=refusal)
            if not limits.reserve:
                return False, refusal
            if len(self._reserve) >= limits.reserve:
                self._drop(next(iter(self._reserve)))
            self._reserve[one] = None
        else:
            self._number += 1
            self._by_source[one.address] = self._by_source.get(one.address, 0) + 1
        self._open.add(one)
        self.idle(one)
        return True, refusal

    def leave(self, one: Guarded) -> None:
        """Count a connection no more; again is harmless."""
        if one not in self._open:
            return
        self._open.discard(one)
        self.busy(one)
        if self._newcomers is not None:
            self._newcomers.go(one.address, one)
        if one in self._reserve:
            del self._reserve[one]
            return
        self._number -= 1
        if self._by_source[one.address] > 1:
            self._by_source[one.address] -= 1
        else:
            del self._by_source[one.address]

    def frames(self, source: str) -> int:
        """Return how many WebSocket frames of a connection of this source may be taken now; 1 at least."""
        return max(1, min(FRAMES_AT_ONCE, FRAMES_OF_SOURCE - self._frames.get(source, 0)))

    def took(self, source: str, count: int) -> None:
        """Count WebSocket frames that were taken in this turn of the loop."""
        if not self._frames:
            asyncio.get_running_loop().call_soon(self._frames.clear)
        self._frames[source] = self._frames.get(source, 0) + count

    def come(self, one: Guarded, let_in: Callable[[], None]) -> None:
        """Let a connection in, at once or in its turn."""
        if self._newcomers is None:
            let_in()
        else:
            self._newcomers.come(one.address, one, let_in)

    def give_back(self, source: str) -> None:
        """Note that a connection of this source was worth its place."""
        if self._newcomers is not None:
            self._newcomers.give_back(source)

    def idle(self, one: Guarded) -> None:
        """Note that a connection is being asked nothing just now."""
        if one in self._open and one not in self._reserve:
            self._waiting[one] = None
            self._idle.setdefault(one.address, {})[one] = None

    def busy(self, one: Guarded) -> None:
        """Note that a connection has asked for something."""
        if one in self._waiting:
            del self._waiting[one]
            some = self._idle[one.address]
            del some[one]
            if not some:
                del self._idle[one.address]

    def is_idle(self, one: Guarded) -> bool:
        """Say whether a connection is being asked nothing just now."""
        return one in self._waiting or one in self._reserve

    def _shed(self, some: dict[Guarded, None] | None) -> bool:
        """Close the connection that has been idle for longest; say whether there was one."""
        if not some:
            return False
        self._drop(next(iter(some)))
        return True

    def _drop(self, one: Guarded) -> None:
        self.leave(one)
        if one.wire.get_write_buffer_size():
            one.wire.abort()  # In good order it would wait for one who takes nothing.
        else:
            one.wire.close()

    def start(self) -> None:
        """Begin to look after who takes nothing."""
        self._look_later = asyncio.get_running_loop().call_later(STUCK_LOOK, self.look)

    def stop(self) -> None:
        """Look no more."""
        if self._look_later is not None:
            self._look_later.cancel()
        for one in list(self._open):
            one.stop_waiting()
        for ration in (self._refused, self._stuck, self.nonsense):
            ration.tell()

    def look(self) -> None:
        """Cut off who has taken nothing of what waits for it since the last look.

        Closing such a connection in good order would never come to an end.
        """
        for one in list(self._open):
            left = one.wire.get_write_buffer_size()
            if 0 < one.left <= left:
                self._stuck(one.address, whom=self._whom, left=left)
                one.wire.abort()
            one.left = left
        self.start()


def _newcomers(rate: NewcomersRate) -> Newcomers:
    loop = asyncio.get_running_loop()
    return Newcomers(rate, loop.time, loop.call_later)


def _line(status: str, why: str, headers: str = "") -> bytes:
    """Write an answer of one line, after which the connection ends."""
    body = why.encode() + b"\n"
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\n{headers}"
        f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
