"""The network between the nodes, in the nemesis' hands: a TCP proxy in front of each node's peer port.

Node number i listens on 127.0.1.i and says that it is at 127.0.2.i, where the proxy is. Who dials is
told by the address it comes from, which the shim sees to, or else asked of the kernel (whose process holds the other
end of the socket): so each pair, and each direction of it, can be cut alone.
What is cut is silent, as on a real network: bytes wait in sockets, nothing is closed, new connections hang.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import cast

HIGH_WATER = 1024 * 1024
"""Bytes that wait for a slow reader until its peer is read no more."""
DIAL_SECONDS = 5.0


def listen_host(number: int) -> str:
    """Return where node number i listens."""
    return f"127.0.1.{number}"


def public_host(number: int) -> str:
    """Return where others reach node number i."""
    return f"127.0.2.{number}"


def why_not() -> str:
    """Return why there can be no such network here; empty when it can be."""
    try:
        with socket.create_server((public_host(250), 0)):
            return "" if os.path.exists("/proc/net/tcp") else "who dials is asked of Linux's /proc"
    except OSError as error:
        return f"not all of 127.0.0.0/8 is this machine's: {error}"


@dataclass(frozen=True)
class Place:
    """A node as the network knows it."""

    name: str
    number: int
    port: int


class Network:
    """The proxies. `pids` says which process is which node."""

    def __init__(self, pids: Callable[[], Mapping[int, str]]) -> None:
        self._pids = pids
        self._servers: list[asyncio.Server] = []
        self._names: dict[str, str] = {}
        self._asking = ThreadPoolExecutor(2, "who dials")
        self.pipes: set[Pipe] = set()
        self.fronts: set[Front] = set()
        self._cuts: dict[object, frozenset[tuple[str, str]]] = {}
        self.blocked: frozenset[tuple[str, str]] = frozenset()
        self._news: asyncio.Future[None] | None = None
        """Done at the next change of what is cut."""
        self.unknown = 0
        """Connections of which nobody could tell whose they are; they are never cut."""

    async def add(self, place: Place) -> None:
        """Stand in front of a node."""
        loop = asyncio.get_running_loop()
        self._names[listen_host(place.number)] = place.name
        server = await loop.create_server(lambda: Front(self, place), public_host(place.number), place.port)
        self._servers.append(server)

    async def close(self) -> None:
        """Stop, and close all connections."""
        self._asking.shutdown(wait=False, cancel_futures=True)
        for server in self._servers:
            server.close()
        for pipe in list(self.pipes):
            pipe.close()
        for front in list(self.fronts):
            front.drop()
        for _ in range(3):  # turns of the loop, in which each protocol is told of its end and sockets are closed
            await asyncio.sleep(0)

    def cut(self, key: object, directions: Iterable[tuple[str, str]]) -> None:
        """Let nothing pass in these directions (from, to) until the key is healed."""
        self._cuts[key] = frozenset(directions)
        self._changed()

    def heal(self, key: object) -> None:
        """Undo one cut; others stay."""
        self._cuts.pop(key, None)
        self._changed()

    async def healed(self, pipe: Pipe) -> None:
        """Wait until a connection could be made again."""
        while any(direction in self.blocked for direction in pipe.directions):
            self._news = self._news or asyncio.get_running_loop().create_future()
            await asyncio.shield(self._news)

    def _changed(self) -> None:
        if self._news is not None:
            self._news.set_result(None)
            self._news = None
        self.blocked = frozenset().union(*self._cuts.values())
        for pipe in list(self.pipes):
            pipe.refresh()

    async def who(self, host: str, port: int) -> str:
        """Return which node dials from this address, "" if none does."""
        if host in self._names:
            return self._names[host]
        # In threads of its own: others may all be waiting for nodes.
        return await asyncio.get_running_loop().run_in_executor(self._asking, self._ask, host, port)

    def _ask(self, host: str, port: int) -> str:
        inode = _inode(host, port)
        if inode:
            for pid, name in self._pids().items():
                with contextlib.suppress(OSError):
                    for fd in os.listdir(f"/proc/{pid}/fd"):
                        with contextlib.suppress(OSError):
                            if os.readlink(f"/proc/{pid}/fd/{fd}") == f"socket:[{inode}]":
                                return name
        return ""


def _inode(host: str, port: int) -> str:
    address = f"{struct.unpack('=I', socket.inet_aton(host))[0]:08X}:{port:04X}"
    with open("/proc/net/tcp") as table:
        for line in table:
            fields = line.split(maxsplit=10)
            if len(fields) > 9 and fields[1] == address:
                return fields[9]
    return ""


class Pipe:
    """One connection: from the dialler (side 0) to the node (side 1)."""

    def __init__(self, network: Network, source: str, target: str) -> None:
        self._network = network
        self.directions = ((source, target), (target, source))
        self._sides: list[asyncio.Transport | None] = [None, None]
        self._choked = [False, False]
        """Whether what goes to this side waits for it to read."""
        self._lost = [False, False]
        network.pipes.add(self)

    @property
    def cut(self) -> bool:
        """Say whether no new connection can be made: that takes both directions."""
        return any(direction in self._network.blocked for direction in self.directions)

    def join(self, side: int, transport: asyncio.Transport) -> None:
        """Put a socket at one side."""
        self._sides[side] = transport
        transport.set_write_buffer_limits(HIGH_WATER)
        self.refresh()

    def bytes(self, side: int, data: bytes) -> None:
        """Pass on what came from one side."""
        other = self._sides[1 - side]
        if other is not None and not other.is_closing():
            other.write(data)

    def choke(self, side: int, yes: bool) -> None:
        """Note that one side reads too slowly, or goes on."""
        self._choked[side] = yes
        self.refresh()

    def lost(self, side: int) -> None:
        """One side has ended; the other hears of it unless that way is cut."""
        self._lost[side] = True
        self.refresh()

    def refresh(self) -> None:
        """Do what the network's cuts say now."""
        for side, direction in enumerate(self.directions):
            transport = self._sides[side]
            if transport is None:
                continue
            blocked = direction in self._network.blocked
            other = self._sides[1 - side]
            if self._lost[side] and not blocked and other is not None and not self._lost[1 - side]:
                other.close()
            if self._lost[side] or transport.is_closing():
                continue
            if blocked or self._choked[1 - side] or other is None:
                transport.pause_reading()
            else:
                transport.resume_reading()
        if all(self._lost):
            self._network.pipes.discard(self)

    def close(self) -> None:
        """Drop both sides."""
        for transport in self._sides:
            if transport is not None:
                transport.abort()
        self._network.pipes.discard(self)


class Side(asyncio.Protocol):
    """One socket of a pipe."""

    pipe: Pipe
    side = 1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.pipe.join(self.side, cast(asyncio.Transport, transport))

    def data_received(self, data: bytes) -> None:
        self.pipe.bytes(self.side, data)

    def pause_writing(self) -> None:
        self.pipe.choke(self.side, True)

    def resume_writing(self) -> None:
        self.pipe.choke(self.side, False)

    def connection_lost(self, exc: Exception | None) -> None:
        self.pipe.lost(self.side)


class Back(Side):
    """The socket to the node."""

    def __init__(self, pipe: Pipe) -> None:
        self.pipe = pipe


class Front(Side):
    """The socket that the dialler opened. Nothing is read from it before it is known who that is."""

    side = 0

    def __init__(self, network: Network, place: Place) -> None:
        self._network = network
        self._place = place
        self._opening: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport | None = None
        self._gone = False
        self._early: list[bytes] = []
        """What came before the node was dialled: uvloop reads once more after it was asked to pause."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)
        transport.pause_reading()
        self._transport = transport
        self._network.fronts.add(self)
        self._opening = asyncio.get_running_loop().create_task(self._open(transport))

    def data_received(self, data: bytes) -> None:
        if hasattr(self, "pipe"):
            super().data_received(data)
        else:
            self._early.append(data)

    def drop(self) -> None:
        """Close it, whether it is known already whose it is or not."""
        if self._opening is not None:
            self._opening.cancel()
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone = True
        self._network.fronts.discard(self)
        if hasattr(self, "pipe"):
            self.pipe.lost(0)

    async def _open(self, transport: asyncio.Transport) -> None:
        loop = asyncio.get_running_loop()
        host, port = transport.get_extra_info("peername")[:2]
        source = await self._network.who(host, port)
        if not source:
            self._network.unknown += 1
        pipe = Pipe(self._network, source, self._place.name)
        try:
            if pipe.cut:
                await self._network.healed(pipe)  # SYNs are lost: the dialler waits until it gives up
                transport.abort()
                return
            async with asyncio.timeout(DIAL_SECONDS):
                await loop.create_connection(lambda: Back(pipe), listen_host(self._place.number), self._place.port)
        except (OSError, TimeoutError):
            transport.abort()  # as a closed port would
            return
        finally:
            if pipe._sides[1] is None:
                self._network.pipes.discard(pipe)
        self.pipe = pipe
        if self._gone:
            pipe.close()
        else:
            for data in self._early:
                pipe.bytes(0, data)
            pipe.join(0, transport)
