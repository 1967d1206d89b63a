"""The floor of a failover: two echo servers on bare TCP, one of which is killed while a client talks to it."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import AsyncIterator

INTERVAL = 0.01
"""Seconds between two messages, as the stream of the ring's failover has it."""


async def measure_reconnect() -> float:
    """Return the seconds from a kill -9 to the first echo of the other server, to which the client then connects."""
    async with _server() as (first, port), _server() as (_, other):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(10):
            await _echo(reader, writer)
            await asyncio.sleep(INTERVAL)
        since = time.monotonic()
        first.kill()
        try:
            while True:
                await _echo(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            writer.transport.abort()
        reader, writer = await asyncio.open_connection("127.0.0.1", other)
        await _echo(reader, writer)
        took = time.monotonic() - since
        writer.close()
        await writer.wait_closed()
        await first.wait()
        return took


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"12345678")
    await writer.drain()
    await reader.readexactly(8)


@contextlib.asynccontextmanager
async def _server() -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    server = await asyncio.create_subprocess_exec(sys.executable, "-m", "bench.bare", stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None
        yield server, int(await server.stdout.readline())
    finally:
        if server.returncode is None:
            server.kill()
            await server.wait()


async def _serve() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(64):
                writer.write(data)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve())
