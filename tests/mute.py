"""Clients on bare sockets, which write what they are told, in part if need be, and need not read."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import ClassVar

from coterie_protocol.client_api import CLIENT_PATH, ClientFrame, Request, ServerFrame
from coterie_protocol.frames import decode_server, encode

RECEIVE_BUFFER = 4096
"""Bytes that the kernel may take on the client's behalf: few, so that it is soon the node that keeps them."""
SOON = 10.0


class Mute:
    """A connection to a client port. It reads only when it is told to."""

    open: ClassVar[set[Mute]] = set()
    """All that stand: for who closes them whatever has happened."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.open.add(self)

    @classmethod
    async def connect(cls, url: str) -> Mute:
        """Open a connection (ws://HOST:PORT) and say nothing."""
        host, port = url.removeprefix("ws://").split(":")
        made = socket.socket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        made.setblocking(False)
        await asyncio.get_running_loop().sock_connect(made, (host, int(port)))
        return cls(*await asyncio.open_connection(sock=made, limit=1024))

    async def upgrade(self) -> None:
        """Make it a WebSocket."""
        self.writer.write(
            f"GET {CLIENT_PATH} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
        )
        await self.reader.readuntil(b"\r\n\r\n")

    def ask(self, *requests: tuple[int, Request]) -> None:
        """Write numbered requests."""
        self.send(encode([ClientFrame(number, request) for number, request in requests]))

    def send(self, payload: bytes, part: int | None = None) -> None:
        """Write a binary message, or the first `part` bytes of it, masked by zeros."""
        self.writer.write((bytes((0x82, 0x80 | 127)) + len(payload).to_bytes(8, "big") + bytes(4) + payload)[:part])

    async def frames(self) -> list[ServerFrame]:
        """Read one message of the node."""
        while True:
            kind, size = await self.reader.readexactly(2)
            if size >= 126:
                size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8), "big")
            payload = await self.reader.readexactly(size)
            if kind == 0x82:
                return decode_server(payload)
            if kind == 0x89:
                self.writer.write(bytes((0x8A, 0x80 | size)) + bytes(4) + payload)

    async def gone(self, seconds: float = SOON) -> None:
        """Read to the connection's end."""
        async with asyncio.timeout(seconds):
            await self.drain()

    async def drain(self) -> None:
        """Read for as long as there is something, and look at none of it."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(1 << 16):
                pass

    def abort(self) -> None:
        """Close the connection now."""
        self.writer.transport.abort()
        self.open.discard(self)
