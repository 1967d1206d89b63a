"""What one hostile account does at full speed: `python -m bench.floods`, which is told on its standard input.

A line is a JSON array of the kind, the account's name, token and auth, whom it harms, and the servers' addresses: that
flood goes on until the next line, an empty one. Each is answered by a line: "begun", or "ended". A flood is a process
of its own with the lowest priority, so that what honest accounts notice is what their ring does, not that the machine
is busy with making the flood.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import random
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator

import aiohttp
import uvloop
from tests.mute import Mute

from coterie_protocol.client_api import (
    MAX_CLIENT_FRAMES,
    Archive,
    Discard,
    Hello,
    Keep,
    Login,
    LoginParams,
    Lookup,
    Page,
    PresenceQuery,
    Request,
    Resume,
    Send,
    States,
    Subscribe,
)

from .honest import Speaker, busy, fresh_id

CONNECTIONS = 12
"""Connections of the one session, spread over the nodes."""
AT_ONCE = 100
"""Connections that a storm opens at the same time."""
HALF_OPEN = 600
HONEST = "honest"
"""An honest account at full speed, to compare with."""


class Attacker:
    """The account, and whom it harms."""

    def __init__(self, name: str, token: bytes, auth: str, victim: str, urls: list[str]) -> None:
        self.name = name
        self.token = token
        self.auth = auth
        self.victim = victim
        self.urls = urls

    async def connection(self, number: int) -> Mute:
        """Open a connection in the account's session."""
        mute = await self.stranger(number)
        mute.ask((2, Resume(self.name, self.token)))
        return mute

    async def stranger(self, number: int) -> Mute:
        """Open a connection and say hello."""
        mute = await Mute.connect(self.urls[number % len(self.urls)])
        await mute.upgrade()
        mute.ask((1, Hello(1, 1, "flood")))
        return mute


Requests = Callable[[Attacker], list[Request]]


def many(count: int, make: Callable[[Attacker], Request]) -> Requests:
    """Make a whole message of requests."""
    return lambda attacker: [make(attacker) for _ in range(count)]


PING = bytes((0x89, 0x80, 0, 0, 0, 0))
EMPTY = bytes((0x82, 0x81, 0, 0, 0, 0, 0x90))
"""A message of no frames."""
BEGINNING = bytes((0x02, 0x81, 0, 0, 0, 0, 0x90))
FRAGMENT = bytes((0x00, 0x80, 0, 0, 0, 0))
"""Nothing more of a message that goes on."""
PIECES: dict[str, tuple[bytes, bytes, bool]] = {
    "pings": (b"", PING, True),
    "empty messages": (b"", EMPTY, True),
    "empty fragments": (BEGINNING, FRAGMENT, True),
    "stranger pings": (b"", PING, False),
}
"""WebSocket frames without a request in them: the first, those that follow, whether in a session."""
AT_A_TIME = 10_000
QUESTIONS: dict[str, Requests] = {
    "stranger resumes": many(8, lambda a: Resume(f"nobody{random.getrandbits(60)}", bytes(32))),
    "stranger params": many(8, lambda a: LoginParams(a.victim)),
}
"""What is asked without a session."""
STRANGERS = 300
"""Connections that ask it."""

REQUESTS: dict[str, Requests] = {
    "sends": many(256, lambda a: Send(a.name, fresh_id(), b"x")),
    "large sends": many(8, lambda a: Send(a.name, fresh_id(), bytes(70_000))),
    "sends to nobody": many(256, lambda a: Send(f"nobody{random.getrandbits(60)}", fresh_id(), b"x")),
    "keeps": many(256, lambda a: Keep(fresh_id(), b"x")),
    "prekeys": many(1, lambda a: Send(a.victim, fresh_id(), b"x", bytes(900_000))),
    "discards": many(4, lambda a: Discard([(a.victim, fresh_id(), 0) for _ in range(1000)])),
    "forged receipts": many(4, lambda a: Archive([(a.victim, fresh_id(), 0, b"") for _ in range(1000)])),
    "archive": many(4, lambda a: Archive([("", fresh_id(), 0, bytes(200)) for _ in range(1000)])),
    "states": many(8, lambda a: States(a.victim, [fresh_id() for _ in range(1000)])),
    "presence": many(8, lambda a: PresenceQuery([f"nobody{random.getrandbits(60)}" for _ in range(1000)])),
    "pages": many(64, lambda a: Page(b"", 500)),
    "lookups": many(64, lambda a: Lookup(a.victim)),
    "subscribes": many(64, lambda a: Subscribe()),
    "tiny frames": many(MAX_CLIENT_FRAMES, lambda a: Lookup("x")),
    "hellos": many(MAX_CLIENT_FRAMES, lambda a: Hello(1, 1, "flood")),
}


def begun() -> None:
    """Say, once, that the flood is under way."""
    if not _said:
        _said.append(True)
        print("begun", flush=True)


_said: list[bool] = []


async def requests(attacker: Attacker, make: Requests, session: bool = True) -> None:
    """Write requests on several connections as fast as they are taken; read the answers, and look at none."""

    def write(mute: Mute, number: int) -> None:
        some = make(attacker)
        mute.ask(*enumerate(some, 3 + number * len(some)))

    if session:
        await persist(attacker.connection, write)
    else:
        await persist(attacker.stranger, write, STRANGERS)


async def pieces(attacker: Attacker, first: bytes, again: bytes, session: bool) -> None:
    """Write WebSocket frames that hold no requests, as fast as they are taken."""

    async def connect(number: int) -> Mute:
        mute = await (attacker.connection(number) if session else attacker.stranger(number))
        mute.writer.write(first)
        return mute

    await persist(connect, lambda mute, _: mute.writer.write(again * AT_A_TIME))


async def persist(
    connect: Callable[[int], Awaitable[Mute]], write: Callable[[Mute, int], None], count: int = CONNECTIONS
) -> None:
    """Write on connections that stand, as fast as it is taken; `write` gets a connection and the number of the time."""

    async def one(number: int) -> None:
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                mute = await connect(number)
                reading = asyncio.create_task(mute.drain())
                try:
                    times: Iterator[int] = itertools.count()
                    while not reading.done():
                        write(mute, next(times))
                        await mute.writer.drain()
                        begun()
                        await asyncio.sleep(0)
                finally:
                    reading.cancel()
                    mute.abort()
            await asyncio.sleep(0.01)

    await asyncio.gather(*(one(number) for number in range(count)))


async def storm(attacker: Attacker, first: Callable[[Mute], Awaitable[None]]) -> None:
    """Open connections, say something, and close them, over and over."""

    async def one(number: int) -> None:
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
                mute = await Mute.connect(attacker.urls[number % len(attacker.urls)])
                try:
                    async with asyncio.timeout(5.0):
                        await mute.upgrade()
                        await first(mute)
                        begun()
                finally:
                    mute.abort()
            await asyncio.sleep(0)

    await asyncio.gather(*(one(number) for number in range(AT_ONCE)))


async def connections(attacker: Attacker) -> None:
    """Connect, say hello, and go."""

    async def hello(mute: Mute) -> None:
        mute.ask((1, Hello(1, 1, "flood")))
        await mute.frames()

    await storm(attacker, hello)


async def logins(attacker: Attacker) -> None:
    """Log in, with the right password, over and over."""

    async def login(mute: Mute) -> None:
        mute.ask((1, Hello(1, 1, "flood")), (2, Login(attacker.name, attacker.auth, os.urandom(16))))
        while all(frame.id != 2 for frame in await mute.frames()):
            pass

    await storm(attacker, login)


async def half_open(attacker: Attacker) -> None:
    """Stop in the middle of a message, on many connections, and begin again when they are cut."""

    async def one(number: int) -> None:
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                mute = await Mute.connect(attacker.urls[number % len(attacker.urls)])
                if number % 3:
                    await mute.upgrade()
                    mute.ask((1, Hello(1, 1, "flood")))
                    mute.send(bytes(1 << 20), 900_000 if number % 3 == 1 else 1000)
                begun()
                await mute.drain()
                mute.abort()
            await asyncio.sleep(0.05)

    await asyncio.gather(*(one(number) for number in range(HALF_OPEN)))


async def honest(attacker: Attacker) -> None:
    """Send as an honest account does that has much to send."""
    async with aiohttp.ClientSession() as http:
        speaker = await Speaker.connect(http, attacker.urls[0], attacker.name)
        await speaker.resume(attacker.token)
        await speaker.ask(Subscribe())
        begun()
        await busy(speaker)


OTHERS: dict[str, Callable[[Attacker], Awaitable[None]]] = {
    "connections": connections,
    "logins": logins,
    "half-open": half_open,
}
FLOODS = [*REQUESTS, *PIECES, *QUESTIONS, *OTHERS]


async def flood(kind: str, attacker: Attacker) -> None:
    """Do it until cancelled."""
    if kind in REQUESTS:
        await requests(attacker, REQUESTS[kind])
    elif kind in QUESTIONS:
        await requests(attacker, QUESTIONS[kind], session=False)
    elif kind in PIECES:
        await pieces(attacker, *PIECES[kind])
    elif kind == HONEST:
        await honest(attacker)
    else:
        await OTHERS[kind](attacker)


def start(line: str) -> int:
    """Flood in a process of its own; return its id."""
    kind, name, token, auth, victim, *urls = json.loads(line)
    if child := os.fork():
        return child
    os.nice(19)
    try:
        uvloop.run(flood(kind, Attacker(name, bytes.fromhex(token), auth, victim, urls)))
    finally:
        os._exit(1)


def main() -> None:
    """Flood as standard input says, to its end. One that is killed has ended at once, however busy the machine is."""
    child = 0
    for line in sys.stdin:
        if child:
            os.kill(child, signal.SIGKILL)
            ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            print("ended" if ended == -signal.SIGKILL else f"it ended by itself with {ended}", flush=True)
        child = start(line) if line.strip() else 0
    if child:
        os.kill(child, signal.SIGKILL)


if __name__ == "__main__":
    main()
