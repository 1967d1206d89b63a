"""Honest accounts that chat at a steady pace, and what they notice: until a message is stored, until it has arrived."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import os
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from coterie_protocol.client_api import (
    CLIENT_PATH,
    Archive,
    ClientFrame,
    Done,
    Error,
    Hello,
    Kdf,
    Mail,
    Register,
    Resume,
    Send,
    SessionGranted,
    Stored,
    Subscribe,
    Welcome,
)
from coterie_protocol.errors import ErrorCode
from coterie_protocol.frames import decode_server, encode
from coterie_protocol.identifiers import message_id

BODY = os.urandom(200)
PATIENCE = 10.0
"""Seconds until an answer counts as lost."""


def fresh_id() -> bytes:
    """Return a message's id that nobody has used."""
    return message_id(time.time_ns() // 1_000_000, os.urandom(10))


class Speaker:
    """An account's connection: answers go to who asked, mail is archived as it comes."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, name: str) -> None:
        self.name = name
        self.token = b""
        self.auth = base64.b64encode(os.urandom(32)).decode()
        self.arrived: dict[bytes, float] = {}
        """When mail came, by id."""
        self.mail = asyncio.Event()
        """Set when some came. Whoever waits for it clears it."""
        self._socket = socket
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._out: list[ClientFrame] = []
        self._tasks = [asyncio.create_task(self._read())]

    @classmethod
    async def connect(cls, http: aiohttp.ClientSession, url: str, name: str) -> Speaker:
        """Open a connection and say hello."""
        speaker = cls(await http.ws_connect(url + CLIENT_PATH, compress=0, max_msg_size=1 << 24), name)
        assert isinstance(await speaker.ask(Hello(1, 1, "coterie-bench")), Welcome)
        return speaker

    async def register(self) -> None:
        """Register the account and have its mail come here."""
        granted = await self.ask(Register(self.name, Kdf(8, 1, 1), self.auth, b"", b"", os.urandom(16)))
        assert isinstance(granted, SessionGranted), granted
        self.token = granted.token
        assert isinstance(await self.ask(Subscribe()), Done)

    async def resume(self, token: bytes) -> None:
        """Go on with the account's session here."""
        assert isinstance(await self.ask(Resume(self.name, token)), SessionGranted)

    def post(self, body: Any) -> asyncio.Future[Any]:
        """Send a request with whatever else this turn of the loop sends."""
        number = next(self._numbers)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        if not self._out:
            asyncio.get_running_loop().call_soon(self._flush)
        self._out.append(ClientFrame(number, body))
        return future

    async def ask(self, body: Any) -> Any:
        """Send a request and return its answer, an Error too; raises TimeoutError."""
        async with asyncio.timeout(PATIENCE):
            return await self.post(body)

    def _flush(self) -> None:
        frames, self._out = self._out, []
        self._tasks = [task for task in self._tasks if not task.done()]
        self._tasks.append(asyncio.create_task(self._write(encode(frames))))

    async def _write(self, message: bytes) -> None:
        with contextlib.suppress(ConnectionError):  # Who asked hears nothing, and gives up in time.
            await self._socket.send_bytes(message)

    async def _read(self) -> None:
        async for message in self._socket:
            if message.type is not aiohttp.WSMsgType.BINARY:
                continue
            for frame in decode_server(message.data):
                if isinstance(frame.body, Mail):
                    now = time.perf_counter()
                    self.arrived.update((item.id, now) for item in frame.body.items)
                    self.mail.set()
                    self.post(Archive([(item.sender, item.id, item.part, b"") for item in frame.body.items]))
                elif (future := self._waiting.pop(frame.id, None)) is not None and not future.done():
                    future.set_result(frame.body)

    async def close(self) -> None:
        """Close the connection."""
        await self._socket.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@dataclass
class Noticed:
    """What honest accounts noticed. Seconds."""

    stored: list[float] = field(default_factory=list)
    arrived: list[float] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    lost: int = 0
    """Messages that were stored and did not arrive."""

    @property
    def worst(self) -> float:
        """Return the longest time that a message took to arrive."""
        return max(self.arrived, default=0.0)


@contextlib.asynccontextmanager
async def pairs(
    http: aiohttp.ClientSession, urls: Sequence[str], prefix: str, count: int
) -> AsyncIterator[list[tuple[Speaker, Speaker]]]:
    """Register senders and recipients, spread over the nodes."""
    made: list[Speaker] = []
    try:
        for number in range(2 * count):
            made.append(await Speaker.connect(http, urls[number % len(urls)], f"{prefix}{number}"))
            await made[-1].register()
        yield list(zip(made[:count], made[count:], strict=True))
    finally:
        for one in made:
            await one.close()


async def chat(accounts: Sequence[tuple[Speaker, Speaker]], per_second: float, seconds: float) -> Noticed:
    """Let every pair chat at a steady pace, whatever it takes, and return once all that was stored has arrived."""
    noticed = Noticed()
    sent: dict[bytes, tuple[Speaker, float]] = {}

    async def one(sender: Speaker, to: Speaker) -> None:
        mid, begun = fresh_id(), time.perf_counter()
        try:
            answer = await sender.ask(Send(to.name, mid, BODY))
        except TimeoutError:
            answer = Error(int(ErrorCode.UNAVAILABLE), "no answer")
        if isinstance(answer, Stored):
            noticed.stored.append(time.perf_counter() - begun)
            sent[mid] = (to, begun)
        else:
            noticed.refused.append(answer.detail)

    async def stream(sender: Speaker, to: Speaker, offset: float) -> None:
        begun = time.perf_counter() + offset
        tasks = []
        for number in range(int(per_second * seconds)):
            await asyncio.sleep(max(0.0, begun + number / per_second - time.perf_counter()))
            tasks.append(asyncio.create_task(one(sender, to)))
        await asyncio.gather(*tasks)

    spread = 1 / per_second / len(accounts)
    await asyncio.gather(*(stream(*pair, index * spread) for index, pair in enumerate(accounts)))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            for mid, (to, _) in sent.items():
                while mid not in to.arrived:
                    to.mail.clear()
                    await to.mail.wait()
    for mid, (to, begun) in sent.items():
        if (at := to.arrived.pop(mid, None)) is None:
            noticed.lost += 1
        else:
            noticed.arrived.append(at - begun)
    return noticed


async def busy(speaker: Speaker) -> None:
    """Send to oneself as fast as an honest client does, until cancelled: 128 messages under way, and waits as told."""

    async def stream() -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                answer = await speaker.ask(Send(speaker.name, fresh_id(), BODY))
                if isinstance(answer, Error):
                    await asyncio.sleep(max(answer.value, 20) / 1000)

    try:
        await asyncio.gather(*(stream() for _ in range(128)))
    finally:
        await speaker.close()
