"""The ring page over a real aiohttp server: its files, its stream of events, its lookups, and their bounds."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp.test_utils import TestServer
from aiohttp.web import Application
from structlog.testing import capture_logs
from tests.streams import next_event
from tests.unit.api.stage import Stage, member
from yarl import URL

from coterie_node.api import gatherer as gatherer_module
from coterie_node.api import ring_page
from coterie_node.api.admin import admin_app
from coterie_protocol.admin_page import Change, Snapshot, Trace
from coterie_protocol.identifiers import key_of, slot_of

HTML = {"Accept": "text/html,application/xhtml+xml"}


class Browser:
    """Somebody with a browser at the admin port of a stage."""

    def __init__(self, stage: Stage, app: Application, session: aiohttp.ClientSession, at: URL) -> None:
        self.stage = stage
        self.app = app
        self.session = session
        self.at = at

    def get(self, path: str, **headers: str) -> Any:
        return self.session.get(self.at.join(URL(path, encoded=True)), headers=headers)

    async def json(self, path: str) -> tuple[int, Any]:
        async with self.get(path) as response:
            return response.status, await response.json()


class Listener:
    """An open stream of events, read one by one."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def next(self, *, beats: bool = False) -> tuple[str, Any]:
        """Return the next event: its kind and its data. Raises EOFError when the stream has ended."""
        async with asyncio.timeout(5.0):
            while True:
                kind, data = await next_event(self.response)
                if kind and (beats or kind != "beat"):
                    return kind, data

    async def ring(self) -> Snapshot:
        kind, data = await self.next()
        assert kind == "ring"
        return msgspec.json.decode(data, type=Snapshot)

    async def change(self) -> Change:
        kind, data = await self.next()
        assert kind == "change"
        return msgspec.json.decode(data, type=Change)


def from_address(address: str) -> aiohttp.ClientSession:
    """A session of somebody at another address of this machine."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(local_addr=(address, 0)))


@asynccontextmanager
async def served(stage: Stage, *, page: bool = True) -> AsyncIterator[Browser]:
    app = admin_app(stage, None, page=page)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        yield Browser(stage, app, session, server.make_url("/"))


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with served(Stage()) as found:
        yield found


@pytest.fixture
async def listening(browser: Browser) -> AsyncIterator[Any]:
    """Open streams that are closed after the test."""
    async with AsyncExitStack() as stack:
        sessions: dict[str, aiohttp.ClientSession] = {}

        async def listen(address: str = "127.0.0.1") -> Listener:
            if address not in sessions:
                sessions[address] = await stack.enter_async_context(from_address(address))
            response = await stack.enter_async_context(sessions[address].get(browser.at.join(URL("/api/v1/events"))))
            assert response.status == 200, await response.text()
            return Listener(response)

        yield listen


# --- files ---


async def test_everybody_gets_the_page_but_who_asks_for_text_gets_the_list_of_paths(browser: Browser) -> None:
    for headers in (HTML, {"Accept": "*/*"}, {}):
        async with browser.get("/", **headers) as response:
            assert (response.status, response.content_type) == (200, "text/html")
            assert response.headers["Vary"] == "Accept"
    async with browser.get("/", Accept="application/json") as response:
        assert (response.content_type, response.headers["Vary"]) == ("application/json", "Accept")
        assert (await response.json())["state"] == "ready"
    async with browser.get("/", Accept="text/plain") as response:
        assert (response.content_type, response.headers["Vary"]) == ("text/plain", "Accept")
        assert "/api/v1/events" in await response.text()


async def test_everything_that_the_page_names_is_there_and_nothing_is_elsewhere(browser: Browser) -> None:
    files = ring_page.page_files()
    named = set()
    for name, body in files.items():
        text = body.decode()
        assert not re.search(r"(?:src|href|url|import)\W{1,3}(?:https?:)?//", text), f"{name} asks for something else"
        named |= set(re.findall(r'(?:src|href)="page/([^"]+)"', text)) | set(re.findall(r'from "\./([^"]+)"', text))
    assert named == set(files) - {"index.html"}
    for name in named:
        async with browser.get(f"/page/{name}") as response:
            assert (response.status, await response.read()) == (200, files[name])


async def test_no_text_of_another_node_can_become_more_than_text(browser: Browser) -> None:
    """A name is set as text, never as markup; and what would run or load anyway is forbidden by policy."""
    for name, body in ring_page.page_files().items():
        if name.endswith(".js"):
            assert not re.search(rb"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", body)
    page = ring_page.page_files()["index.html"].decode()
    assert not re.search(r"<style|\sstyle=|\son\w+=", page)
    assert re.findall(r"<script[^>]*>", page) == ['<script type="module" src="page/main.js">']
    for path in ("/", "/page/main.js", "/api/v1/lookup?key=1", "/api/v1/events"):
        async with browser.get(path, **HTML) as response:
            policy = response.headers["Content-Security-Policy"].split("; ")
            assert {"default-src 'none'", "script-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"} <= {
                *policy
            }
            assert not any("unsafe" in rule or "*" in rule or "data:" in rule for rule in policy)
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert response.headers["Referrer-Policy"] == "no-referrer"


async def test_a_browser_that_has_a_file_is_told_so(browser: Browser) -> None:
    async with browser.get("/page/main.js") as response:
        tag = response.headers["ETag"]
        assert response.headers["Cache-Control"] == "no-cache"
    async with browser.get("/page/main.js", **{"If-None-Match": tag}) as response:
        assert (response.status, await response.read()) == (304, b"")
    async with browser.get("/page/page.css", **{"If-None-Match": tag}) as response:
        assert response.status == 200


@pytest.mark.parametrize("path", ["/page/nothing.js", "/page/..%2fadmin.py", "/page/%2e%2e/admin.py", "/page/"])
async def test_nothing_else_is_served(browser: Browser, path: str) -> None:
    async with browser.get(path) as response:
        assert (response.status, (await response.json())["error"]) == (404, "not_found")


async def test_a_closed_page_says_so_and_leaves_the_rest_open() -> None:
    async with served(Stage(), page=False) as closed:
        for path in ("/page/main.js", "/api/v1/events", "/api/v1/lookup?key=1"):
            status, body = await closed.json(path)
            assert (status, "--page on" in body["detail"]) == (404, True)
        async with closed.get("/", **HTML) as response:
            assert (response.status, response.content_type) == (200, "text/plain")
        assert (await closed.json("/api/v1/ring"))[0] == 200
        assert closed.stage.traced == []


# --- events ---


async def test_a_stream_begins_with_everything_and_goes_on_with_what_changes(browser: Browser, listening: Any) -> None:
    listener = await listening()
    assert listener.response.content_type == "text/event-stream"
    first = await listener.ring()
    assert (first.ring_uid, first.slots, first.seat.name) == ("ab" * 16, 1024, "node-0")
    assert [one.name for one in first.members] == ["node-0", "node-1", "node-2", "node-3"]
    browser.stage.show([*(member(number) for number in range(3)), member(3, state="unreachable")])
    change = await listener.change()
    assert [(one.name, one.state) for one in change.members or []] == [("node-3", "unreachable")]
    assert (change.gone, change.ring_uid, change.seat) == (msgspec.UNSET, msgspec.UNSET, msgspec.UNSET)
    browser.stage.show(member(number) for number in range(3))
    assert (await listener.change()).gone == [member(3).uid]


async def test_names_with_breaks_and_markup_stay_within_their_event(browser: Browser, listening: Any) -> None:
    name = "a\nevent: bye\rdata: {}\n\n\u2028</script><b>&"
    browser.stage.show([msgspec.structs.replace(member(0), name=name)])
    assert (await (await listening()).ring()).members[0].name == name


async def test_rates_are_of_the_time_between_two_looks(
    browser: Browser, listening: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gatherer_module, "AT_MOST_EVERY", 0.1)
    began = time.monotonic()
    listener = await listening()
    assert [one.records_per_second for one in (await listener.ring()).members] == [0.0] * 4
    await asyncio.sleep(0.1)
    browser.stage.show([member(0, records=100), *(member(number) for number in range(1, 4))])
    change = await listener.change()
    assert [one.name for one in change.members or []] == ["node-0"]
    # A hundred, in 0.1 s or a bit more.
    assert 100 / (time.monotonic() - began) - 1 <= change.members[0].records_per_second <= 1000
    still = await listener.change()
    assert [(one.name, one.records_per_second) for one in still.members or []] == [("node-0", 0.0)]


async def test_many_pages_cost_the_looks_of_one_and_none_cost_none(
    browser: Browser, listening: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gatherer_module, "EVERY", 0.2)
    monkeypatch.setattr(gatherer_module, "AT_MOST_EVERY", 0.05)
    await asyncio.sleep(0.3)
    assert browser.stage.looks == 0
    began = time.monotonic()
    listeners = [await listening() for _ in range(10)]
    for listener in listeners:
        await listener.ring()
    await asyncio.sleep(0.5)
    assert 2 <= browser.stage.looks <= (time.monotonic() - began) / 0.2 + 2
    for listener in listeners:
        listener.response.close()
    browser.stage.show([member(0)])  # whoever writes to a closed stream notices
    await asyncio.sleep(0.3)
    looks = browser.stage.looks
    await asyncio.sleep(0.5)
    assert browser.stage.looks == looks


async def test_a_storm_of_changes_is_looked_at_a_few_times_a_second(browser: Browser, listening: Any) -> None:
    listener = await listening()
    await listener.ring()
    began, before = time.monotonic(), browser.stage.looks
    for number in range(100):
        browser.stage.show([member(0, records=number)])
        await asyncio.sleep(0.01)
    assert browser.stage.looks - before <= (time.monotonic() - began) / gatherer_module.AT_MOST_EVERY + 2


async def test_quiet_is_filled_with_beats(browser: Browser, listening: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ring_page, "BEAT", 0.05)
    listener = await listening()
    await listener.ring()
    assert [(await listener.next(beats=True))[0] for _ in range(3)] == ["beat"] * 3


async def test_a_node_without_a_ring_says_what_it_waits_for(browser: Browser, listening: Any) -> None:
    browser.stage.ring_uid = ""
    listener = await listening()
    first = await listener.ring()
    assert (first.ring_uid, first.members, first.seat.reasons) == ("", [], ["waiting for a ring"])
    browser.stage.ring_uid = "cd" * 16
    browser.stage.show(browser.stage.members)
    change = await listener.change()
    assert (change.ring_uid, change.slots, len(change.members or [])) == ("cd" * 16, 1024, 4)


async def test_a_node_that_cannot_look_says_so_instead_of_showing_what_was(browser: Browser, listening: Any) -> None:
    listener = await listening()
    await listener.ring()
    browser.stage.fault = OSError("the disk is gone")
    browser.stage.show(browser.stage.members)
    with capture_logs() as logs:
        change = await listener.change()
        assert (change.ring_uid, len(change.gone or [])) == ("", 4)
        assert change.seat
        assert change.seat.reasons == ["the node cannot look at the ring (OSError); its log says how"]
        browser.stage.show(browser.stage.members)
        looks = browser.stage.looks
        while browser.stage.looks < looks + 2:
            assert (await listener.next(beats=True))[0] == "beat"
    assert [entry["log_level"] for entry in logs] == ["error"], "once is enough"
    browser.stage.fault = None
    browser.stage.show(browser.stage.members)
    assert len((await listener.change()).members or []) == 4


async def test_one_page_too_many_is_refused_clearly_until_another_closes(
    browser: Browser, listening: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ring_page, "BEAT", 0.05)
    first = await listening("127.0.0.2")
    for number, more in enumerate((15, 8, 4, 2, 1, 1), 2):
        for _ in range(more):
            last = await listening(f"127.0.0.{number}")
    status, body = await browser.json("/api/v1/events")
    assert (status, body["error"]) == (503, "unavailable")
    assert "32 pages look at the ring from here already" in body["detail"]
    first.response.close()
    streams = browser.app[ring_page.GATHERER]
    while streams.streams == 32:  # the beat that cannot be sent tells
        await last.next(beats=True)
    third = await listening()
    await third.ring()


async def test_one_address_cannot_shut_the_page_for_the_others(browser: Browser, listening: Any) -> None:
    for _ in range(16):  # who is alone has half of the pages: more than one machine's people open
        await listening("127.0.0.2")
    async with from_address("127.0.0.2") as greedy, greedy.get(browser.at.join(URL("/api/v1/events"))) as response:
        assert response.status == 503
        assert "your address has 16 of the 32 pages" in (await response.json())["detail"]
    other = await listening("127.0.0.3")
    await other.ring()


async def test_a_reader_that_takes_nothing_is_cut_off(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ring_page, "PATIENCE", 0.2)
    monkeypatch.setattr(gatherer_module, "AT_MOST_EVERY", 0.0)
    loop = asyncio.get_running_loop()
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.setblocking(False)
        await loop.sock_connect(slow, ("127.0.0.1", browser.at.port))
        await loop.sock_sendall(slow, b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert await loop.sock_recv(slow, 4096)
        async with asyncio.timeout(20.0):
            for number in range(1_000_000):
                # Each look differs in every member, so each event is as large as the ring.
                browser.stage.show(member(one, 2000, records=number) for one in range(2000))
                await asyncio.sleep(0.05)
                if not browser.app[ring_page.GATHERER].streams:
                    break
        assert not browser.app[ring_page.GATHERER].streams
        with pytest.raises((ConnectionResetError, EOFError)):  # noqa: PT012  (what the kernel held still comes)
            while True:
                if not await loop.sock_recv(slow, 1 << 20):
                    raise EOFError


async def test_streams_end_when_the_node_stops(browser: Browser, listening: Any) -> None:
    listener = await listening()
    await listener.ring()
    began = asyncio.get_running_loop().time()
    stopping = asyncio.create_task(browser.app.shutdown())
    assert (await listener.next())[0] == "bye"
    with pytest.raises(EOFError):
        await listener.next()
    await stopping
    assert asyncio.get_running_loop().time() - began < 2.0


# --- lookups ---


async def test_a_name_is_looked_up_where_it_lives_and_a_slot_where_it_is(browser: Browser) -> None:
    status, body = await browser.json("/api/v1/lookup?name=Alice")
    found = msgspec.convert(body, Trace)
    assert (status, found.key, found.slot) == (200, f"{key_of('alice'):040x}", slot_of(key_of("alice"), 1024))
    assert [(hop.name, hop.answered) for hop in found.hops] == [("node-1", True)]
    assert (await browser.json("/api/v1/lookup?key=1023"))[1]["key"] == "ffc" + "0" * 37
    assert (await browser.json("/api/v1/lookup?key=" + "ff" * 20))[1]["slot"] == 1023
    assert browser.stage.traced == [slot_of(key_of("alice"), 1024), 1023, 1023]


@pytest.mark.parametrize(
    "query", ["", "name=a&key=1", "key=1024", "key=-1", "key=x", "key=" + "g" * 40, "key=%D9%A3", "name=", "name=a%20b",
              "name=" + "a" * 5000],
)  # fmt: skip
async def test_what_cannot_be_looked_up_is_refused_in_a_line(browser: Browser, query: str) -> None:
    status, body = await browser.json(f"/api/v1/lookup?{query}")
    assert (status, body["error"] in ("bad_request", "bad_name")) == (400, True)
    assert "\n" not in body["detail"]
    assert len(body["detail"]) < 200
    assert browser.stage.traced == []


async def test_lookups_at_once_are_bounded_and_not_all_of_one_address(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = asyncio.Event()

    async def lookup(stage: Stage, slot: int) -> Trace:
        await free.wait()
        return Trace(slot, 0.0, "", [], None, [], [])

    async def ask(session: aiohttp.ClientSession, slot: int) -> int:
        async with session.get(browser.at.join(URL(f"/api/v1/lookup?key={slot}"))) as response:
            return response.status

    monkeypatch.setattr(Stage, "lookup", lookup)
    async with from_address("127.0.0.2") as one, from_address("127.0.0.3") as two, from_address("127.0.0.4") as three:
        asking: list[asyncio.Task[int]] = []
        for session, taken, refused in ((one, 2, 3), (two, 1, 3), (three, 1, 3), (browser.session, 0, 3)):
            mine = [asyncio.create_task(ask(session, slot)) for slot in range(taken + refused)]
            answered: set[asyncio.Task[int]] = set()
            while len(answered) < refused:
                answered, _ = await asyncio.wait(mine, timeout=0.1, return_when=asyncio.FIRST_COMPLETED)
            assert [task.result() for task in answered] == [503] * refused
            asking += [task for task in mine if task not in answered]
        free.set()
        assert await asyncio.gather(*asking) == [200] * 4


async def test_before_there_is_a_ring_a_lookup_says_why_not(browser: Browser) -> None:
    browser.stage.ring_uid = ""
    status, body = await browser.json("/api/v1/lookup?name=alice")
    assert (status, body["error"]) == (503, "unavailable")
    assert json.dumps(body).isascii()
