"""A node's memory stays bounded whoever is stuck: a replica that is frozen, and a thousand clients that do not read."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import os
import random
import resource
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path

import pytest
from tests.cluster.conftest import MakeRing
from tests.cluster.harness import Node
from tests.mute import Mute

from coterie_protocol.client_api import (
    Archive,
    ClientFrame,
    Done,
    Drained,
    Error,
    Hello,
    Kdf,
    Mail,
    Register,
    Reply,
    Request,
    Resume,
    Send,
    SessionGranted,
    States,
    StatesReply,
    Stored,
    Subscribe,
)
from coterie_protocol.errors import ErrorCode
from coterie_protocol.frames import encode
from coterie_protocol.identifiers import message_id

MEBIBYTE = 1024 * 1024
BOUND = 400 * MEBIBYTE
"""Resident bytes of a node. A busy one has some 150 MiB; what stuck clients may cost is 128 MiB (`clients_bytes`),
what a stuck peer may is 64 MiB (`urgent_bytes`), and messages on their way 56 MiB. Measured: 250 to 290 MiB."""
READERS, SILENT, HALVES, FLOODS = 500, 150, 200, 150
SENDERS, IN_FLIGHT = 8, 64
BODY = 2000
PARTS = (1000, 400_000, 1_000_000)
"""Bytes of a message of which the rest never comes."""
REQUESTS = 4000
"""Requests of one who floods, in one message; the answers are some twenty times as long."""
EXAMPLES = 20
"""Mailboxes that are read to their end afterwards."""
UNSURE = {ErrorCode.BUSY, ErrorCode.UNAVAILABLE, ErrorCode.RATE_LIMITED, ErrorCode.STALE_EPOCH}


class Account:
    """Somebody with a connection of their own."""

    def __init__(self, name: str, connection: Mute, token: bytes) -> None:
        self.name = name
        self.connection = connection
        self.token = token
        self.acknowledged: dict[str, set[bytes]] = {}
        """Ids of messages to them that were acknowledged, by sender."""
        self._numbers = itertools.count(10)

    async def ask(self, request: Request) -> Reply:
        """Make a request, wait as it is told, and for its answer; what comes before it is passed over."""
        while True:
            reply = await self._answer(request)
            if not isinstance(reply, Error):
                return reply
            assert reply.code == ErrorCode.RATE_LIMITED, reply
            await asyncio.sleep(reply.value / 1000)

    async def _answer(self, request: Request) -> Reply:
        number = next(self._numbers)
        self.connection.ask((number, request))
        while True:
            for frame in await self.connection.frames():
                if frame.id == number:
                    return frame.body  # type: ignore[return-value]


async def account(url: str, name: str) -> Account:
    """Register somebody."""
    connection = await Mute.connect(url)
    await connection.upgrade()
    auth = base64.b64encode(os.urandom(32)).decode()
    connection.ask((1, Hello(1, 1, "mute")), (2, Register(name, Kdf(8, 1, 1), auth, b"", b"", os.urandom(16))))
    while True:
        for frame in await connection.frames():
            if frame.id == 2:
                assert isinstance(frame.body, SessionGranted), frame.body
                return Account(name, connection, frame.body.token)


async def resumed(url: str, one: Account) -> Account:
    """Go on with an account's session on a new connection."""
    connection = await Mute.connect(url)
    await connection.upgrade()
    connection.ask((1, Hello(1, 1, "mute")))
    again = Account(one.name, connection, one.token)
    assert isinstance(await again.ask(Resume(one.name, one.token)), SessionGranted)
    return again


async def accounts(nodes: Sequence[Node], prefix: str, count: int) -> list[Account]:
    """Register many, spread over nodes, some at a time."""
    made: list[Account] = []
    for start in range(0, count, 50):
        made += await asyncio.gather(
            *(account(nodes[i % len(nodes)].url, f"{prefix}{i}") for i in range(start, min(start + 50, count)))
        )
    return made


class Memory:
    """Watches how much memory processes have, as long as the block lasts."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self._pids = {node.name: node.pid for node in nodes}
        self.peak: dict[str, int] = dict.fromkeys(self._pids, 0)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Memory:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            for name, pid in self._pids.items():
                self.peak[name] = max(self.peak[name], resident(pid))
            await asyncio.sleep(0.1)

    def __str__(self) -> str:
        return ", ".join(f"{name} {peak / MEBIBYTE:.0f} MiB" for name, peak in self.peak.items())


def resident(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def flood(nodes: Sequence[Node], senders: Sequence[Account], readers: Sequence[Account], seconds: float) -> int:
    """Send to random readers as fast as it goes; return how many messages were acknowledged."""
    fresh = [await resumed(nodes[number % len(nodes)].url, one) for number, one in enumerate(senders)]
    end = time.monotonic() + seconds
    counts = await asyncio.gather(*(_flood(one, readers, end) for one in fresh))
    for one in fresh:
        one.connection.abort()
    return sum(counts)


async def _flood(sender: Account, readers: Sequence[Account], end: float) -> int:
    body = os.urandom(BODY)
    under_way: dict[int, tuple[Account, bytes]] = {}
    numbers = itertools.count(1_000_000)
    acknowledged = 0

    def send(to: Account, mid: bytes) -> None:
        number = next(numbers)
        under_way[number] = (to, mid)
        sender.connection.ask((number, Send(to.name, mid, body)))

    for _ in range(IN_FLIGHT):
        send(random.choice(readers), message_id(time.time_ns() // 1_000_000, os.urandom(10)))
    while under_way:
        for frame in await sender.connection.frames():
            if frame.id not in under_way:
                continue
            to, mid = under_way.pop(frame.id)
            if isinstance(frame.body, Stored):
                to.acknowledged.setdefault(sender.name, set()).add(mid)
                acknowledged += 1
            else:
                assert isinstance(frame.body, Error)
                assert frame.body.code in UNSURE, frame.body
                await asyncio.sleep(0.05)
            if time.monotonic() < end:
                send(random.choice(readers), message_id(time.time_ns() // 1_000_000, os.urandom(10)))
    return acknowledged


@contextlib.asynccontextmanager
async def reading(some: Iterable[Account]) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(one.connection.drain()) for one in some]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def stuck_strangers(nodes: Sequence[Node]) -> None:
    """Connect those who never come to have a session: some say nothing, some stop in the middle of a message.

    And some ask a lot, and read nothing of the answers.
    """
    count = SILENT + HALVES + FLOODS
    strangers = await asyncio.gather(*(Mute.connect(nodes[number % len(nodes)].url) for number in range(count)))
    await asyncio.gather(*(one.upgrade() for one in strangers[SILENT // 2 :]))
    for number, one in enumerate(strangers[SILENT : SILENT + HALVES]):
        one.ask((1, Hello(1, 1, "mute")))
        one.send(bytes(MEBIBYTE - 1), PARTS[number % len(PARTS)])
    flood = encode([ClientFrame(number + 1, Hello(1, 1, "mute")) for number in range(REQUESTS)])
    for one in strangers[SILENT + HALVES :]:
        one.send(flood)


async def held(url: str, sender: Account, readers: Iterable[Account]) -> None:
    """Check by the sender's own question that each of its acknowledged messages is in its mailbox."""
    again = await resumed(url, sender)
    for to in readers:
        ids = sorted(to.acknowledged.get(sender.name, ()))
        for start in range(0, len(ids), 1000):
            answer = await again.ask(States(to.name, ids[start : start + 1000]))
            assert isinstance(answer, StatesReply)
            assert all(state >= 0 for _, state, _ in answer.items), f"{to.name} has lost messages"
    again.connection.abort()


async def collected(url: str, reader: Account) -> set[bytes]:
    """Read a mailbox to its end as its owner; return the ids of all messages."""
    connection = (await resumed(url, reader)).connection
    ids: set[bytes] = set()
    numbers = itertools.count(1000)
    try:
        connection.ask((next(numbers), Subscribe()))
        while True:
            for frame in await connection.frames():
                body = frame.body
                if isinstance(body, Mail):
                    ids |= {item.id for item in body.items}
                    copies = [(item.sender, item.id, item.part, b"") for item in body.items]
                    connection.ask((next(numbers), Archive(copies)))
                elif isinstance(body, Drained):
                    return ids
                else:
                    assert isinstance(body, Done) or not frame.id, body
    finally:
        connection.abort()


@pytest.fixture
async def hanging_up() -> AsyncIterator[None]:
    yield
    for one in list(Mute.open):
        one.abort()
    await asyncio.sleep(0)


@pytest.fixture
def many_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4096
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"a thousand clients need more than the {hard} files that are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


@pytest.mark.timeout(150)
@pytest.mark.usefixtures("many_files", "hanging_up")
async def test_memory_is_bounded_while_a_replica_and_a_thousand_clients_are_stuck(make_ring: MakeRing) -> None:
    ring = make_ring(3, COTERIE_NODE_LOGINS_PER_ADDRESS="100000", COTERIE_NODE_SENDS_PER_SECOND="1000000")
    ring.start()
    await ring.ready()
    frozen, *live = ring.nodes
    readers = await accounts(live, "reader", READERS)
    senders = await accounts(live, "sender", SENDERS)
    for reader in readers:
        assert isinstance(await reader.ask(Subscribe()), Done)
    async with Memory(live) as usual, reading(readers):
        sent = await flood(live, senders, readers, 4.0)
    print(f"nobody stuck: {sent} messages; {usual}")
    frozen.freeze()
    await stuck_strangers(live)
    async with Memory(live) as memory:
        sent = await flood(live, senders, readers, 15.0)
    ratio = max(memory.peak.values()) / max(usual.peak.values())
    print(f"stuck: {sent} messages; {memory}; {ratio:.2f} times as much")
    frozen.thaw()
    assert sent > 1000
    assert max(memory.peak.values()) < BOUND, memory
    for one in list(Mute.open):
        one.abort()
    await ring.ready(60.0)
    await asyncio.gather(*(held(live[0].url, sender, readers) for sender in senders))
    async with asyncio.timeout(30.0):
        for reader in readers[:EXAMPLES]:
            assert set().union(*reader.acknowledged.values()) <= await collected(live[0].url, reader)
