"""A whole node in this process, on real sockets and a real disk, and what is watched of it: log, memory, doors."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import logging
import socket
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import structlog
from tests.fuzz.engine import Found
from tests.unit.api.lone_node import Peer

from coterie_node.assembly.node import Node
from coterie_node.config.settings import Address, NodeConfig
from coterie_protocol.client_api import (
    CLIENT_PATH,
    Discard,
    Done,
    Hello,
    Kdf,
    Mail,
    Register,
    Send,
    SessionGranted,
    Stored,
    Subscribe,
    Welcome,
)
from coterie_protocol.identifiers import message_id

T = TypeVar("T")
SOON = 20.0
"""Seconds for what should happen at once; the machine may be busy."""
MOST_GROWN = 256 * 1024 * 1024
"""Bytes by which this process may grow: above the bounds of a node's queues (docs/operations.md, "Limits")."""
RING = "ab" * 16


class Complaints(logging.Handler):
    """Collects what is logged as an error or with a traceback: nothing that is fed may lead to either."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.told.append(f"{record.name}: {record.getMessage()} {record.exc_info and record.exc_info[1]!r}")

    def take(self, _: Any, level: str, event: Any) -> Any:
        if level in ("error", "critical", "exception") or event.get("exc_info"):
            import sys

            self.told.append(f"{event['event']} {event} {sys.exc_info()[1]!r}")
        raise structlog.DropEvent

    def loop(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.told.append(f"event loop: {context.get('message')} {context.get('exception')!r}")


@contextlib.contextmanager
def listening(complaints: Complaints) -> Iterator[None]:
    """Have everything that is logged come to these."""
    before, root = structlog.get_config(), logging.getLogger()
    structlog.configure(processors=[complaints.take], cache_logger_on_first_use=False)
    root.addHandler(complaints)
    try:
        yield
    finally:
        root.removeHandler(complaints)
        structlog.configure(**before)


def free_port() -> int:
    """Return a port that nobody listens on just now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Place:
    """The node, and two honest users of it."""

    def __init__(self, directory: Path) -> None:
        self.loop = asyncio.new_event_loop()
        self.complaints = Complaints()
        self.client, self.peer, self.admin = free_port(), free_port(), free_port()
        self._stack = contextlib.ExitStack()
        token = directory / "token"
        token.write_text("the right token\n")
        self._config = NodeConfig(
            data_dir=directory / "node",
            name="fuzzed",
            found=True,
            ring_uid=RING,
            replication_factor=1,
            slots=16,
            listen_client=Address("127.0.0.1", self.client),
            listen_peer=Address("127.0.0.1", self.peer),
            listen_admin=Address("127.0.0.1", self.admin),
            admin_token_file=token,
            bcrypt_cost=4,
            logins_per_address=1_000_000,
        )
        self._sent = 0
        self._grown_from = 0
        self.people: list[Peer] = []

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Let the node and this work run until it is done."""
        return self.loop.run_until_complete(work)

    def start(self) -> None:
        """Start the node; two users register."""
        self._stack.enter_context(listening(self.complaints))
        self.loop.set_exception_handler(self.complaints.loop)
        self.node = Node(self._config)
        self.run(self._start())
        self._grown_from = _resident()

    def stop(self) -> None:
        """Stop it."""
        with self._stack:
            self.run(self._stop())
            self.loop.close()

    async def _start(self) -> None:
        await self.node.start()
        self.http = aiohttp.ClientSession()
        for name in ("bob", "carol"):
            person = await self.connect()
            await person.ask(register(name), SessionGranted)
            self.people.append(person)
        await self.people[1].ask(Subscribe(), Done)

    async def _stop(self) -> None:
        for person in self.people:
            await person.socket.close()
        await self.http.close()
        await self.node.stop()

    async def connect(self) -> Peer:
        """Open a client's connection and say hello."""
        socket = await self.http.ws_connect(f"ws://127.0.0.1:{self.client}{CLIENT_PATH}", max_msg_size=1 << 23)
        person = Peer(socket)
        await person.ask(Hello(1, 1, "fuzz"), Welcome)
        return person

    async def honest(self) -> None:
        """One user writes to another, who receives it and says so; the node is alive. Raises Found."""
        bob, carol = self.people
        self._sent += 1
        mid = message_id(1_800_000_000_000 + self._sent, self._sent.to_bytes(10, "big"))
        try:
            async with asyncio.timeout(SOON):
                await bob.ask(Send("carol", mid, b"hello"), Stored)
                while True:
                    mail = [item for event in carol.events if isinstance(event, Mail) for item in event.items]
                    carol.events.clear()
                    if mail:
                        await carol.ask(Discard([(item.sender, item.id, item.part) for item in mail]), Done)
                    if any(item.id == mid for item in mail):
                        return
                    frames = await carol.frames()
                    if not frames:
                        raise Found("an honest client's connection has ended")
                    carol.events += [frame.body for frame in frames if frame.id == 0]
        except TimeoutError:
            raise Found(f"an honest message does not arrive within {SOON:g} s") from None

    async def alive(self) -> None:
        """Raise Found unless /livez is well."""
        async with asyncio.timeout(SOON), self.http.get(f"http://127.0.0.1:{self.admin}/livez") as response:
            if response.status != 200:
                raise Found(f"/livez answers {response.status}: {await response.text()}")

    def check(self) -> None:
        """Raise Found for a traceback in the log, a node that stops, or memory that grows."""
        if self.complaints.told:
            raise Found(f"in the log: {self.complaints.told[0]}")
        if self.node.stopped.is_set():
            raise Found(f"the node wants to stop: {self.node.ending} {self.node.damage}")
        if (grown := _resident() - self._grown_from) > MOST_GROWN:
            raise Found(f"the process has grown by {grown >> 20} MiB")


def register(name: str) -> Register:
    """Return a request that registers an honest user."""
    auth = base64.b64encode(hashlib.sha256(name.encode()).digest()).decode()
    return Register(name, Kdf(8, 1, 1), auth, b"", b"", name.encode().ljust(16))


def _resident() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    except OSError:
        return 0  # no Linux: not looked at
