"""What clients may make a gateway keep is bounded: one by one, and all together."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from tests.mute import Mute
from tests.unit.api.lone_node import CoterieError, LoneNode, Peer, connected, lone_node

from coterie_node.api import connection as connection_module
from coterie_node.api.connection import HIGH_WATER, PACKED_BYTES, STRANGER_BYTES
from coterie_node.api.memory_budget import Debts
from coterie_node.chat.gateway.conversation import STATE_AGE
from coterie_node.chat.settings import ChatSettings
from coterie_node.http import listening
from coterie_node.http.guard import PortLimits
from coterie_protocol.client_api import (
    MAX_CLIENT_FRAMES,
    Archive,
    ClientFrame,
    Done,
    Error,
    Hello,
    Lookup,
    LookupReply,
    Mail,
    MailItem,
    Resume,
    Send,
    SessionGranted,
    Stored,
    Subscribe,
    Welcome,
)
from coterie_protocol.errors import ErrorCode
from coterie_protocol.frames import encode
from coterie_protocol.identifiers import message_id

SOON = 5.0


def mid(number: int) -> bytes:
    return message_id(1, number.to_bytes(10, "big"))


@contextlib.asynccontextmanager
async def mute(node: LoneNode, *, upgraded: bool = True) -> AsyncIterator[Mute]:
    one = await Mute.connect(node.url)
    try:
        if upgraded:
            await one.upgrade()
        yield one
    finally:
        one.abort()


async def until(holds: Callable[[], bool], seconds: float = SOON) -> None:
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110  # the node's inside tells nobody of its changes
            await asyncio.sleep(0.01)


def owed(node: LoneNode) -> int:
    return node.api._debts.total


async def registered(node: LoneNode, names: list[str]) -> dict[str, bytes]:
    """Make accounts; return their tokens."""
    tokens = {}
    for name in names:
        async with connected(node.url) as peer:
            await peer.hello()
            tokens[name] = (await peer.register(name)).token
    return tokens


@contextlib.asynccontextmanager
async def stuck(node: LoneNode, name: str, token: bytes) -> AsyncIterator[Mute]:
    """Somebody who subscribes to their mailbox and reads nothing of it."""
    async with mute(node) as one:
        one.send(encode([ClientFrame(1, Hello(1, 1, "mute")), ClientFrame(2, Resume(name, token))]))
        sessions = node.chat.gateway.sessions
        await until(lambda: name in sessions._sessions and any(sessions._sessions[name].clients))
        one.send(encode([ClientFrame(3, Subscribe())]))
        await until(lambda: sessions._sessions[name].subscriber is not None)
        yield one


async def someone(node: LoneNode, peer: Peer, name: str) -> None:
    await peer.hello()
    await peer.register(name)


async def test_who_has_no_session_and_sends_much_is_cut_off(tmp_path: Path) -> None:
    async with lone_node(tmp_path) as node, mute(node) as one, connected(node.url) as alice:
        await someone(node, alice, "alice")
        one.send(encode([ClientFrame(1, Hello(1, 1, "mute"))]))
        one.send(bytes(1_000_000), STRANGER_BYTES + 1000)
        await one.gone()
        await alice.ask(Lookup("alice"), LookupReply)
        assert node.api.connections == 1


async def test_a_message_sent_in_part_is_owed_and_the_largest_debtor_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "STRANGER_BYTES", 1 << 20)
    async with lone_node(tmp_path, ChatSettings(clients_bytes=1_000_000)) as node, contextlib.AsyncExitStack() as stack:
        hello = encode([ClientFrame(1, Hello(1, 1, "mute"))])
        payload = bytes(1_000_000)
        one, two, three = [await stack.enter_async_context(mute(node)) for _ in range(3)]
        for peer, part in ((one, 300_000), (two, 500_000)):
            peer.send(hello)
            peer.send(payload, part)
        await until(lambda: owed(node) >= 800_000 - 50)
        assert 799_900 <= owed(node) <= 1_000_000
        with capture_logs() as logs:
            three.send(hello)
            three.send(payload, 400_000)
            await two.gone()
        assert [one["event"] for one in logs if one["log_level"] == "warning"] == ["a client is cut off"]
        await until(lambda: owed(node) <= 700_100)
        await until(lambda: node.api.connections == 2)
        one.writer.write(payload[300_000 - 14 :])  # The rest of it: no frames, but a whole message.
        await one.gone()
        await until(lambda: owed(node) <= 400_100)


async def test_clients_that_do_not_read_cost_a_bounded_sum_and_lose_no_mail(tmp_path: Path) -> None:
    limit = 2_000_000
    settings = ChatSettings(sends_per_second=1e6, bytes_per_second=1e9, clients_bytes=limit, window_bytes=1 << 30)
    async with (
        lone_node(tmp_path, settings) as node,
        connected(node.url) as alice,
        contextlib.AsyncExitStack() as stack,
    ):
        await someone(node, alice, "alice")
        names = [f"user{number}" for number in range(8)]
        tokens = await registered(node, names)
        for name in names:
            await stack.enter_async_context(stuck(node, name, tokens[name]))
        worst = 0
        count = 100
        for number in range(count):
            for name in names:
                await alice.ask(Send(name, mid(number), bytes(60_000)), Stored)
                worst = max(worst, owed(node))
        assert limit // 4 < worst <= limit
        async with connected(node.url) as peer:
            await peer.hello()
            await peer.ask(Resume(names[-1], tokens[names[-1]]), SessionGranted)
            await peer.ask(Subscribe(), Done)
            got: dict[bytes, MailItem] = {}
            while len(got) < count:
                fresh: list[MailItem] = []
                if not peer.events:
                    peer.events += [frame.body for frame in await peer.frames()]
                for event in peer.events:
                    if isinstance(event, Mail):
                        fresh += event.items
                peer.events.clear()
                if fresh:
                    await peer.ask(Archive([(one.sender, one.id, one.part, b"") for one in fresh]), Done)
                got.update((one.id, one) for one in fresh)


async def test_a_client_that_asks_and_does_not_read_is_slowed_and_then_costs_little(tmp_path: Path) -> None:
    """It is not read from while it does not read; its answers wait, a bounded number of them."""
    settings = ChatSettings(sends_per_second=1e6, bytes_per_second=1e9, questions_in_flight=8)
    async with lone_node(tmp_path, settings) as node, connected(node.url) as alice:
        await someone(node, alice, "alice")
        for number in range(10):
            await alice.ask(Send("alice", mid(number), os.urandom(60_000)), Stored)
        async with mute(node) as greedy:
            lookups = [ClientFrame(2 + number, Lookup("alice")) for number in range(4000)]
            greedy.send(encode([ClientFrame(1, Hello(1, 1, "mute"))]))
            for _ in range(20):
                greedy.send(encode(lookups))
            connections = list(node.api._connections)
            worst = 0
            for _ in range(100):
                await asyncio.sleep(0.01)
                worst = max([worst, *(one._queued + one._transport.get_write_buffer_size() for one in connections)])
                assert all(one._conversation.asking <= 8 for one in connections)
            assert worst <= HIGH_WATER + PACKED_BYTES + 1_000_000
        await alice.ask(Lookup("alice"), LookupReply)


async def test_all_requests_of_a_long_message_are_answered_in_turns(tmp_path: Path) -> None:
    async with (
        lone_node(tmp_path, ChatSettings(questions_in_flight=4, lookups_per_second=1e6)) as node,
        connected(node.url) as alice,
    ):
        await someone(node, alice, "alice")
        await alice.socket.send_bytes(encode([ClientFrame(100 + n, Lookup("alice")) for n in range(500)]))
        numbers = set(range(100, 600))
        while numbers:
            for frame in await alice.frames():
                assert isinstance(frame.body, LookupReply)
                numbers.remove(frame.id)


async def test_more_frames_than_a_message_may_have_break_the_protocol(tmp_path: Path) -> None:
    async with lone_node(tmp_path) as node:
        for count, fine in ((MAX_CLIENT_FRAMES, True), (MAX_CLIENT_FRAMES + 1, False)):
            async with connected(node.url) as peer:
                await peer.socket.send_bytes(encode([ClientFrame(n + 1, Hello(1, 1, "many")) for n in range(count)]))
                (first, *_) = await peer.frames()
                assert isinstance(first.body, Welcome if fine else Error)
                if not fine:
                    assert isinstance(first.body, Error)
                    assert first.body.code == ErrorCode.BAD_FRAME
                    assert f"{count} frames" in first.body.detail
                # The node takes its time over the rest, and would hear of a Close behind it only.
                peer.socket.get_extra_info("socket").shutdown(socket.SHUT_RDWR)


async def test_asking_for_the_node_s_state_over_and_over_does_not_find_it_out_each_time(tmp_path: Path) -> None:
    """A look at a thousand slots for sixteen bytes of somebody who has no account kept a node from everything else."""
    async with lone_node(tmp_path, ChatSettings(stranger_requests=10_000)) as node, connected(node.url) as peer:
        looks = 0

        def look() -> str:
            nonlocal looks
            looks += 1
            return "ready"

        node.chat.gateway.facts = replace(node.chat.gateway.facts, state=look)
        begun = time.monotonic()
        await peer.socket.send_bytes(encode([ClientFrame(n + 1, Hello(1, 1, "many")) for n in range(2000)]))
        left = 2000
        while left:
            frames = await peer.frames()
            assert all(isinstance(frame.body, Welcome) and frame.body.state == "ready" for frame in frames)
            left -= len(frames)
        assert looks <= 1 + (time.monotonic() - begun) / STATE_AGE


async def test_who_says_no_hello_is_shown_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "HELLO_TIMEOUT", 0.1)
    async with lone_node(tmp_path) as node, connected(node.url) as silent, connected(node.url) as good:
        await good.hello()
        (error,) = await silent.ended()
        assert isinstance(error, Error)
        assert error.code == ErrorCode.BAD_FRAME
        await good.register("alice")


async def test_who_asks_for_nothing_is_shown_out(tmp_path: Path) -> None:
    async with lone_node(tmp_path, limits=PortLimits(10, 10, idle=0.2)) as node:
        async with mute(node, upgraded=False) as silent:
            await silent.gone()
        async with mute(node, upgraded=False) as half:
            half.writer.write(b"GET /v1/client HTTP/1.1\r\nHost: ")
            await half.gone()
        async with connected(node.url) as good:
            await good.hello()
            await asyncio.sleep(0.5)
            await good.hello()


@pytest.mark.parametrize("limits", [PortLimits(2, 9, 5.0), PortLimits(9, 2, 5.0)], ids=["in all", "an address"])
async def test_connections_above_the_port_s_limits_are_told_so(tmp_path: Path, limits: PortLimits) -> None:
    async with lone_node(tmp_path, limits=limits) as node:
        async with connected(node.url) as one, mute(node), mute(node, upgraded=False) as third:
            await one.hello()
            line = await third.reader.readline()
            assert line == b"HTTP/1.1 503 Service Unavailable\r\n"
            rest = await third.reader.read()
            assert b"connections" in rest
            assert rest.endswith(b"\n")
            await one.hello()
        await until(lambda: not node.port.guard._open)
        async with connected(node.url) as later:
            await later.hello()


async def test_who_only_connects_gives_way_to_who_comes_later(tmp_path: Path) -> None:
    async with lone_node(tmp_path, limits=PortLimits(2, 2, 5.0)) as node, connected(node.url) as one:
        await one.hello()
        async with mute(node, upgraded=False) as first, mute(node, upgraded=False) as second:
            await first.gone()
            async with connected(node.url) as later:
                await later.hello()
                await second.gone()
        await one.hello()


async def test_too_many_clients_in_all_are_told_so(tmp_path: Path) -> None:
    async with lone_node(tmp_path, ChatSettings(connections=1)) as node, connected(node.url) as first:
        await first.hello()
        async with connected(node.url) as second:
            with pytest.raises(CoterieError) as caught:
                await second.hello()
            assert caught.value.wire_code is ErrorCode.BUSY


async def test_who_takes_nothing_is_cut_off_between_two_looks(tmp_path: Path) -> None:
    """Closing such a connection in good order would never end: its descriptor and its bytes would stay for good."""
    settings = ChatSettings(sends_per_second=1e6, bytes_per_second=1e9, window_bytes=1 << 30)
    async with lone_node(tmp_path, settings) as node, connected(node.url) as alice:
        await someone(node, alice, "alice")
        tokens = await registered(node, ["bob"])
        async with stuck(node, "bob", tokens["bob"]):
            guard = node.port.guard
            number = 0
            while not any(one.writing_paused for one in guard._open):
                await alice.ask(Send("bob", mid(number), bytes(60_000)), Stored)
                number += 1
                assert number < 1000
            guard.look()
            await alice.hello()
            assert len(guard._open) == 2
            guard.look()
            await until(lambda: len(guard._open) == 1)
        await alice.ask(Lookup("alice"), LookupReply)


def test_the_largest_debtor_goes_first() -> None:
    class Client:
        def __init__(self) -> None:
            self.cut = False

        def cut_off(self, why: str) -> None:
            self.cut = True

    debts = Debts(100)
    one, two, three = Client(), Client(), Client()
    debts.owe(one, 40)
    tight = [debts.tight]
    debts.owe(two, 50)
    assert [*tight, debts.tight] == [False, True]
    debts.owe(two, 10)
    debts.owe(three, 39)
    assert (debts.total, debts.cut) == (89, 0)
    debts.owe(two, 30)
    assert [client for client in (one, two, three) if client.cut] == [one]
    assert debts.total == 69
    debts.owe(two, 0)
    assert debts.total == 39


def test_room_for_connections_follows_what_the_system_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = (256, 1000)
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    raised: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, wanted: raised.append(wanted))
    assert listening.room_for(500) == 500
    assert raised == [(756, 1000)]
    with capture_logs() as logs:
        assert listening.room_for(5000) == 1000 - listening.SPARE_DESCRIPTORS
    assert logs[0]["most"] == 744
