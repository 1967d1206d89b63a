from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import AsyncIterator, MutableSequence
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from tests.unit.client.conftest import PASSWORD, Enter
from tests.unit.client.gateway import Gateway, Refusal, Server, World, serving

from coterie_client import race
from coterie_client.connection import CALM, SILENT, Connected, Connection, Failed, Notice
from coterie_client.errors import ExitCode, NotLoggedIn, SessionTaken, Unavailable
from coterie_client.link import LOOK, Link, http_session
from coterie_client.session import Session, load_session, login
from coterie_protocol.client_api import (
    Archive,
    Closing,
    Done,
    Kdf,
    Login,
    LoginParams,
    Lookup,
    LookupReply,
    PresenceQuery,
    PresenceReply,
    Request,
    Resume,
    ServerFrame,
    Subscribe,
)
from coterie_protocol.errors import CoterieError, ErrorCode
from coterie_protocol.frames import encode


async def session_of(enter: Enter, name: str = "alice") -> Session:
    return load_session((await enter(name)).session_file)


async def test_a_server_that_goes_away_with_its_first_word_does_not_hang_the_client(server: Server) -> None:
    server.speak = lambda frames: encode([*frames, ServerFrame(0, Closing())])
    async with asyncio.timeout(20):
        with pytest.raises(Unavailable, match="going away"):
            await Connection([server.url], patience=0.5).start()


async def test_a_login_goes_on_in_the_ring_in_which_it_began(world: World, server: Server, enter: Enter) -> None:
    """The auth key was given to whatever ring stood there after a break, and its session kept for the first."""
    await enter("alice")

    def become_another_ring(gateway: Gateway, request: Request) -> None:
        if isinstance(request, LoginParams) and world.ring_uid != "ee" * 16:
            world.ring_uid = "ee" * 16
            raise ConnectionError

    world.requests.clear()
    world.faults = become_another_ring
    async with Connection([server.url], patience=1.0) as connection:
        with pytest.raises(Unavailable, match="belongs to another ring"):
            await login(connection, "alice", PASSWORD, minimum=Kdf(8, 1, 1))
    assert not any(isinstance(request, Login) for request in world.requests)


async def test_requests_of_one_turn_travel_in_one_message(world: World, server: Server) -> None:
    async with Connection([server.url]) as connection:
        await asyncio.gather(*(connection.call(PresenceQuery([str(n)])) for n in range(5)))
    assert [len(message) for message in world.messages] == [1, 5]


async def test_what_is_too_much_for_one_message_goes_in_several(world: World, enter: Enter, server: Server) -> None:
    session = await session_of(enter)
    async with Connection([server.url], session=session) as connection:
        items = [("bob", b"%016d" % n, 0, b"x" * 70_000) for n in range(3)]
        await asyncio.gather(*(connection.call(Archive(items)) for _ in range(8)))
    sizes = [len(message) for message in world.messages if isinstance(message[0], Archive)]
    assert sum(sizes) == 8
    assert max(sizes) <= 4


async def test_a_definite_answer_is_raised_at_once(server: Server) -> None:
    async with Connection([server.url]) as connection:
        with pytest.raises(CoterieError) as caught:
            await connection.call(Lookup("nobody"))
    assert caught.value.wire_code is ErrorCode.NO_SUCH_USER


async def test_passing_errors_are_tried_again(world: World, server: Server) -> None:
    codes = [ErrorCode.UNAVAILABLE, ErrorCode.BUSY, ErrorCode.RATE_LIMITED, ErrorCode.FORMING]

    def faults(gateway: Gateway, request: Request) -> None:
        if isinstance(request, PresenceQuery) and codes:
            raise Refusal(codes.pop(), value=20)

    world.faults = faults
    async with Connection([server.url]) as connection:
        assert isinstance(await connection.call(PresenceQuery([])), PresenceReply)
    assert codes == []


async def test_a_passing_error_that_lasts_ends_as_unavailable(world: World, server: Server) -> None:
    def faults(gateway: Gateway, request: Request) -> None:
        if isinstance(request, PresenceQuery):
            raise Refusal(ErrorCode.UNAVAILABLE, "two of three nodes are away")

    world.faults = faults
    async with Connection([server.url]) as connection:
        with pytest.raises(Unavailable, match="two of three nodes are away"):
            await connection.call(PresenceQuery([]), patience=0.3)


async def test_a_lost_server_is_replaced_and_the_session_resumed(world: World, enter: Enter, server: Server) -> None:
    session = await session_of(enter)
    async with serving(world, 2) as servers:
        urls = [one.url for one in servers]
        async with Connection(urls, session=session, dice=random.Random(1)) as connection:
            notices: asyncio.Queue[Notice] = asyncio.Queue()
            connection.listen(notices.put_nowait)
            first = connection.url
            await servers[urls.index(first)].kill()
            assert isinstance(await notices.get(), Connected)
            assert connection.url != first
            assert isinstance(await connection.call(Subscribe()), Done)
    assert sum(isinstance(request, Resume) for request in world.requests) == 2


async def test_a_request_under_way_is_made_again_over_the_next_link(world: World, enter: Enter, server: Server) -> None:
    session = await session_of(enter)
    broken: list[Gateway] = []

    def faults(gateway: Gateway, request: Request) -> None:
        if isinstance(request, Lookup) and not broken:
            broken.append(gateway)
            raise ConnectionResetError

    world.faults = faults
    async with Connection([server.url], session=session) as connection:
        assert isinstance(await connection.call(Lookup("alice")), LookupReply)
    assert broken


@pytest.mark.timeout(20)
async def test_a_request_made_in_the_turn_in_which_the_link_ends_waits_for_the_next(server: Server) -> None:
    """It used to post on the dead link again and again without ever letting the event loop turn."""
    async with Connection([server.url]) as connection:
        assert connection._link is not None
        connection._link.end()
        assert isinstance(await connection.call(PresenceQuery(["bob"])), PresenceReply)


async def test_a_server_that_closes_is_left_after_its_last_answers(world: World, enter: Enter, server: Server) -> None:
    session = await session_of(enter)
    async with serving(world, 2) as servers:
        urls = [one.url for one in servers]
        async with Connection(urls, session=session) as connection:
            notices: asyncio.Queue[Notice] = asyncio.Queue()
            connection.listen(notices.put_nowait)
            first = connection.url
            reply = asyncio.ensure_future(connection.call(Lookup("alice")))
            servers[urls.index(first)].announce_closing()
            assert isinstance(await notices.get(), Connected)
            assert connection.url != first
            assert isinstance(await reply, LookupReply)


@pytest.fixture
async def mute() -> AsyncIterator[str]:
    """Accept connections and say nothing, as a frozen node does."""

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    listener = await asyncio.start_server(hold, "127.0.0.1", 0)
    async with listener:
        yield f"ws://127.0.0.1:{listener.sockets[0].getsockname()[1]}"


async def test_a_frozen_server_costs_a_fraction_of_a_second(server: Server, mute: str) -> None:
    begin = time.monotonic()
    async with Connection([mute, server.url], dice=FirstFirst()) as connection:
        took = time.monotonic() - begin
        assert connection.url == server.url
    assert race.STAGGER * 0.9 < took < race.STAGGER + 1.0


async def test_a_server_that_refuses_is_passed_by_at_once(server: Server, unused_port: int) -> None:
    begin = time.monotonic()
    async with Connection([f"ws://127.0.0.1:{unused_port}", server.url], dice=FirstFirst()):
        assert time.monotonic() - begin < race.STAGGER


async def test_a_server_that_falls_silent_is_replaced(world: World, enter: Enter, server: Server) -> None:
    session = await session_of(enter)
    async with serving(world, 2) as servers:
        urls = [one.url for one in servers]
        async with Connection(urls, session=session) as connection:
            first = connection.url
            servers[urls.index(first)].freeze()
            begin = time.monotonic()
            assert isinstance(await connection.call(Lookup("alice")), LookupReply)
            took = time.monotonic() - begin
            assert connection.url != first
            assert took < 2.5  # it was 6 s; alone on its machine it takes 1 s
            servers[urls.index(first)].freeze(False)


@pytest.mark.timeout(30)
async def test_silence_of_one_server_after_the_other_is_doubted(world: World, enter: Enter, server: Server) -> None:
    """An uplink that is full makes them all look silent: changing faster and faster would never get through."""
    session = await session_of(enter)
    async with serving(world, 3) as servers:
        by_url = {one.url: one for one in servers}
        async with Connection(list(by_url), session=session) as connection:
            waits: list[float] = []
            for _ in range(3):
                silent = by_url[connection.url]
                silent.freeze()
                begin = time.monotonic()
                assert isinstance(await connection.call(Lookup("alice")), LookupReply)
                waits.append(time.monotonic() - begin)
                silent.freeze(False)
            assert connection._silent == 4 * SILENT
            assert waits[2] > waits[0] + 2 * LOOK, waits
            link = connection._link
            assert link is not None
            connection._judge(link, CALM + link.silent * LOOK, took_over=True)
            assert connection._silent == SILENT


async def test_a_server_that_was_silent_for_a_moment_is_kept(world: World, enter: Enter, server: Server) -> None:
    session = await session_of(enter)
    async with serving(world, 2) as servers:
        urls = [one.url for one in servers]
        async with Connection(urls, session=session) as connection:
            link = connection._link
            assert link is not None
            servers[urls.index(link.url)].freeze()
            reply = asyncio.ensure_future(connection.call(Lookup("alice")))
            resumed = sum(isinstance(request, Resume) for request in world.requests)
            # Another server is made ready, but not used.
            await world.until(lambda: sum(isinstance(one, Resume) for one in world.requests) > resumed)
            assert link.silent < SILENT
            servers[urls.index(link.url)].freeze(False)
            assert isinstance(await reply, LookupReply)
            assert connection._link is link
            await asyncio.wait_for(until_alone(world), 5.0)


async def until_alone(world: World) -> None:
    while len(world.accounts["alice"].links) > 1:  # noqa: ASYNC110 - the world tells of requests, not of ends
        await asyncio.sleep(0.01)


@pytest.mark.timeout(20)
async def test_the_only_server_is_not_given_up_for_a_moment_of_silence(enter: Enter, server: Server) -> None:
    session = await session_of(enter)
    async with Connection([server.url], session=session) as connection:
        link = connection._link
        assert link is not None
        server.freeze()
        reply = asyncio.ensure_future(connection.call(Lookup("alice")))
        while link.silent <= SILENT:
            await asyncio.wait_for(link.news.wait(), 5.0)
            await asyncio.sleep(0.01)
        server.freeze(False)
        assert isinstance(await reply, LookupReply)
        assert connection._link is link


async def test_an_idle_link_notices_silence_too(world: World, enter: Enter, server: Server) -> None:
    session = await session_of(enter)
    async with serving(world, 2) as servers:
        urls = [one.url for one in servers]
        async with Connection(urls, session=session) as connection:
            notices: asyncio.Queue[Notice] = asyncio.Queue()
            connection.listen(notices.put_nowait)
            first = connection.url
            servers[urls.index(first)].freeze()
            assert isinstance(await asyncio.wait_for(notices.get(), 6.0), Connected)
            assert connection.url != first
            servers[urls.index(first)].freeze(False)


class FirstFirst(random.Random):
    """Leave the servers in the order in which they are named."""

    def shuffle(self, x: MutableSequence[Any]) -> None:
        pass


async def test_a_later_login_ends_the_session_for_good(world: World, enter: Enter, server: Server) -> None:
    session = await session_of(enter)
    async with Connection([server.url], session=session) as connection:
        notices: asyncio.Queue[Notice] = asyncio.Queue()
        connection.listen(notices.put_nowait)
        await enter("alice", home="phone", again=True)
        failed = await notices.get()
        assert isinstance(failed, Failed)
        with pytest.raises(SessionTaken, match="coterie login alice") as caught:
            await connection.call(Lookup("alice"))
    assert caught.value.exit_code is ExitCode.SESSION_TAKEN
    with pytest.raises(SessionTaken):
        await Connection([server.url], session=session).start()


async def test_a_token_that_is_refused_asks_for_a_login(world: World, enter: Enter, server: Server) -> None:
    session = await session_of(enter)

    def faults(gateway: Gateway, request: Request) -> None:
        if isinstance(request, Resume):
            raise Refusal(ErrorCode.REFUSED, "logged out")

    world.faults = faults
    with pytest.raises(NotLoggedIn, match="coterie login alice"):
        async with Connection([server.url], session=session):
            pass


async def test_a_server_of_another_ring_is_passed_over(enter: Enter, server: Server) -> None:
    session = await session_of(enter)
    async with serving(World(ring_uid="ee" * 16)) as others:
        async with Connection([others[0].url, server.url], session=session) as connection:
            assert connection.url == server.url
        with pytest.raises(Unavailable, match="another ring"):
            await Connection([others[0].url], session=session, patience=0.2).start()


@pytest.fixture
async def website() -> AsyncIterator[str]:
    app = web.Application()
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"ws://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(b"SSH-2.0-not-a-node\r\n")
    writer.close()


async def test_a_server_that_is_no_coterie_node_is_named(website: str) -> None:
    with pytest.raises(Unavailable, match="not a coterie node") as caught:
        await Connection([website], patience=0.2).start()
    assert caught.value.exit_code is ExitCode.UNAVAILABLE
    other = await asyncio.start_server(garbage, "127.0.0.1", 0)
    async with other:
        port = other.sockets[0].getsockname()[1]
        with pytest.raises(Unavailable, match="not a coterie node"):
            await Connection([f"ws://127.0.0.1:{port}"], patience=0.2).start()


async def test_refused_connections_are_told_with_the_remedy(unused_port: int) -> None:
    with pytest.raises(Unavailable, match="connection refused; start a local ring with coterie up"):
        await Connection([f"ws://127.0.0.1:{unused_port}"], patience=0.2).start()


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


async def test_a_login_is_not_repeated_as_another_one(world: World, enter: Enter, server: Server) -> None:
    await enter("alice")
    lost: list[Request] = []

    def faults(gateway: Gateway, request: Request) -> None:
        if isinstance(request, Login) and not lost:
            lost.append(request)
            raise ConnectionResetError

    world.faults = faults
    await enter("alice", home="phone", again=True)
    logins = [request for request in world.requests if isinstance(request, Login)]
    assert len(logins) == 2
    assert logins[0].op == logins[1].op


def test_granted_sessions_hide_their_token() -> None:
    assert "c2VjcmV0" not in repr(Session("alice", "r", 1, "c2VjcmV0"))


async def test_a_link_whose_closing_is_cancelled_leaves_no_socket_open(server: Server) -> None:
    async with http_session(aiohttp.TCPConnector()) as http:
        link = await Link.open(http, server.url, lambda _: None)
        closing = asyncio.create_task(link.close())
        await asyncio.sleep(0)  # it waits for the link's tasks now
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert link._socket.closed
