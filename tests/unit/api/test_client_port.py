"""The client port on real sockets: what clients, strangers and people with a browser get from it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from structlog.testing import capture_logs
from tests.leaving import LEAVINGS, leave_during_upgrade
from tests.unit.api.lone_node import RING, CoterieError, LoneNode, connected, lone_node

from coterie_node.chat.settings import ChatSettings
from coterie_protocol.client_api import (
    CLIENT_PATH,
    MAX_CLIENT_FRAME_BYTES,
    MAX_MESSAGE_BODY_BYTES,
    Archive,
    ClientFrame,
    Closing,
    Done,
    Drained,
    Error,
    Hello,
    Mail,
    Receipt,
    Send,
    Stored,
    Subscribe,
    Welcome,
)
from coterie_protocol.errors import ErrorCode
from coterie_protocol.frames import encode
from coterie_protocol.identifiers import message_id


def mid(number: int) -> bytes:
    return message_id(1, number.to_bytes(10, "big"))


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[LoneNode]:
    async with lone_node(tmp_path / "data") as one:
        yield one


async def test_it_says_what_it_is(node: LoneNode) -> None:
    async with aiohttp.ClientSession() as http:
        async with http.get(node.url.replace("ws:", "http:") + "/") as response:
            assert response.status == 200
            assert "Coterie node (lone)" in await response.text()
        async with http.get(node.url.replace("ws:", "http:") + CLIENT_PATH) as response:
            assert response.status == 400
    async with connected(node.url) as peer:
        welcome = await peer.hello()
        assert (welcome.ring_uid, welcome.node_name, welcome.state) == (RING, "lone", "ready")
        assert welcome.servers == ["ws://elsewhere:7400"]
        assert welcome.limits.body_bytes == MAX_MESSAGE_BODY_BYTES


async def test_a_whole_conversation(node: LoneNode) -> None:
    async with connected(node.url) as alice, connected(node.url) as bob:
        for peer, name in ((alice, "alice"), (bob, "bob")):
            await peer.hello()
            await peer.register(name)
        body = b"x" * MAX_MESSAGE_BODY_BYTES
        stored = await alice.ask(Send("bob", mid(1), body), Stored)
        assert stored.copies == 1
        await bob.ask(Subscribe(), Done)
        while not any(isinstance(event, Drained) for event in bob.events):
            bob.events += [frame.body for frame in await bob.frames()]
        (mail,) = (event for event in bob.events if isinstance(event, Mail))
        assert [(item.sender, item.id, item.body) for item in mail.items] == [("alice", mid(1), body)]
        await bob.ask(Archive([("alice", mid(1), 0, b"copy")]), Done)
        (receipt,) = [frame.body for frame in await alice.frames()]
        assert isinstance(receipt, Receipt)
        assert receipt.items[0][:3] == ("bob", mid(1), 2)
        with pytest.raises(CoterieError) as caught:
            await alice.ask(Send("bob", mid(2), body + b"x"), Stored)
        assert (caught.value.wire_code, caught.value.value) == (ErrorCode.TOO_LARGE, MAX_MESSAGE_BODY_BYTES)
    await asyncio.wait_for(node.api.close(2.0), 3)
    assert node.chat.sessions == 0


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"garbage",
        b"\x91" * 100_000,
        b"\x91\x92\x01\x92\xcc\xc8\x01",
        encode([ClientFrame(1, Send("bob", b"x", b"no hello first"))])[:-1],
        encode([ClientFrame(1, Subscribe())]),
    ],
)
async def test_garbage_is_named_logged_once_and_ends_only_that_connection(node: LoneNode, garbage: bytes) -> None:
    async with connected(node.url) as good:
        await good.hello()
        with capture_logs() as logs:
            async with connected(node.url) as bad:
                await bad.socket.send_bytes(garbage)
                (error,) = await bad.ended()
                assert isinstance(error, Error)
                assert error.code == ErrorCode.BAD_FRAME
        assert [one["event"] for one in logs] == ["a client broke the protocol"]
        await good.register("alice")


async def test_a_text_message_and_an_oversized_one_end_the_connection(node: LoneNode) -> None:
    with capture_logs() as logs:
        for message in ("text", b"x" * (MAX_CLIENT_FRAME_BYTES + 1)):
            async with connected(node.url) as bad:
                await bad.hello()
                if isinstance(message, str):
                    await bad.socket.send_str(message)
                else:
                    await bad.socket.send_bytes(message)
                await bad.ended()
        await node.api.close(2.0)
    assert [(one["log_level"], one.get("suppressed")) for one in logs] == [("warning", None), ("warning", 1)]
    async with connected(node.url) as good:
        await good.hello()


async def test_raw_bytes_on_the_port_do_no_harm(node: LoneNode) -> None:
    host, port = node.url.removeprefix("ws://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"\x00\xff\x13\x37" * 1000 + b"\r\n\r\n")
    assert b"400" in await reader.read(100)
    writer.close()
    await writer.wait_closed()
    async with connected(node.url) as good:
        await good.hello()


@pytest.mark.parametrize("when", LEAVINGS)
async def test_a_client_that_goes_away_during_the_upgrade_is_no_failure(
    node: LoneNode, when: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    await leave_during_upgrade(node.url + CLIENT_PATH, when, monkeypatch)
    async with connected(node.url) as peer:
        await peer.hello()
    assert caplog.records == []


async def test_too_many_connections_of_one_address_are_told_so(tmp_path: Path) -> None:
    async with lone_node(tmp_path, ChatSettings(connections_per_address=1)) as node, connected(node.url) as first:
        await first.hello()
        async with connected(node.url) as second:
            with pytest.raises(CoterieError) as caught:
                await second.hello()
            assert caught.value.wire_code is ErrorCode.RATE_LIMITED
            assert not await second.ended()
        await first.register("alice")


async def test_no_common_version(node: LoneNode) -> None:
    async with connected(node.url) as peer:
        with pytest.raises(CoterieError) as caught:
            await peer.ask(Hello(7, 9, "tomorrow"), Welcome)
        assert caught.value.wire_code is ErrorCode.UNSUPPORTED_VERSION
        assert not await peer.ended()


async def test_a_node_that_goes_away_says_so_and_finishes_what_it_took(node: LoneNode) -> None:
    async with connected(node.url) as alice:
        await alice.hello()
        await alice.register("alice")
        await alice.send(Send("alice", mid(1), b"last words"))
        await alice.hello()  # It has read what came before.
        leaving = asyncio.create_task(alice.ended())
        node.api.drain()
        assert await node.chat.finish(2.0)
        await node.api.close(2.0)
        bodies = [*alice.events, *await leaving]
        assert any(isinstance(body, Closing) for body in bodies)
        assert node.chat.counts().stored == 1
    async with connected(node.url) as late:
        with pytest.raises(CoterieError) as caught:
            await late.hello()
        assert caught.value.wire_code is ErrorCode.SHUTTING_DOWN


async def test_many_requests_in_one_go_are_all_answered(tmp_path: Path) -> None:
    settings = ChatSettings(sends_per_second=1e6, requests_in_flight=100)
    async with lone_node(tmp_path, settings) as node, connected(node.url) as alice:
        await alice.hello()
        await alice.register("alice")
        numbers = {await alice.send(Send("alice", mid(number), b"x" * 200)) for number in range(1000)}
        while numbers:
            for frame in await alice.frames():
                assert isinstance(frame.body, Stored)
                numbers.remove(frame.id)


async def test_a_client_that_does_not_read_gets_its_mail_when_it_does(tmp_path: Path) -> None:
    settings = ChatSettings(sends_per_second=1e6, bytes_per_second=1e9, window_records=100_000, window_bytes=1 << 30)
    async with lone_node(tmp_path, settings) as node, connected(node.url) as alice, connected(node.url) as bob:
        for peer, name in ((alice, "alice"), (bob, "bob")):
            await peer.hello()
            await peer.register(name)
        count, body = 400, b"x" * 60_000
        await bob.ask(Subscribe(), Done)
        for number in range(count):  # 24 MB: more than sockets hold
            await alice.ask(Send("bob", mid(number), body), Stored)
        got: set[bytes] = set()
        while len(got) < count:
            for event in [*bob.events, *(frame.body for frame in await bob.frames())]:
                if isinstance(event, Mail):
                    got.update(item.id for item in event.items)
            bob.events.clear()


async def test_bcrypt_does_not_hold_up_the_others(tmp_path: Path) -> None:
    settings = ChatSettings(stranger_requests=1_000_000)
    async with contextlib.AsyncExitStack() as stack:
        node = await stack.enter_async_context(lone_node(tmp_path, settings, bcrypt_cost=12))
        slow, quick = [await stack.enter_async_context(connected(node.url)) for _ in range(2)]
        await slow.hello()
        await quick.hello()
        registering = asyncio.create_task(slow.register("alice"))
        worst = 0.0
        while not registering.done():
            began = time.perf_counter()
            await quick.hello()
            worst = max(worst, time.perf_counter() - began)
        await registering
        assert worst < 0.1
