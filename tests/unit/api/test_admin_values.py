"""Values that make no sense, written to the admin port byte by byte: each is refused in JSON, none is a 500."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from aiohttp.test_utils import BaseTestServer, TestServer
from tests.unit.api.test_api_admin import TOKEN, View

from coterie_node.api.admin import admin_app


@pytest.fixture
async def server() -> AsyncIterator[BaseTestServer]:
    async with TestServer(admin_app(View(), TOKEN)) as running:
        yield running


async def say(server: BaseTestServer, head: bytes, body: bytes = b"", token: bytes = TOKEN.encode()) -> tuple[int, str]:
    """Send a request as bytes; return the status and the error's word."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    headers = [
        head + b" HTTP/1.1",
        b"Host: localhost",
        b"Connection: close",
        b"Authorization: Bearer " + token,
        b"Content-Length: %d" % len(body),
    ]
    writer.write(b"\r\n".join([*headers, b"", body]))
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    top, _, said = answer.partition(b"\r\n\r\n")
    return int(top.split()[1]), json.loads(said).get("error", "")


@pytest.mark.parametrize("token", [b"\xff", b"\xc3\xa4\xff", b"\xed\xa0\x80", "ä-😀".encode(), b"\x80" * 4000])
async def test_a_token_that_is_not_ascii_is_a_wrong_one(server: BaseTestServer, token: bytes) -> None:
    assert await say(server, b"POST /api/v1/leave", token=token) == (401, "unauthorized")


@pytest.mark.parametrize(
    "position", ["-1", "1048576", str(1 << 53), str(1 << 63), "-" + str(1 << 63), "9" * 400, "1.5", "1e400", "true"]
)
async def test_a_position_that_no_ring_has_is_refused(server: BaseTestServer, position: str) -> None:
    body = b'{"position": %b}' % position.encode()
    assert await say(server, b"POST /api/v1/move", body) == (400, "bad_request")


@pytest.mark.parametrize(
    "uid", ['"/etc"', '"' + "A" * 32 + '"', '"' + "a" * 33 + '"', "1", '"\\ud800"', '"' + "a" * 32 + '\\n"']
)
async def test_a_ring_uid_that_is_none_is_refused(server: BaseTestServer, uid: str) -> None:
    body = b'{"accept_loss": true, "ring_uid": %b}' % uid.encode()
    assert await say(server, b"POST /api/v1/recover", body) == (400, "bad_request")


@pytest.mark.parametrize(
    "query",
    [
        b"lookup?key=" + b"9" * 5000, b"lookup?key=-1", b"lookup?key=%D9%A3", b"lookup?key=%ff", b"lookup?key=1024",
        b"lookup?name=%ff", b"lookup?name=%ed%a0%80", b"lookup?name=%00", b"lookup?name=" + b"a" * 4000,
        b"slots?state=%ff", b"slots?state=%ed%a0%80", b"slots?state=" + b"x" * 5000,
    ],
)  # fmt: skip
async def test_a_query_that_makes_no_sense_is_refused(server: BaseTestServer, query: bytes) -> None:
    status, error = await say(server, b"GET /api/v1/" + query)
    assert (status, error) in ((400, "bad_request"), (400, "bad_name"))
