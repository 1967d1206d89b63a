"""A whole ring of one node (K = 1) behind a real client port: real rooms, a real store, real sockets."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import random
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from coterie_node.api.client import ClientApi
from coterie_node.api.passwords import PasswordPool
from coterie_node.chat.gateway.conversation import NodeFacts
from coterie_node.chat.gateway.logins import Passwords
from coterie_node.chat.service import Chat
from coterie_node.chat.settings import ChatSettings
from coterie_node.config.settings import Address
from coterie_node.http.guard import PortLimits
from coterie_node.http.listening import Port
from coterie_node.replication.antientropy.repair import Repair
from coterie_node.replication.antientropy.transfer import Offers
from coterie_node.replication.append.coordinator import Appender
from coterie_node.replication.commits import Arrivals
from coterie_node.replication.configuration import SlotTable
from coterie_node.replication.consensus.acceptors import Members
from coterie_node.replication.consensus.registers import Accounts
from coterie_node.replication.expiry.slot_clock import Calendar
from coterie_node.replication.routing import Router
from coterie_node.replication.settings import ReplicationSettings
from coterie_node.runtime.clock import SystemClock
from coterie_node.runtime.dispatch import Dispatcher, TaskGroup
from coterie_node.store.store import Store
from coterie_protocol.client_api import (
    CLIENT_PATH,
    ClientFrame,
    Hello,
    Kdf,
    Register,
    Request,
    ServerFrame,
    SessionGranted,
    Welcome,
)
from coterie_protocol.errors import CoterieError, Unavailable
from coterie_protocol.frames import decode_server, encode, exception_of
from coterie_protocol.identifiers import Uid
from coterie_protocol.nodes import NodeRef
from coterie_protocol.registers import Ballot, Config, SlotRegister

R = TypeVar("R")
ME = Uid("0" * 32)
RING = "a" * 32
SLOTS = 4


class NoPeers:
    """`ports.Peers` of a node that is alone."""

    me = ME

    def alive(self, uid: Uid) -> bool:
        return False

    def down_since(self, uid: Uid) -> float | None:
        return 0.0

    def learn(self, refs: Iterable[NodeRef]) -> None:
        """Nobody is there."""

    def ref(self, uid: Uid) -> NodeRef | None:
        return None

    def want(self, uids: Iterable[Uid]) -> None:
        """Nobody is there."""

    def send(self, uid: Uid, message: Any, *, bulk: bool = False) -> bool:
        return False

    async def request(self, uid: Uid, message: Any, timeout: float, *, bulk: bool = False) -> Any:
        raise Unavailable("nobody is there")

    def watch(self, callback: Callable[[Uid, bool], None]) -> None:
        """Nobody comes or goes."""

    async def contact(self, host: str, port: int, timeout: float) -> NodeRef:
        raise Unavailable("nobody is there")

    async def probe(self, ref: NodeRef, timeout: float) -> bool:
        return False


class Alone:
    """`ports.Suggestions` of a ring of one."""

    async def members(self, slots: Sequence[int]) -> dict[int, tuple[Uid, ...]]:
        return dict.fromkeys(slots, (ME,))

    def standins(self, members: Iterable[Uid]) -> list[Uid]:
        return []


class LoneNode:
    """The node, and the address of its client port."""

    def __init__(self, api: ClientApi, chat: Chat, port: Port, url: str) -> None:
        self.api = api
        self.chat = chat
        self.port = port
        self.url = url


@asynccontextmanager
async def lone_node(
    directory: Path,
    settings: ChatSettings | None = None,
    *,
    bcrypt_cost: int = 4,
    limits: PortLimits | None = None,
) -> AsyncIterator[LoneNode]:
    """Run a ring of one."""
    settings = settings or ChatSettings()
    replication = ReplicationSettings()
    store = await Store.open(directory)
    clock, tasks, dispatcher, peers, ring = SystemClock(), TaskGroup(), Dispatcher(), NoPeers(), Alone()
    arrivals, rng = Arrivals(), random.Random(1)
    ballot = Ballot(1, "boot")
    register = SlotRegister(ballot, ballot, Config(1, ballot, (), (ME,)))
    for slot in range(SLOTS):
        await store.transact(lambda tx, slot=slot: tx.put_slot_register(slot, register))  # type: ignore[misc]
    table = SlotTable(peers, SLOTS, 1)
    table.load((slot, register) for slot in range(SLOTS))
    members = Members(table, store, peers, dispatcher, tasks)
    router = Router(table, peers, ring, dispatcher, clock, rng)
    accounts = Accounts("boot", table, peers, members, clock, rng, replication)
    appender = Appender(table, store, peers, ring, dispatcher, tasks, clock, arrivals, replication)
    offers = Offers(table, store, peers, dispatcher, clock, arrivals, replication)
    repair = Repair(table, store, peers, offers, dispatcher, tasks, clock, arrivals, replication)
    pool = PasswordPool(bcrypt_cost, threads=1)
    chat = Chat(
        table=table,
        router=router,
        accounts=accounts,
        appender=appender,
        repair=repair,
        ages=Calendar(table, peers, dispatcher, clock, replication),
        arrivals=arrivals,
        store=store,
        peers=peers,
        dispatcher=dispatcher,
        clock=clock,
        tasks=tasks,
        passwords=Passwords(pool.hash, pool.check),
        facts=NodeFacts(RING, ME, "lone", 1, SLOTS, lambda: "ready", lambda: ["ws://elsewhere:7400"]),
        settings=settings,
    )
    chat.start()
    api = ClientApi(chat.gateway)
    port = Port(api.app, Address("127.0.0.1", 0), "clients", "--listen-client", limits or api.limits)
    number = await port.start()
    try:
        yield LoneNode(api, chat, port, f"ws://127.0.0.1:{number}")
    finally:
        await api.close(2.0)
        await port.close()
        await tasks.close()
        pool.close()
        await store.close()


class Peer:
    """A client on a real socket."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.events: list[Any] = []
        self._number = 0

    async def frames(self) -> list[ServerFrame]:
        """Return the frames of the next message; none when the connection has ended."""
        message = await self.socket.receive(timeout=10)
        return decode_server(message.data) if message.type is aiohttp.WSMsgType.BINARY else []

    async def send(self, request: Request) -> int:
        self._number += 1
        await self.socket.send_bytes(encode([ClientFrame(self._number, request)]))
        return self._number

    async def ask(self, request: Request, kind: type[R]) -> R:
        """Make a request; raises the CoterieError that is answered."""
        number = await self.send(request)
        while True:
            frames = await self.frames()
            assert frames, "the connection has ended"
            self.events += [frame.body for frame in frames if frame.id == 0]
            for frame in frames:
                if frame.id == number:
                    if isinstance(frame.body, kind):
                        return frame.body
                    raise exception_of(frame.body)  # type: ignore[arg-type]

    async def hello(self) -> Welcome:
        return await self.ask(Hello(1, 1, "test"), Welcome)

    async def register(self, name: str) -> SessionGranted:
        auth = base64.b64encode(hashlib.sha256(name.encode()).digest()).decode()
        return await self.ask(Register(name, Kdf(8, 1, 1), auth, b"", b"", name.encode().ljust(16)), SessionGranted)

    async def ended(self) -> list[Any]:
        """Wait for the end of the connection; return the bodies that came before it."""
        bodies = []
        async with asyncio.timeout(10):
            while frames := await self.frames():
                bodies += [frame.body for frame in frames]
        return bodies


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Peer]:
    """Open a client's connection."""
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(url + CLIENT_PATH, max_msg_size=1 << 22, timeout=aiohttp.ClientWSTimeout(ws_close=1)) as socket,
    ):
        yield Peer(socket)


__all__ = ["CoterieError", "LoneNode", "Peer", "connected", "lone_node"]
