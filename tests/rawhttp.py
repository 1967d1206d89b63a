"""HTTP as a hostile client writes it: bytes on a socket, from an address of one's choice."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

SOON = 10.0
UPGRADE = (
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)
MASKED = 0x80


class RawSocket:
    """A connection that writes what it is told."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Read one answer: status, headers in lower case, and body."""
        async with asyncio.timeout(SOON):
            head = await self.reader.readuntil(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
            body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return int(lines[0].split(" ")[1]), headers, body

    async def rest(self) -> bytes:
        """Read to the end of the connection."""
        got = b""
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(SOON):
                while data := await self.reader.read(1 << 16):
                    got += data
        return got

    async def ended(self) -> bool:
        """Say whether the other side has closed the connection, having sent nothing more."""
        return not await self.rest()

    def close(self) -> None:
        self.writer.transport.abort()


async def connect(port: int, *, source: str = "127.0.0.1", host: str = "127.0.0.1") -> RawSocket:
    """Connect from one of this machine's addresses: all of 127.0.0.0/8 are."""
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    made.setblocking(False)
    made.bind((source, 0))
    await asyncio.get_running_loop().sock_connect(made, (host, port))
    return RawSocket(*await asyncio.open_connection(sock=made))


@contextlib.asynccontextmanager
async def connected(port: int, *, source: str = "127.0.0.1", host: str = "127.0.0.1") -> AsyncIterator[RawSocket]:
    one = await connect(port, source=source, host=host)
    try:
        yield one
    finally:
        one.close()


async def ask(port: int, request: bytes, *, source: str = "127.0.0.1") -> tuple[int, dict[str, str], bytes]:
    """Write a request and read its answer."""
    async with connected(port, source=source) as one:
        one.send(request)
        return await one.answer()


def websocket_frame(payload: bytes, *, opcode: int = 2, final: bool = True, masked: bool = True) -> bytes:
    """Write a frame of RFC 6455 as a client, or against its rules."""
    first = opcode | (0x80 if final else 0)
    mask = MASKED if masked else 0
    size = len(payload)
    if size < 126:
        head = bytes((first, mask | size))
    elif size < 65536:
        head = bytes((first, mask | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((first, mask | 127)) + size.to_bytes(8, "big")
    return head + (bytes(4) if masked else b"") + payload
