"""A flood of one source costs others a turn at most: real sockets, real bcrypt."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
from structlog.testing import capture_logs
from tests.mute import Mute
from tests.unit.api.lone_node import LoneNode, Peer, connected, lone_node

from coterie_node.chat.settings import ChatSettings
from coterie_node.http.guard import MAX_HELD
from coterie_protocol.client_api import (
    CLIENT_PATH,
    ClientFrame,
    Error,
    Hello,
    Kdf,
    Login,
    Register,
    Resume,
    SessionGranted,
    Welcome,
)
from coterie_protocol.errors import ErrorCode
from coterie_protocol.frames import encode

COST = 7
"""Some ten milliseconds a hash."""


@contextlib.asynccontextmanager
async def from_elsewhere(node: LoneNode) -> AsyncIterator[Peer]:
    """Connect from another of this machine's addresses."""
    connector = aiohttp.TCPConnector(local_addr=("127.0.0.9", 0))
    async with aiohttp.ClientSession(connector=connector) as http, http.ws_connect(node.url + CLIENT_PATH) as socket:
        yield Peer(socket)


async def test_an_owner_logs_in_while_another_source_floods_with_registrations(tmp_path: Path) -> None:
    auth = base64.b64encode(hashlib.sha256(b"alice").digest()).decode()
    async with lone_node(tmp_path, bcrypt_cost=COST) as node, connected(node.url) as owner:
        await owner.hello()
        await owner.register("alice")
        async with from_elsewhere(node) as flood:
            await flood.hello()
            frames = [
                ClientFrame(number, Register(f"user{number}", Kdf(8, 1, 1), auth, b"", b"", number.to_bytes(16, "big")))
                for number in range(100, 140)
            ]
            await flood.socket.send_bytes(encode(frames))
            await flood.frames()  # It has the worker.
            async with connected(node.url) as device:
                await device.hello()
                await device.ask(Login("alice", auth, bytes(15) + b"\2"), SessionGranted)
            # Some thirty of the flood wait at a time; first come, first served, they would all be before the owner.
            assert node.chat.gateway.registration.counts.registered < 10


async def test_what_strangers_ask_has_one_rate_for_their_source_and_none_for_others(tmp_path: Path) -> None:
    settings = ChatSettings(stranger_address_requests=20, stranger_address_pause=60.0)
    async with lone_node(tmp_path, settings) as node, contextlib.AsyncExitStack() as stack:
        owner = await stack.enter_async_context(connected(node.url))
        await owner.hello()
        token = (await owner.register("alice")).token
        codes: list[int] = []
        for _ in range(4):
            one = await mute_on(node, stack)
            await one.upgrade()
            one.ask((1, Hello(1, 1, "test")), *((2 + n, Resume("nobody", bytes(32))) for n in range(10)))
            expected = len(codes) + 10
            while len(codes) < expected:
                codes += [frame.body.code for frame in await one.frames() if isinstance(frame.body, Error)]
        assert codes.count(ErrorCode.NO_SUCH_USER) == 20
        assert codes.count(ErrorCode.RATE_LIMITED) == 20
        async with connected(node.url) as device:  # Alice has been here before.
            await device.hello()
            await device.ask(Resume("alice", token), SessionGranted)
        async with from_elsewhere(node) as other:
            await other.hello()
            await other.ask(Resume("alice", token), SessionGranted)


async def test_connections_of_one_source_wait_for_their_turn_and_lose_nothing_they_sent(tmp_path: Path) -> None:
    settings = ChatSettings(newcomers_at_once=4, newcomer_pause=0.1)
    async with lone_node(tmp_path, settings) as node, contextlib.AsyncExitStack() as stack:
        begun = time.perf_counter()
        crowd = [await mute_on(node, stack) for _ in range(12)]
        greetings = [asyncio.create_task(one.upgrade()) for one in crowd]  # The head is written before they are let in.
        async with from_elsewhere(node) as other:
            await other.hello()
        assert not all(greeting.done() for greeting in greetings)
        await asyncio.wait_for(asyncio.gather(*greetings), 10.0)
        assert time.perf_counter() - begun >= 0.7
        for one in crowd:
            one.ask((1, Hello(1, 1, "test")))
            assert isinstance((await one.frames())[0].body, Welcome)


async def test_who_sends_much_before_it_is_let_in_is_cut_off(tmp_path: Path) -> None:
    settings = ChatSettings(newcomers_at_once=1, newcomer_pause=60.0)
    async with lone_node(tmp_path, settings) as node, contextlib.AsyncExitStack() as stack:
        first, second = await mute_on(node, stack), await mute_on(node, stack)
        await first.upgrade()
        await until(lambda: len(node.port.guard._open) == 2)
        (held,) = (one for one in node.port.guard._open if one._held is not None)
        held.data_received(bytes(MAX_HELD))  # As uvloop does, which may read once after it was told not to.
        held.data_received(b"x")
        await second.gone()
        await until(lambda: len(node.port.guard._open) == 1)
        third = await mute_on(node, stack)
        third.writer.write(b"GET / HTTP/1.1\r\n")
        await until(lambda: len(node.port.guard._open) == 2)
        await node.port.close()  # All the same, and the one that waits with it.
        await third.gone()


async def test_a_client_that_comes_to_its_session_gives_its_place_to_the_next(tmp_path: Path) -> None:
    settings = ChatSettings(newcomers_at_once=2, newcomer_pause=60.0)
    async with lone_node(tmp_path, settings) as node, contextlib.AsyncExitStack() as stack:
        for number in range(6):
            peer = await stack.enter_async_context(connected(node.url))
            await peer.hello()
            await peer.register(f"user{number}")


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5.0):
        while not holds():  # noqa: ASYNC110  # the node's inside tells nobody of its changes
            await asyncio.sleep(0.01)


async def mute_on(node: LoneNode, stack: contextlib.AsyncExitStack) -> Mute:
    one = await Mute.connect(node.url)
    stack.callback(one.abort)
    return one


async def test_two_sessions_asked_for_at_once_leave_one(tmp_path: Path) -> None:
    """The other is not kept, and its user not online, for as long as the node runs."""
    async with lone_node(tmp_path) as node, contextlib.AsyncExitStack() as stack:
        tokens = {}
        for name in ("ann", "bob", "cid"):
            async with connected(node.url) as device:
                await device.hello()
                tokens[name] = (await device.register(name)).token
        await until(lambda: len(node.chat.gateway.sessions) == 0)
        with capture_logs() as logs:
            one = await mute_on(node, stack)
            await one.upgrade()
            one.ask((1, Hello(1, 1, "test")), (2, Resume("cid", tokens["cid"])))
            await answers(one, 2)
            one.ask((3, Resume("ann", tokens["ann"])), (4, Resume("bob", tokens["bob"])))
            assert all(isinstance(body, SessionGranted) for body in await answers(one, 2))
            assert len(node.chat.gateway.sessions) == 1
            one.abort()
            await until(lambda: len(node.chat.gateway.sessions) == 0)
        assert not [entry for entry in logs if entry["log_level"] == "error"]


async def answers(one: Mute, count: int) -> list[object]:
    bodies: list[object] = []
    while len(bodies) < count:
        bodies += [frame.body for frame in await one.frames() if frame.id]
    return bodies
