"""A port takes the body of a request as it comes: unpacking it is work that a stranger chooses the size of."""

from __future__ import annotations

import gzip
import zlib

import pytest
from aiohttp import web
from tests.rawhttp import connected

from coterie_node.config.settings import Address
from coterie_node.http.guard import PortLimits
from coterie_node.http.listening import Port


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_body_is_not_unpacked(encoding: str) -> None:
    """400 MB in 389 kB kept a node from its peers for two seconds, and they took it for dead."""
    plain = bytes(1_000_000)
    packed = gzip.compress(plain) if encoding == "gzip" else zlib.compress(plain)

    async def taken(request: web.Request) -> web.Response:
        return web.Response(text="packed" if await request.read() == packed else "unpacked")

    app = web.Application(client_max_size=2 * len(plain))
    app.router.add_post("/", taken)
    limits = PortLimits(connections=4, per_address=4, idle=10.0)
    port = Port(app, Address("127.0.0.1", 0), "anybody", "--listen", limits)
    try:
        async with connected(await port.start()) as one:
            head = f"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: {encoding}\r\n"
            one.send(f"{head}Content-Length: {len(packed)}\r\n\r\n".encode() + packed)
            status, _, body = await one.answer()
    finally:
        await port.close()
    assert (status, body) == (200, b"packed")
