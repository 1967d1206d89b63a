"""What a request carries is bounded as it travels, on every port, and no port says what it is made of."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from aiohttp import web
from tests.rawhttp import UPGRADE, connected
from tests.unit.api.lone_node import lone_node
from tests.unit.api.stage import Stage
from tests.unit.peer.nodes import Node

from coterie_node.api.admin import admin_app
from coterie_node.assembly.node import ADMIN_LIMITS
from coterie_node.config.settings import Address
from coterie_node.http.guard import PortLimits
from coterie_node.http.listening import Port
from coterie_protocol.client_api import CLIENT_PATH, PEER_PATH

LIMITS = PortLimits(connections=4, per_address=4, idle=20.0)
CHUNK = b"1\r\nx\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
SIZED = b"Content-Length: 1000000000\r\n"
BODIES = {"chunks of one byte": (CHUNKED, CHUNK), "a long body": (SIZED, b"x" * 6)}


@contextlib.asynccontextmanager
async def client_port(directory: Path) -> AsyncIterator[int]:
    async with lone_node(directory) as node:
        yield int(node.url.rpartition(":")[2])


@contextlib.asynccontextmanager
async def admin_port(_: Path) -> AsyncIterator[int]:
    port = Port(admin_app(Stage(), "token"), Address("127.0.0.1", 0), "the admin API", "--listen-admin", ADMIN_LIMITS)
    try:
        yield await port.start()
    finally:
        await port.close()


@contextlib.asynccontextmanager
async def peer_port(_: Path) -> AsyncIterator[int]:
    node = Node(1)
    try:
        yield await node.links.start("127.0.0.1", 0)
    finally:
        await node.links.close()
        await node.tasks.close()


PORTS: dict[str, Callable[[Path], AbstractAsyncContextManager[int]]] = {
    "client": client_port,
    "admin": admin_port,
    "peer": peer_port,
}
PATHS = {"client": CLIENT_PATH, "admin": "/livez", "peer": PEER_PATH}


def head(method: str, path: str, more: bytes) -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n".encode() + more + b"\r\n"


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
@pytest.mark.parametrize("whose", PORTS)
async def test_a_body_that_nobody_wants_ends_the_connection(tmp_path: Path, whose: str, method: str, body: str) -> None:
    """A body of 300,000 chunks was read to its end, and one that did not end for ten seconds."""
    header, piece = BODIES[body]
    async with PORTS[whose](tmp_path) as port, connected(port) as one:
        one.send(head(method, PATHS[whose], header) + piece * 3)  # More never comes.
        async with asyncio.timeout(5.0):
            assert (await one.answer())[0] >= 200
            assert await one.ended()


@contextlib.asynccontextmanager
async def reading(limits: PortLimits = LIMITS) -> AsyncIterator[tuple[int, list[int]]]:
    """Serve a port whose handlers want a body; yields its number, and the bytes of bodies that each was given."""
    given: list[int] = []

    async def taken(request: web.Request) -> web.Response:
        try:
            return web.Response(text=str(len(await request.read())))
        finally:
            given.append(request.content.total_bytes)

    app = web.Application(client_max_size=1 << 30)
    app.router.add_post("/", taken)
    port = Port(app, Address("127.0.0.1", 0), "anybody", "--listen", limits)
    try:
        yield await port.start(), given
    finally:
        await port.close()


AHEAD = {
    "alone": b"",
    "behind one request": head("POST", "/", b"Content-Length: 1\r\n") + b"x",
    "behind more requests than are taken at once": (head("POST", "/", b"Content-Length: 1\r\n") + b"x") * 40,
}


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("ahead", AHEAD)
async def test_no_more_of_a_body_is_looked_at_than_a_port_takes(ahead: str, body: str) -> None:
    header, piece = BODIES[body]
    async with reading() as (port, given), connected(port) as one:
        one.send(AHEAD[ahead] + head("POST", "/", header) + piece * 100_000)
        for _ in range(AHEAD[ahead].count(b"POST")):
            assert (await one.answer())[::2] == (200, b"1")
        status, _, text = await one.answer()
        assert (status, b"at most 4096 bytes" in text) == (413, True)
        assert await one.ended()
    assert given[-1] <= 2 * LIMITS.body + 4096


async def test_a_body_within_the_limit_is_taken_and_the_connection_goes_on() -> None:
    async with reading() as (port, _), connected(port) as one:
        for _ in range(3):
            one.send(head("POST", "/", b"Content-Length: 4096\r\n") + b"x" * 4096)
            assert (await one.answer())[::2] == (200, b"4096")
            one.send(head("POST", "/", CHUNKED) + CHUNK * 600 + b"0\r\n\r\n")
            assert (await one.answer())[::2] == (200, b"600")


async def test_requests_that_come_at_once_are_all_answered_in_their_order() -> None:
    """More bytes than one piece, more requests than are taken at once, and nothing behind them."""
    async with reading() as (port, _), connected(port) as one:
        one.send(b"".join(head("POST", "/", f"Content-Length: {n}\r\n".encode()) + b"x" * n for n in range(300)))
        for number in range(300):
            assert (await one.answer())[::2] == (200, str(number).encode())


async def test_what_comes_behind_a_refused_websocket_is_not_looked_at() -> None:
    async with reading() as (port, given), connected(port) as one:
        one.send(head("GET", "/nowhere", UPGRADE) + head("POST", "/", CHUNKED) + CHUNK * 20_000 + b"0\r\n\r\n")
        status, headers, _ = await one.answer()
        assert (status, headers["connection"]) == (404, "close")
        assert await one.ended()
    assert given == []


REQUESTS = {
    "answered": ("GET", "/", b""),
    "nowhere": ("GET", "/nowhere", b""),
    "another method": ("BREW", "/", b""),
    "an expectation": ("GET", "/", b"Expect: a-<b>-and-much\r\n"),
    "no request": ("GET", "/ /", b""),
    "a websocket without a key": ("GET", CLIENT_PATH, b"Upgrade: websocket\r\nConnection: Upgrade\r\n"),
    "a client": ("GET", CLIENT_PATH, UPGRADE),
    "a peer": ("GET", PEER_PATH, UPGRADE),
    "a page": ("GET", CLIENT_PATH, UPGRADE + b"Origin: http://elsewhere\r\n"),
    "a stream": ("GET", "/api/v1/events", b""),
    "a static file": ("GET", "/page/page.css", b""),
    "a change": ("POST", "/api/v1/leave", b""),
}


@pytest.mark.parametrize("asked", REQUESTS)
@pytest.mark.parametrize("whose", PORTS)
async def test_no_answer_says_what_the_node_is_made_of(tmp_path: Path, whose: str, asked: str) -> None:
    async with PORTS[whose](tmp_path) as port, connected(port) as one:
        one.send(head(*REQUESTS[asked]))
        async with asyncio.timeout(5.0):
            answer = await one.reader.readuntil(b"\r\n\r\n")
    assert b"\r\nServer: coterie\r\n" in answer
    assert b"aiohttp" not in answer.lower()
    assert b"python" not in answer.lower()


@pytest.mark.parametrize("whose", PORTS)
async def test_an_expectation_that_nobody_has_heard_of_is_not_repeated(tmp_path: Path, whose: str) -> None:
    async with PORTS[whose](tmp_path) as port, connected(port) as one:
        one.send(head(*REQUESTS["an expectation"]))
        status, _, text = await one.answer()
    assert status == 417
    assert b"much" not in text
