"""Nodes that chat, on the simulation's links, disks and clock, and clients that speak to them without sockets."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from tests.sim.chatting import ChatWitness, chat_of
from tests.sim.loop import run
from tests.sim.walk import whole
from tests.sim.world import SETTINGS, Process, World

from coterie_node.chat.gateway.conversation import Conversation
from coterie_node.chat.service import Chat
from coterie_node.chat.settings import ChatSettings
from coterie_node.replication.settings import ReplicationSettings
from coterie_protocol.client_api import (
    Archive,
    ClientFrame,
    Done,
    Drained,
    Error,
    Event,
    Hello,
    Kdf,
    Login,
    Mail,
    MailItem,
    Receipt,
    Register,
    Reply,
    Request,
    Resume,
    Send,
    SessionGranted,
    Stored,
    Subscribe,
    Welcome,
)
from coterie_protocol.errors import CoterieError, ErrorCode
from coterie_protocol.frames import exception_of
from coterie_protocol.identifiers import Uid, message_id
from coterie_protocol.records import OUTGOING

T = TypeVar("T")
R = TypeVar("R")
N = [Uid(f"n{number}") for number in range(5)]
SLOTS = 16
KDF = Kdf(8, 1, 1)


def auth_of(password: str) -> str:
    """Derive an auth key as cheaply as possible."""
    return base64.b64encode(hashlib.sha256(password.encode()).digest()).decode()


def op_of(number: int) -> bytes:
    """Return an operation id."""
    return number.to_bytes(16, "big")


class Client:
    """A client's connection (`chat.gateway.conversation.Client`) and the client behind it."""

    def __init__(self, process: Process, chat: Chat, address: str = "192.0.2.1") -> None:
        self.address = address
        self.process = process
        self._replies: dict[int, asyncio.Future[Reply]] = {}
        self._number = 0
        self.events: list[Event] = []
        self.mail: list[MailItem] = []
        self.receipts: list[tuple[str, bytes, int, int]] = []
        self.slow = False
        self.ended = False
        self.changed = asyncio.Event()
        self.conversation: Conversation = chat.gateway.converse(self)
        self.name = ""
        self.token = b""
        self.epoch = 0

    # --- chat.gateway.Client ---

    def reply(self, number: int, body: Reply) -> None:
        future = self._replies.pop(number)
        if not future.done():
            future.set_result(body)

    def push(self, event: Event) -> None:
        assert not self.ended
        self.events.append(event)
        if isinstance(event, Receipt):
            self.receipts += event.items
        self.changed.set()

    def push_mail(self, event: Mail | Drained) -> bool:
        if self.slow:
            return False
        if isinstance(event, Mail):
            self.mail += event.items
        else:
            self.events.append(event)
        self.changed.set()
        return True

    def end(self) -> None:
        self.ended = True
        self.changed.set()

    # --- what a user does ---

    def post(self, *requests: Request) -> list[asyncio.Future[Reply]]:
        """Send requests in one go."""
        futures = []
        for request in requests:
            self._number += 1
            future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
            self._replies[self._number] = future
            futures.append(future)
            self.process.context.copy().run(self.conversation.take, ClientFrame(self._number, request))
        return futures

    async def ask(self, request: Request, kind: type[R], timeout: float = 15.0) -> R:
        """Make a request; raises the CoterieError that is answered."""
        reply = await asyncio.wait_for(self.post(request)[0], timeout)
        if isinstance(reply, Error):
            raise exception_of(reply)
        assert isinstance(reply, kind), reply
        return reply

    async def hello(self) -> Welcome:
        return await self.ask(Hello(1, 1, "test"), Welcome)

    def _granted(self, granted: SessionGranted) -> SessionGranted:
        self.name, self.epoch = granted.name, granted.epoch
        self.token = granted.token or self.token
        return granted

    async def register(self, name: str, password: str = "secret", op: int = 1) -> SessionGranted:
        request = Register(name, KDF, auth_of(password), b"keys", b"vault", op_of(op))
        return self._granted(await self.ask(request, SessionGranted))

    async def login(self, name: str, password: str = "secret", op: int = 2) -> SessionGranted:
        return self._granted(await self.ask(Login(name, auth_of(password), op_of(op)), SessionGranted))

    async def resume(self, name: str, token: bytes) -> SessionGranted:
        self.token = token
        return self._granted(await self.ask(Resume(name, token), SessionGranted))

    async def send(self, to: str, number: int, body: bytes = b"") -> Stored:
        return await self.ask(Send(to, mid(number), body or b"message %d" % number), Stored)

    async def archive(self, *items: MailItem) -> None:
        copies = [(item.sender, item.id, item.part, b"copy of " + item.body) for item in items]
        await self.ask(Archive(copies), Done)

    async def subscribe(self) -> None:
        await self.ask(Subscribe(), Done)

    async def until(self, found: Callable[[], bool], timeout: float = 20.0) -> None:
        """Wait until something has come."""
        async with asyncio.timeout(timeout):
            while not found():
                self.changed.clear()
                await self.changed.wait()

    async def until_drained(self) -> None:
        await self.until(lambda: any(isinstance(event, Drained) for event in self.events))

    def got(self) -> set[tuple[str, bytes]]:
        return {(item.sender, item.id) for item in self.mail}

    def leave(self) -> None:
        self.process.context.copy().run(self.conversation.left)


def mid(number: int) -> bytes:
    """Return a message's id."""
    return message_id(1_800_000_000_000, number.to_bytes(10, "big"))


class ChatRing:
    """A whole ring whose nodes chat. Use it as `async with`."""

    def __init__(
        self,
        nodes: int = 5,
        *,
        settings: ChatSettings | None = None,
        found: bool = True,
        replication: ReplicationSettings = SETTINGS,
    ) -> None:
        self.settings = settings or ChatSettings()
        self.world = World(slots=SLOTS, settings=replication)
        self.world.witness = ChatWitness(self.world.replication_factor)
        self.chats: dict[Uid, Chat] = {}
        self._nodes = nodes
        self._found = found

    async def __aenter__(self) -> ChatRing:
        await self.world.__aenter__()
        for number in range(self._nodes):
            await self.start(N[number], found=not number)
        if self._nodes >= self.world.replication_factor:
            await whole(self.world, 10.0)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.world.__aexit__(*error)

    async def start(self, uid: Uid, *, found: bool = False) -> Chat:
        process = await self.world.start(uid, found=found)
        self.chats[uid] = chat_of(process, self.world.replication_factor, SLOTS, self.settings)
        return self.chats[uid]

    async def crash(self, uid: Uid) -> None:
        del self.chats[uid]
        await self.world.crash(uid)

    async def connect(self, uid: Uid, address: str = "192.0.2.1") -> Client:
        """Connect a client to a node and say hello."""
        client = Client(self.world.processes[uid], self.chats[uid], address)
        await client.hello()
        return client

    async def user(self, uid: Uid, name: str) -> Client:
        """Connect a client that registers."""
        client = await self.connect(uid)
        await client.register(name)
        return client

    def owner(self, name: str) -> Uid:
        """Return the acting owner of a name's slot."""
        return self.world.members_of(name)[0]

    def elsewhere(self, *names: str) -> Uid:
        """Return a running node that owns none of these names."""
        owners = {self.owner(name) for name in names}
        return next(uid for uid in self.chats if uid not in owners)


def simulated(story: Callable[[], Coroutine[Any, Any, T]], seed: int = 0) -> T:
    """Run a story in virtual time."""
    return run(story(), seed)


async def refusal(work: Coroutine[Any, Any, Any]) -> ErrorCode:
    """Return the code with which something is refused."""
    try:
        result = await work
    except CoterieError as error:
        return error.wire_code
    raise AssertionError(f"not refused: {result}")


__all__ = ["OUTGOING", "ChatRing", "Client", "N", "mid", "refusal", "simulated"]
