"""Real links on loopback ports, and a hand-made peer that does what no node would."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from coterie_node.peer.links import Links
from coterie_node.peer.settings import PeerSettings
from coterie_node.runtime.dispatch import Dispatcher, TaskGroup
from coterie_protocol.chat import AccountValue
from coterie_protocol.client_api import PEER_PATH
from coterie_protocol.frames import PeerFrame, decode_peer, encode
from coterie_protocol.identifiers import Uid
from coterie_protocol.nodes import Heartbeat, NodeRef, PeerHello, WhoIs

QUICK = PeerSettings(heartbeat=0.05, silence=0.5, dial_timeout=2.0, redial_first=0.01, redial_most=0.1)
PATIENT = PeerSettings(heartbeat=0.05, silence=60.0, dial_timeout=2.0)
RING, ANOTHER = "a" * 32, "b" * 32
SOON = 5.0
"""Seconds that something may take which should happen at once; the machine may be busy."""


class SystemClock:
    def now(self) -> float:
        return time.monotonic()

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def uid_of(number: int) -> Uid:
    return Uid(f"{number:032x}")


def event(text: Any) -> AccountValue:
    """An event that carries a text (nodes never send an AccountValue as one), or what cannot be encoded."""
    try:
        return AccountValue(text.encode())
    except (AttributeError, UnicodeError):
        return AccountValue(text)


class Node:
    """A node that has links and nothing else."""

    def __init__(
        self, number: int, settings: PeerSettings = QUICK, *, boot: str = "boot", ring: str = RING, k: int = 3
    ) -> None:
        self.uid = uid_of(number)
        self.ring, self.k, self.boot = ring, k, boot
        self.versions = (1, 1)
        self.host = "127.0.0.1"
        self.port = 0
        self.incarnation = number
        self.dispatcher = Dispatcher()
        self.tasks = TaskGroup()
        self.changes: list[tuple[Uid, bool]] = []
        self.foreign: list[str] = []
        self.texts: list[str] = []
        self._changed = asyncio.Condition()
        self._took = asyncio.Event()
        self.links = Links(self.hello, self.dispatcher, SystemClock(), self.tasks, settings)
        self.links.watch(lambda uid, alive: self.changes.append((uid, alive)))
        self.links.watch(lambda uid, alive: self._took.set())
        self.links.watch_foreign(lambda hello: self.foreign.append(hello.ring_uid))
        self.dispatcher.on_event(AccountValue, self._take)

    def hello(self) -> PeerHello:
        return PeerHello(*self.versions, self.ring, self.k, 1024, self.me, self.boot)

    @property
    def me(self) -> NodeRef:
        return NodeRef(self.uid, f"n{int(self.uid, 16)}", 0, self.host, self.port, 1, 2, self.incarnation)

    def _take(self, _: Uid, message: AccountValue) -> None:
        self.texts.append((message.value or b"").decode())
        self._took.set()

    async def until(self, condition: Any, seconds: float = SOON) -> None:
        """Wait until the condition holds; it is looked at after each event and each change of a link."""
        async with asyncio.timeout(seconds):
            while not condition():
                self._took.clear()
                await self._took.wait()

    async def start(self, port: int = 0) -> Node:
        self.port = await self.links.start("127.0.0.1", port)
        return self

    async def stop(self) -> None:
        await self.links.close()
        await self.tasks.close()

    async def meet(self, other: Node) -> None:
        """Link the two, and wait until both see it."""
        await self.links.contact("127.0.0.1", other.port, SOON)
        await other.until(lambda: other.links.alive(self.uid))


class RawPeer:
    """A WebSocket to a node's peer port, and what the script does with it."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, number: int) -> None:
        self.socket = socket
        self.uid = uid_of(number)

    async def hello(self, boot: str = "boot", *, probe: bool = False, **changes: Any) -> list[Any]:
        """Say hello; return the bodies of the answer."""
        node = NodeRef(self.uid, "raw", 0, "127.0.0.1", 1, 1, 1, 1)
        values = {"ring_uid": RING, "replication_factor": 3, "slots": 1024, **changes}
        await self.send(PeerHello(1, 1, node=node, boot=boot, probe=probe, **values))
        return await self.receive()

    async def link(self, boot: str = "boot") -> RawPeer:
        """Say hello and make the connection a link."""
        assert [type(body) for body in await self.hello(boot)] == [PeerHello]
        await self.send(Heartbeat())
        return self

    async def send(self, *bodies: Any) -> None:
        await self.socket.send_bytes(encode([PeerFrame(0, body) for body in bodies]))

    async def receive(self) -> list[Any]:
        return [frame.body for frame in decode_peer(await self.socket.receive_bytes(timeout=SOON))]

    async def ended(self) -> None:
        """Wait until the node has closed the connection."""
        with contextlib.suppress(ConnectionError):
            while (await self.socket.receive(timeout=SOON)).type is aiohttp.WSMsgType.BINARY:
                pass


@contextlib.asynccontextmanager
async def raw_peer(node: Node, number: int) -> AsyncIterator[RawPeer]:
    url = f"ws://127.0.0.1:{node.port}{PEER_PATH}"
    timeout = aiohttp.ClientWSTimeout(ws_close=0.1)
    async with aiohttp.ClientSession() as session, session.ws_connect(url, max_msg_size=0, timeout=timeout) as socket:
        yield RawPeer(socket, number)


def question() -> WhoIs:
    """A request that the test's own handler answers, or never does."""
    return WhoIs([])
