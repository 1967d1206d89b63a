"""What the operator makes of the answers, refusals and silences of nodes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
from aiohttp import web

from coterie_operator import admin as module
from coterie_operator.admin import Admin, NodeError, NodeRefused, NodeUnreachable
from coterie_protocol.admin import NodeReport, RecordCounts, SlotCounts

REPORT = NodeReport(
    uid="u0",
    name="main-0",
    version="1",
    ring_uid="a" * 32,
    state="ready",
    reasons=[],
    position=0,
    replication_factor=3,
    slots=SlotCounts(1, 2, 3),
    records=RecordCounts(1, 2, 3),
    sessions=0,
    slots_under_replicated=0,
    uptime_seconds=1.0,
    successors=[],
    predecessor=None,
)


class Node:
    """A node's admin port that answers what the test says."""

    def __init__(self) -> None:
        self.status = 200
        self.body = msgspec.json.encode(REPORT)
        self.silent = False
        self.asked: list[tuple[str, str, str, bytes]] = []

    async def answer(self, request: web.Request) -> web.Response:
        token = request.headers.get("Authorization", "")
        self.asked.append((request.method, request.path, token, await request.read()))
        if self.silent:
            await asyncio.Event().wait()
        return web.Response(status=self.status, body=self.body)


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.fixture
async def admin(node: Node) -> AsyncIterator[Admin]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", node.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with Admin(port=runner.addresses[0][1]) as client:
        yield client
    await runner.cleanup()


async def test_a_report_is_read(admin: Admin, node: Node) -> None:
    assert await admin.node("127.0.0.1") == REPORT
    assert node.asked == [("GET", "/api/v1/node", "", b"")]


async def test_changes_bear_the_token(admin: Admin, node: Node) -> None:
    node.status = 202
    await admin.leave("127.0.0.1", "token")
    await admin.cancel_leave("127.0.0.1", "token")
    await admin.move("127.0.0.1", "token", 17)
    assert [(path, token) for _, path, token, _ in node.asked] == [
        ("/api/v1/leave", "Bearer token"),
        ("/api/v1/cancel-leave", "Bearer token"),
        ("/api/v1/move", "Bearer token"),
    ]
    assert msgspec.json.decode(node.asked[-1][3]) == {"position": 17}


async def test_a_refusal_carries_its_code_and_reason(admin: Admin, node: Node) -> None:
    node.status = 409
    node.body = b'{"error": "busy", "detail": "the rest cannot hold 3 copies"}'
    with pytest.raises(NodeRefused, match="cannot hold 3 copies") as refused:
        await admin.leave("127.0.0.1", "token")
    assert (refused.value.code, refused.value.status) == ("busy", 409)


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"error": 1}', b"[]"])
async def test_a_refusal_without_words_is_one_too(admin: Admin, node: Node, body: bytes) -> None:
    node.status, node.body = 502, body
    with pytest.raises(NodeRefused, match="502"):
        await admin.leave("127.0.0.1", "token")


async def test_an_answer_of_another_version_is_an_error(admin: Admin, node: Node) -> None:
    node.body = b'{"uid": 1}'
    with pytest.raises(NodeError, match="another version"):
        await admin.node("127.0.0.1")


async def test_an_answer_without_end_is_not_read_to_it(admin: Admin, node: Node) -> None:
    """A node that lies could have filled the operator's memory."""
    node.body = b" " * (module.MOST_BYTES + 1)
    with pytest.raises(NodeError, match="more than 16 MiB"):
        await admin.node("127.0.0.1")


async def test_silence_ends(admin: Admin, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READ_SECONDS", 0.1)
    node.silent = True
    with pytest.raises(NodeUnreachable, match=r"within 0\.1 s"):
        await admin.node("127.0.0.1")


async def test_nobody_there_is_unreachable(admin: Admin) -> None:
    with pytest.raises(NodeUnreachable, match="cannot be reached"):
        await admin.node("127.0.0.2")
    with pytest.raises(NodeUnreachable):
        await admin.node("::1")
