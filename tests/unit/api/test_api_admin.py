"""The admin API over a real aiohttp server, on a view that records what it is asked."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp.test_utils import TestServer

from coterie_node.api import admin as admin_module
from coterie_node.api.admin import admin_app
from coterie_protocol.admin import (
    Member,
    NodeReport,
    Operation,
    Readiness,
    RecordCounts,
    RecoveryReport,
    RingReport,
    SlotCounts,
    SlotReport,
)
from coterie_protocol.admin_page import Trace
from coterie_protocol.errors import CoterieError, ErrorCode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from aiohttp.test_utils import BaseTestServer

TOKEN = "a-long-secret"
RING = "b" * 32
SLOTS = SlotCounts(users=341, backups=683, held=0)
RECORDS = RecordCounts(users=7, backups=14, held=1)
MEMBER = Member(
    uid="aa", name="node-1", position=0, position_ratio=0.0, arc_share=1.0, slots=SLOTS, records=RECORDS,
    state="ready", slots_under_replicated=0, peer="127.0.0.1:7401", client="127.0.0.1:7400",
    admin="127.0.0.1:7402", successors=[], predecessor=None,
)  # fmt: skip


class View:
    """A view whose answers are fixed and whose changes are written down."""

    def __init__(self) -> None:
        self.ready = Readiness(True, "ready", [])
        self.changes: list[object] = []
        self.refuse: Exception | None = None

    def readiness(self) -> Readiness:
        return self.ready

    async def node_report(self) -> NodeReport:
        if self.refuse is not None:
            raise self.refuse
        return NodeReport(
            uid="aa", name="node-1", version="0.1.0", ring_uid="bb", state="ready", reasons=[], position=0,
            replication_factor=3, slots=SLOTS, records=RECORDS, sessions=2, slots_under_replicated=0,
            uptime_seconds=1.5, successors=[], predecessor=None,
        )  # fmt: skip

    async def ring_report(self) -> RingReport:
        return RingReport("bb", 3, 1024, [MEMBER], 0, 0)

    def watch(self, callback: Callable[[], None]) -> None: ...

    def slots(self) -> int:
        return 1024

    async def lookup(self, slot: int) -> Trace:
        raise AssertionError("not asked here")

    async def slot_reports(self, state: str | None) -> list[SlotReport]:
        found = SlotReport(3, 2, "joint", ["aa"], ["bb"], "aa", 1, 2)
        return [found] if state in (None, "joint") else []

    async def operations(self) -> list[Operation]:
        return [Operation("leave", "running", 1, 2, "2026-01-01T00:00:00Z", "")]

    async def leave(self) -> None:
        self._change("leave")

    async def cancel_leave(self) -> None:
        self._change("cancel_leave")

    async def move(self, position: int) -> None:
        self._change(position)

    async def recover(self, ring_uid: str | None) -> RecoveryReport:
        self._change(("recover", ring_uid))
        return RecoveryReport("bb", ring_uid is not None, {}, [])

    def _change(self, what: object) -> None:
        if self.refuse is not None:
            raise self.refuse
        self.changes.append(what)


class Admin:
    """A running admin port and a client to it."""

    def __init__(self, view: View, server: BaseTestServer, session: aiohttp.ClientSession) -> None:
        self.view = view
        self._server = server
        self._session = session

    async def ask(self, method: str, path: str, token: str | None = None, body: Any = None) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        data = body if isinstance(body, bytes) else None
        async with self._session.request(
            method, self._server.make_url(path), headers=headers, data=data, json=None if data else body
        ) as response:
            return response.status, await response.json()

    async def text(self, path: str) -> str:
        async with self._session.get(self._server.make_url(path), headers={"Accept": "text/plain"}) as response:
            return await response.text()


async def running(token: str | None) -> AsyncIterator[Admin]:
    view = View()
    async with TestServer(admin_app(view, token)) as server, aiohttp.ClientSession() as session:
        yield Admin(view, server, session)


@pytest.fixture
async def admin() -> AsyncIterator[Admin]:
    async for found in running(TOKEN):
        yield found


@pytest.fixture
async def admin_without_token() -> AsyncIterator[Admin]:
    async for found in running(None):
        yield found


async def test_a_ready_node_says_so(admin: Admin) -> None:
    assert await admin.ask("GET", "/livez") == (200, {"alive": True})
    assert await admin.ask("GET", "/readyz") == (200, {"ready": True, "state": "ready", "reasons": []})


async def test_readiness_gives_its_reasons_but_liveness_does_not_suffer(admin: Admin) -> None:
    admin.view.ready = Readiness(False, "joining", ["waiting for a ring to answer"])
    status, body = await admin.ask("GET", "/readyz")
    assert (status, body["reasons"]) == (503, ["waiting for a ring to answer"])
    assert (await admin.ask("GET", "/livez"))[0] == 200


async def test_reports_are_json_with_the_promised_names(admin: Admin) -> None:
    _, node = await admin.ask("GET", "/api/v1/node")
    assert (node["name"], node["sessions"], node["slots"]["users"]) == ("node-1", 2, 341)
    _, ring = await admin.ask("GET", "/api/v1/ring")
    assert (ring["ring_uid"], ring["replication_factor"], ring["slots_under_replicated"]) == ("bb", 3, 0)
    member = ring["members"][0]
    assert {"uid", "name", "position", "position_ratio", "arc_share", "slots", "records", "state"} <= set(member)
    assert member["records"] == {"users": 7, "backups": 14, "held": 1}
    _, operations = await admin.ask("GET", "/api/v1/operations")
    assert operations[0]["kind"] == "leave"
    assert "node-1" in await admin.text("/")


async def test_slots_may_be_asked_for_by_state(admin: Admin) -> None:
    assert len((await admin.ask("GET", "/api/v1/slots"))[1]) == 1
    assert len((await admin.ask("GET", "/api/v1/slots?state=joint"))[1]) == 1
    assert (await admin.ask("GET", "/api/v1/slots?state=plain"))[1] == []
    status, body = await admin.ask("GET", "/api/v1/slots?state=odd")
    assert (status, body["error"]) == (400, "bad_request")
    assert "under_replicated" in body["detail"]


async def test_changes_need_the_token(admin: Admin) -> None:
    for path in ("/api/v1/leave", "/api/v1/cancel-leave", "/api/v1/move", "/api/v1/recover"):
        for token in (None, "wrong", "ä-not-ascii-😀".encode().decode("latin-1")):
            status, body = await admin.ask("POST", path, token, {"position": 1})
            assert (status, body["error"]) == (401, "unauthorized")
            assert "Bearer" in body["detail"]
    assert admin.view.changes == []


async def test_changes_with_the_token_are_accepted(admin: Admin) -> None:
    assert await admin.ask("POST", "/api/v1/leave", TOKEN) == (202, {"state": "ready"})
    assert (await admin.ask("POST", "/api/v1/cancel-leave", TOKEN))[0] == 202
    assert (await admin.ask("POST", "/api/v1/move", TOKEN, {"position": 512}))[0] == 202
    assert admin.view.changes == ["leave", "cancel_leave", 512]


async def test_a_recovery_looks_unless_the_loss_is_accepted(admin: Admin) -> None:
    for body in ({}, {"ring_uid": RING}, {"accept_loss": False, "ring_uid": RING}):
        status, report = await admin.ask("POST", "/api/v1/recover", TOKEN, body)
        assert (status, report["accepted"]) == (200, False)
    assert (await admin.ask("POST", "/api/v1/recover", TOKEN, {"accept_loss": True, "ring_uid": RING}))[1]["accepted"]
    assert admin.view.changes == [("recover", None)] * 3 + [("recover", RING)]
    assert (await admin.ask("POST", "/api/v1/recover", TOKEN, {"accept_loss": "perhaps"}))[0] == 400


async def test_without_a_configured_token_every_change_is_refused_with_the_remedy(
    admin_without_token: Admin,
) -> None:
    status, body = await admin_without_token.ask("POST", "/api/v1/leave", TOKEN)
    assert (status, body["error"]) == (403, "forbidden")
    assert "--admin-token-file" in body["detail"]
    assert admin_without_token.view.changes == []


@pytest.mark.parametrize("body", [b"", b"[]", b'{"position": "x"}', b'{"position": 1', b"\xff" * 10, b"[" * 9999])
async def test_a_senseless_move_is_refused(admin: Admin, body: bytes) -> None:
    status, answer = await admin.ask("POST", "/api/v1/move", TOKEN, body or b" ")
    assert (status, answer["error"]) == (400, "bad_request")


async def test_too_large_a_body_is_refused(admin: Admin) -> None:
    status, answer = await admin.ask("POST", "/api/v1/move", TOKEN, b" " * 100_000)
    assert (status, set(answer)) == (413, {"error", "detail"})


async def test_errors_are_json(admin: Admin) -> None:
    status, body = await admin.ask("GET", "/nowhere")
    assert (status, body["error"]) == (404, "not_found")
    status, body = await admin.ask("GET", "/api/v1/leave")
    assert (status, body["error"]) == (405, "method_not_allowed")
    admin.view.refuse = CoterieError("the rest could not hold 3 copies", code=ErrorCode.BUSY)
    status, body = await admin.ask("POST", "/api/v1/leave", TOKEN)
    assert (status, body) == (409, {"error": "busy", "detail": "the rest could not hold 3 copies"})
    admin.view.refuse = ZeroDivisionError("secret detail")
    status, body = await admin.ask("GET", "/api/v1/node")
    assert (status, body["error"]) == (500, "internal")
    assert "secret detail" not in body["detail"]


async def test_requests_at_once_are_bounded_and_health_is_not(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    free = asyncio.Event()

    async def report(view: View) -> NodeReport:
        await free.wait()
        return await usual(view)

    usual = View.node_report
    monkeypatch.setattr(View, "node_report", report)
    monkeypatch.setattr(admin_module, "AT_ONCE", 3)
    asking = [asyncio.create_task(admin.ask("GET", "/api/v1/node")) for _ in range(8)]
    done, _ = await asyncio.wait(asking, timeout=5.0, return_when=asyncio.FIRST_COMPLETED)
    while len(done) < 5:
        done, _ = await asyncio.wait(asking, timeout=0.1)
    refused = [task.result() for task in done]
    assert [status for status, _ in refused] == [503] * 5
    assert refused[0][1]["error"] == "service_unavailable"
    assert "3 requests already" in refused[0][1]["detail"]
    assert (await admin.ask("GET", "/livez"))[0] == (await admin.ask("GET", "/readyz"))[0] == 200
    free.set()
    assert sorted(status for status, _ in await asyncio.gather(*asking)) == [200] * 3 + [503] * 5
    assert (await admin.ask("GET", "/api/v1/node"))[0] == 200


async def test_a_request_that_takes_too_long_is_given_up(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(_: View) -> NodeReport:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(View, "node_report", never)
    monkeypatch.setattr(admin_module, "REQUEST_TIMEOUT", 0.05)
    status, body = await admin.ask("GET", "/api/v1/node")
    assert (status, body["error"]) == (408, "request_timeout")
