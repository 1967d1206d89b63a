"""Health is answered whatever else the admin port holds: a kubelet that gets no answer restarts the node."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from structlog.testing import capture_logs
from tests.rawhttp import RawSocket, ask, connect, connected
from tests.unit.api.stage import Stage

from coterie_node.api.admin import admin_app
from coterie_node.assembly.node import ADMIN_LIMITS
from coterie_node.config.settings import Address
from coterie_node.http.guard import PortLimits
from coterie_node.http.listening import Port

FOUR = [f"127.0.0.{number}" for number in range(2, 6)]


class Slow(Stage):
    """A node whose view of the ring never comes."""

    async def ring_report(self) -> None:  # type: ignore[override]
        await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def serving(limits: PortLimits = ADMIN_LIMITS, view: Stage | None = None) -> AsyncIterator[int]:
    app = admin_app(view or Stage(), "token")
    port = Port(app, Address("127.0.0.1", 0), "the admin API", "--listen-admin", limits)
    try:
        yield await port.start()
    finally:
        await port.close()


def request(path: str, *, close: bool = True) -> bytes:
    end = "Connection: close\r\n\r\n" if close else "\r\n"
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{end}".encode()


async def crowd(port: int, sources: list[str], each: int, say: bytes = b"") -> list[RawSocket]:
    made = await asyncio.gather(*(connect(port, source=source) for source in sources for _ in range(each)))
    for one in made:
        if say:
            one.send(say)
    return made


async def drip(one: RawSocket) -> None:
    """Write a head that never ends, a letter at a time."""
    one.send(b"GET /livez HTTP/1.1\r\nX: ")
    while True:
        one.send(b"x")
        await asyncio.sleep(0.02)


async def healthy(port: int, source: str) -> None:
    for path in ("/livez", "/readyz"):
        status, _, body = await ask(port, request(path), source=source)
        assert status == 200, body


@pytest.mark.parametrize("say", [b"", b"GET /livez HTTP/1.1\r\nX: "], ids=["silent", "slow head"])
async def test_512_idle_connections_from_four_addresses_leave_health_alone(say: bytes) -> None:
    async with serving() as port:
        held = await crowd(port, FOUR, 128, say)
        try:
            await healthy(port, "127.0.0.1")
            await healthy(port, FOUR[0])
        finally:
            for one in held:
                one.close()


async def test_idle_connections_from_the_kubelets_own_address_leave_health_alone() -> None:
    async with serving() as port:
        held = await crowd(port, ["127.0.0.1"], 200)
        try:
            await healthy(port, "127.0.0.1")
        finally:
            for one in held:
                one.close()


async def test_connections_between_two_requests_give_way_too() -> None:
    async with serving(replace(ADMIN_LIMITS, connections=16, per_address=16)) as port:
        held = await crowd(port, FOUR[:2], 8, request("/livez", close=False))
        try:
            for one in held:
                assert (await one.answer())[0] == 200
            await healthy(port, "127.0.0.1")
        finally:
            for one in held:
                one.close()


async def test_connections_that_are_all_busy_leave_health_alone_and_nothing_else() -> None:
    async with serving(replace(ADMIN_LIMITS, connections=16, per_address=16), Slow()) as port:
        held = await crowd(port, FOUR[:2], 8, request("/api/v1/ring"))
        try:
            await healthy(port, "127.0.0.1")
            await healthy(port, FOUR[0])
            status, headers, body = await ask(port, request("/api/v1/node"))
            assert (status, headers["retry-after"]) == (503, "1")
            assert b"16 connections" in body
            assert b"\n" not in body.strip()
        finally:
            for one in held:
                one.close()


async def test_who_is_answered_is_not_shed_for_who_only_connects() -> None:
    """A scrape, a page or an operator's request under way outlives any number of connections."""
    async with serving(replace(ADMIN_LIMITS, connections=16, per_address=16)) as port, connected(port) as page:
        page.send(request("/api/v1/events", close=False))
        await page.reader.readuntil(b"event: ring")
        held = await crowd(port, FOUR, 40)
        try:
            await healthy(port, "127.0.0.1")
            assert await page.reader.readuntil(b"event: beat")
        finally:
            for one in held:
                one.close()


async def test_a_head_that_does_not_come_ends_the_connection() -> None:
    async with serving(replace(ADMIN_LIMITS, head=0.3)) as port:
        async with connected(port) as silent:
            assert await silent.ended()
        async with connected(port) as slow, asyncio.TaskGroup() as tasks:
            dripping = tasks.create_task(drip(slow))
            status, _, body = await slow.answer()
            assert status == 408
            assert b"0.3 s" in body
            assert await slow.ended()
            dripping.cancel()
        async with connected(port) as second:  # nor on a connection that has asked before
            second.send(request("/livez", close=False))
            assert (await second.answer())[0] == 200
            second.send(b"GET /livez HTTP/1.1\r\nX: ")
            assert (await second.answer())[0] == 408
            assert await second.ended()


@pytest.mark.parametrize(
    "nonsense",
    [
        b"<script>alert(1)</script>\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: " + b"<b>" * 4000 + b"\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 65 + b"\r\n",
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc",
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: +3\r\n\r\nabc",
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: identity, chunked, x\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\n folded: <b>\r\n\r\n",
        b"GET /livez HTTP/1.1\nHost: localhost\n\n",
        b"GET /livez HTTP/1.1\r\nHost : localhost\r\n\r\n",
        b"GET /livez HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03<b>\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
    ],
)
async def test_what_is_no_request_is_told_so_in_one_line_that_echoes_nothing(
    nonsense: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving() as port:
        with capture_logs() as logs:
            async with connected(port) as one:
                one.send(nonsense)
                status, headers, body = await one.answer()
                assert status == 400
                assert headers["content-type"].startswith("text/plain")
                assert b"<" not in body
                assert len(body.splitlines()) == 1
                assert await one.ended()
        assert not caplog.records  # aiohttp's own complaint is a traceback
        assert all("exc_info" not in entry for entry in logs)
        await healthy(port, "127.0.0.1")
