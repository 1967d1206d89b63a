"""The load generator: it speaks the client API's frames over bare aiohttp, so that it costs as little as it can."""

from __future__ import annotations

import asyncio
import base64
import os
import random
import time
from collections.abc import Sequence
from typing import Any

import aiohttp

from coterie_protocol.client_api import (
    CLIENT_PATH,
    PROTOCOL_HIGH,
    PROTOCOL_LOW,
    ClientFrame,
    Error,
    Hello,
    Kdf,
    Register,
    Send,
    SessionGranted,
    Stored,
    Welcome,
)
from coterie_protocol.frames import decode_server, encode
from coterie_protocol.identifiers import message_id

from .measure import Measured, measured

BODY_BYTES = 200


class Connection:
    """One client's WebSocket. It waits for its own replies and skips the server's events."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._number = 0

    async def ask(self, body: Any) -> Any:
        """Send one request and return its reply; raises RuntimeError when it is an error."""
        number = await self.send(body)
        while True:
            for found, reply in await self.replies():
                if found == number:
                    return reply

    async def send(self, body: Any) -> int:
        """Send one request and return its number."""
        self._number += 1
        await self._socket.send_bytes(encode([ClientFrame(self._number, body)]))
        return self._number

    async def replies(self) -> list[tuple[int, Any]]:
        """Return the replies of the next WebSocket message, by request number."""
        message = await self._socket.receive()
        if message.type is not aiohttp.WSMsgType.BINARY:
            raise RuntimeError(f"the node closed the connection: {message.type.name} {message.extra or ''}")
        found = [(frame.id, frame.body) for frame in decode_server(message.data) if frame.id]
        for _, reply in found:
            if isinstance(reply, Error):
                raise RuntimeError(f"the node answered error {reply.code}: {reply.detail}")
        return found


async def connect(session: aiohttp.ClientSession, url: str, name: str) -> Connection:
    """Open a connection and register an account on it."""
    connection = Connection(await session.ws_connect(url + CLIENT_PATH, max_msg_size=1 << 20, compress=0))
    welcome = await connection.ask(Hello(PROTOCOL_LOW, PROTOCOL_HIGH, "coterie-bench"))
    assert isinstance(welcome, Welcome)
    auth = base64.b64encode(os.urandom(32)).decode()
    granted = await connection.ask(Register(name, Kdf(8, 1, 1), auth, b"", b"", os.urandom(16)))
    assert isinstance(granted, SessionGranted)
    return connection


async def connect_all(session: aiohttp.ClientSession, urls: Sequence[str], names: Sequence[str]) -> list[Connection]:
    """Register all names, spread over the nodes."""
    return list(await asyncio.gather(*(connect(session, urls[i % len(urls)], name) for i, name in enumerate(names))))


async def storm(connections: Sequence[Connection], names: Sequence[str], in_flight: int, seconds: float) -> Measured:
    """Let every connection send to random names, `in_flight` messages at a time, and measure until each is stored."""
    latencies: list[float] = []
    begin = time.perf_counter()
    end = begin + seconds
    await asyncio.gather(*(_stream(one, names, in_flight, end, latencies) for one in connections))
    return measured(latencies, time.perf_counter() - begin)


async def fill(connections: Sequence[Connection], names: Sequence[str], in_flight: int, messages: int) -> None:
    """Send so many messages to random names, spread over the connections, and return when each is stored."""
    share, rest = divmod(messages, len(connections))
    await asyncio.gather(
        *(_send_count(one, names, in_flight, share + (index < rest)) for index, one in enumerate(connections))
    )


async def send_paced(connection: Connection, names: Sequence[str], interval: float, messages: int) -> None:
    """Send so many messages to random names, one at a time and one each `interval` seconds if the ring keeps up."""
    body = os.urandom(BODY_BYTES)
    due = time.perf_counter() + random.uniform(0, interval)
    for _ in range(messages):
        await asyncio.sleep(max(due - time.perf_counter(), 0))
        due += interval
        reply = await connection.ask(_message(names, body))
        assert isinstance(reply, Stored)


async def _send_count(connection: Connection, names: Sequence[str], in_flight: int, messages: int) -> None:
    body = os.urandom(BODY_BYTES)
    under_way = 0
    while messages or under_way:
        while messages and under_way < in_flight:
            await connection.send(_message(names, body))
            messages -= 1
            under_way += 1
        under_way -= len(await connection.replies())


def _message(names: Sequence[str], body: bytes) -> Send:
    return Send(random.choice(names), message_id(int(time.time() * 1000), os.urandom(10)), body)


async def _stream(
    connection: Connection, names: Sequence[str], in_flight: int, end: float, latencies: list[float]
) -> None:
    body = os.urandom(BODY_BYTES)
    sent: dict[int, float] = {}

    async def send() -> None:
        now = time.perf_counter()
        sent[await connection.send(_message(names, body))] = now

    for _ in range(in_flight):
        await send()
    while sent:
        for number, reply in await connection.replies():
            assert isinstance(reply, Stored)
            now = time.perf_counter()
            latencies.append(now - sent.pop(number))
            if now < end:
                await send()
