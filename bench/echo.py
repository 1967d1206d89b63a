"""The ceiling of one event loop and aiohttp's WebSocket: a server that sends back what it gets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import aiohttp
import uvloop
from aiohttp import web

from coterie_protocol.client_api import ClientFrame, Send
from coterie_protocol.frames import decode_client, encode
from coterie_protocol.identifiers import message_id

from .load import BODY_BYTES
from .measure import Measured, measured


@contextlib.contextmanager
def echo_server() -> Iterator[str]:
    """Run the echo in a process of its own, on the cores that this process may use just now; yield its address."""
    with subprocess.Popen([sys.executable, "-m", "bench.echo"], stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            yield server.stdout.readline().decode().strip()
        finally:
            server.terminate()


async def measure_echo(session: aiohttp.ClientSession, url: str, clients: int, seconds: float) -> Measured:
    """Let `clients` send Send frames to an echo, one at a time each."""
    sockets = [await session.ws_connect(url, compress=0) for _ in range(clients)]
    latencies: list[float] = []
    begin = time.perf_counter()
    await asyncio.gather(*(_stream(socket, begin + seconds, latencies) for socket in sockets))
    found = measured(latencies, time.perf_counter() - begin)
    await asyncio.gather(*(socket.close() for socket in sockets))
    return found


async def _stream(socket: aiohttp.ClientWebSocketResponse, end: float, latencies: list[float]) -> None:
    body = os.urandom(BODY_BYTES)
    number = 0
    while (now := time.perf_counter()) < end:
        number += 1
        message = Send("somebody", message_id(int(time.time() * 1000), os.urandom(10)), body)
        await socket.send_bytes(encode([ClientFrame(number, message)]))
        decode_client((await socket.receive()).data)
        latencies.append(time.perf_counter() - now)


async def _echo(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(compress=False)
    await socket.prepare(request)
    async for message in socket:
        await socket.send_bytes(encode(decode_client(message.data)))
    return socket


async def _serve() -> None:
    app = web.Application()
    app.router.add_get("/", _echo)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print("http://{}:{}/".format(*runner.addresses[0]), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve())
