"""A small real server that speaks the client API: one ring held in memory, any number of gateways over it.

It keeps what a ring would (accounts, mailboxes, sessions), so that clients can be driven end to end; faults are
scripted by `World.faults`, a function asked before every request.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field

from aiohttp import WSMsgType, web

from coterie_protocol.client_api import (
    CLIENT_PATH,
    Archive,
    ClientFrame,
    Closing,
    Discard,
    Done,
    Drained,
    Error,
    Event,
    Hello,
    Kdf,
    Keep,
    Limits,
    Login,
    LoginParams,
    LoginParamsReply,
    Logout,
    Lookup,
    LookupReply,
    Mail,
    MailItem,
    Page,
    PageReply,
    PresenceItem,
    PresenceQuery,
    PresenceReply,
    Receipt,
    Register,
    Reply,
    Request,
    Resume,
    Send,
    ServerFrame,
    SessionGranted,
    States,
    StatesReply,
    Stored,
    Subscribe,
    Superseded,
    Unsubscribed,
    Welcome,
)
from coterie_protocol.errors import ErrorCode
from coterie_protocol.frames import decode_client, encode

RING_UID = "0f" * 16
BATCH = 500


@dataclass
class Account:
    """An account: its secrets, its session and its mailbox, {(sender, id): item}."""

    name: str
    auth: str
    kdf: Kdf
    epoch: int = 0
    token: bytes = b""
    mailbox: dict[tuple[str, bytes], MailItem] = field(default_factory=dict)
    links: list[Gateway] = field(default_factory=list)


class Refusal(Exception):
    """A request that is answered by an Error."""

    def __init__(self, code: ErrorCode, detail: str = "so it is scripted", value: int = 0) -> None:
        super().__init__(detail)
        self.error = Error(int(code), detail, value)


@dataclass
class World:
    """The ring behind the gateways."""

    ring_uid: str = RING_UID
    accounts: dict[str, Account] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    messages: list[list[Request]] = field(default_factory=list)
    """The requests of each WebSocket message."""
    faults: Callable[[Gateway, Request], None] = lambda gateway, request: None
    """May raise Refusal, or ConnectionError to break the connection."""
    archive_records: int = 1_000_000
    """Archived messages that each user may have."""
    servers: list[str] = field(default_factory=list)
    """What is named to clients as other servers."""
    drains: bool = True
    """Whether it is ever said that everything has come."""
    certain: bool = True
    """Whether drains say that nobody who is away can have more."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    sockets: list[web.WebSocketResponse] = field(default_factory=list)

    def account(self, name: str) -> Account:
        if name not in self.accounts:
            raise Refusal(ErrorCode.NO_SUCH_USER, f"nobody is called {name}")
        return self.accounts[name]

    def pending(self, name: str) -> list[MailItem]:
        return [item for item in self.accounts[name].mailbox.values() if item.state == 0]

    def archived(self, name: str) -> list[MailItem]:
        return [item for item in self.accounts[name].mailbox.values() if item.state == 2]

    def put(self, owner: Account, item: MailItem) -> int:
        """Store a record as pending and push it; return when it was stored."""
        held = owner.mailbox.get((item.sender, item.id))
        if held is not None:
            if held.state == 0 and held.body != item.body:
                raise Refusal(ErrorCode.DUPLICATE_ID)
            return held.stored_at
        owner.mailbox[item.sender, item.id] = item
        for link in owner.links:
            if link.subscribed:
                link.push(Mail([item]))
        return item.stored_at

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a request has made the condition true."""
        async with asyncio.timeout(20):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


class Gateway:
    """One client's connection to one server."""

    def __init__(
        self, world: World, socket: web.WebSocketResponse, port: int, speak: Callable[[Sequence[ServerFrame]], bytes]
    ) -> None:
        self.world = world
        self.speak = speak
        self.socket = socket
        self.port = port
        self.account: Account | None = None
        self.subscribed = False
        self.gone = asyncio.Event()
        self.outgoing: asyncio.Queue[ServerFrame | None] = asyncio.Queue()

    def push(self, event: Event) -> None:
        self.outgoing.put_nowait(ServerFrame(0, event))

    async def run(self) -> None:
        writer = asyncio.create_task(self._write())
        try:
            async for message in self.socket:
                if message.type is not WSMsgType.BINARY:
                    break
                frames = decode_client(message.data)
                self.world.messages.append([frame.body for frame in frames])
                for frame in frames:
                    self._serve(frame)
        except ConnectionError:
            pass
        finally:
            self.subscribed = False
            if self.account is not None and self in self.account.links:
                self.account.links.remove(self)
            self.outgoing.put_nowait(None)
            await writer
            self.gone.set()
            await self.socket.close()

    async def _write(self) -> None:
        while True:
            frames = [await self.outgoing.get()]
            while not self.outgoing.empty() and len(frames) < 50:
                frames.append(self.outgoing.get_nowait())
            packed = [frame for frame in frames if frame is not None]
            with contextlib.suppress(ConnectionError):
                if packed:
                    await self.socket.send_bytes(self.speak(packed))
            if None in frames:
                return
            if any(isinstance(frame.body, Superseded) for frame in packed):
                await self.socket.close()
                return

    def _serve(self, frame: ClientFrame) -> None:
        self.world.requests.append(frame.body)
        try:
            self.world.faults(self, frame.body)
            reply: Reply = self._answer(frame.body)
        except Refusal as refusal:
            reply = refusal.error
        self.outgoing.put_nowait(ServerFrame(frame.id, reply))
        if isinstance(frame.body, Subscribe) and isinstance(reply, Done):
            waiting = self.world.pending(self._me.name)
            for start in range(0, len(waiting), BATCH):
                self.push(Mail(waiting[start : start + BATCH]))
            if self.world.drains:
                self.push(Drained(self.world.certain))
        self.world.changed.set()

    @property
    def _me(self) -> Account:
        if self.account is None:
            raise Refusal(ErrorCode.NOT_LOGGED_IN)
        return self.account

    def _grant(self, account: Account) -> SessionGranted:
        for link in list(account.links):
            link.push(Superseded(now()))
            account.links.remove(link)
        account.epoch += 1
        account.token = secrets.token_bytes(32)
        self._attach(account)
        return SessionGranted(account.name, account.epoch, account.token, b"", b"")

    def _attach(self, account: Account) -> None:
        self.account = account
        account.links.append(self)

    def _answer(self, request: Request) -> Reply:
        world = self.world
        match request:
            case Hello():
                limits = Limits(65_536, 72 * 1024, 1 << 20, 1000)
                return Welcome(
                    1, world.ring_uid, f"{self.port:032x}", "n", "ready", 3, 1024, limits, world.servers, now()
                )
            case Register():
                if request.name in world.accounts:
                    raise Refusal(ErrorCode.NAME_TAKEN)
                world.accounts[request.name] = Account(request.name, request.auth, request.kdf)
                return self._grant(world.accounts[request.name])
            case LoginParams():
                return LoginParamsReply(world.account(request.name).kdf)
            case Login():
                account = world.account(request.name)
                if account.auth != request.auth:
                    raise Refusal(ErrorCode.REFUSED, "the password is wrong")
                return self._grant(account)
            case Resume():
                account = world.account(request.name)
                if account.token != request.token:
                    raise Refusal(ErrorCode.SUPERSEDED, "a later login took it", now())
                self._attach(account)
                return SessionGranted(account.name, account.epoch, b"", b"", b"")
            case Logout():
                self._me.token = b""
                return Done()
            case Subscribe():
                for link in self._me.links:
                    if link.subscribed and link is not self:
                        link.subscribed = False
                        link.push(Unsubscribed())
                self.subscribed = True
                return Done()
            case Send():
                me = self._me
                item = MailItem(me.name, request.id, 0, 0, request.body, b"", me.epoch, now())
                return Stored(world.put(world.account(request.to), item), 2)
            case Keep():
                me = self._me
                return Stored(world.put(me, MailItem("", request.id, 0, 0, request.body, b"", me.epoch, now())), 2)
            case Archive():
                if len(world.archived(self._me.name)) >= world.archive_records:
                    raise Refusal(ErrorCode.ARCHIVE_FULL, "the archive is full")
                self._archive(request.items, 2)
                return Done()
            case Discard():
                self._archive([(*item, b"") for item in request.items], 3)
                return Done()
            case Page():
                return self._page(request)
            case States():
                held = world.account(request.to).mailbox
                items = [
                    (i, held[self._me.name, i].state if (self._me.name, i) in held else -1, 0) for i in request.ids
                ]
                return StatesReply(items)
            case PresenceQuery():
                known = [world.accounts[name] for name in request.names if name in world.accounts]
                return PresenceReply([PresenceItem(account.name, bool(account.links), now()) for account in known])
            case Lookup():
                return LookupReply(world.account(request.name).name, b"", now())

    def _archive(self, items: Iterable[tuple[str, bytes, int, bytes]], state: int) -> None:
        me = self._me
        for sender, message_id, part, copy in items:
            held = me.mailbox.get((sender, message_id))
            stored_at = held.stored_at if held else now()
            me.mailbox[sender, message_id] = MailItem(sender, message_id, part, state, copy, b"", me.epoch, stored_at)
            if sender in self.world.accounts and (held is None or held.state == 0):
                for link in self.world.accounts[sender].links:
                    link.push(Receipt([(me.name, message_id, state, now())]))

    def _page(self, request: Page) -> PageReply:
        items = sorted(self.world.archived(self._me.name), key=lambda item: (item.stored_at, item.id), reverse=True)
        start = int.from_bytes(request.before, "big")
        end = start + request.limit
        return PageReply(items[start:end], end.to_bytes(4, "big") if end < len(items) else b"")


def now() -> int:
    return time.time_ns() // 1_000_000


class Server:
    """One node's client port."""

    def __init__(self, world: World, speak: Callable[[Sequence[ServerFrame]], bytes] = encode) -> None:
        """`speak` writes frames; a liar writes others."""
        self.world = world
        self.speak = speak
        self.url = ""
        self._runner: web.AppRunner | None = None
        self._gateways: list[Gateway] = []

    async def start(self, port: int = 0) -> None:
        app = web.Application()
        app.router.add_get(CLIENT_PATH, self._connect)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port).start()
        port = self._runner.addresses[0][1]
        self.url = f"ws://127.0.0.1:{port}"

    async def _connect(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(max_msg_size=1 << 20)
        await socket.prepare(request)
        gateway = Gateway(self.world, socket, int(self.url.rsplit(":", 1)[1]), self.speak)
        self._gateways.append(gateway)
        try:
            await gateway.run()
        finally:
            self._gateways.remove(gateway)
        return socket

    def announce_closing(self) -> None:
        for gateway in self._gateways:
            gateway.push(Closing())

    def freeze(self, frozen: bool = True) -> None:
        """Say nothing more, and read nothing; or go on."""
        for gateway in self._gateways:
            transport = gateway.socket._req.transport if gateway.socket._req else None
            assert isinstance(transport, asyncio.Transport)
            if frozen:
                transport.pause_reading()
            else:
                transport.resume_reading()

    async def kill(self) -> None:
        """Break every connection and listen no more."""
        for gateway in list(self._gateways):
            transport = gateway.socket._req.transport if gateway.socket._req else None
            if transport is not None:
                transport.abort()
        await self.stop()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None


@contextlib.asynccontextmanager
async def serving(world: World, count: int = 1) -> AsyncIterator[list[Server]]:
    """Run servers over one world."""
    servers = [Server(world) for _ in range(count)]
    for server in servers:
        await server.start()
    try:
        yield servers
    finally:
        for server in servers:
            await server.stop()
