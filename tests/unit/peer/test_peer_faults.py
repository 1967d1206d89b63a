"""Peers that fall silent, die, talk nonsense or take nothing: the node stays up and says so at once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from tests.leaving import LEAVINGS, leave_during_upgrade
from tests.unit.peer.conftest import MakeNode
from tests.unit.peer.nodes import PATIENT, QUICK, SOON, event, question, raw_peer, uid_of

from coterie_node.peer.settings import PeerSettings
from coterie_protocol.client_api import MAX_PEER_FRAME_BYTES, PEER_PATH
from coterie_protocol.errors import Unavailable
from coterie_protocol.nodes import Heartbeat, Ping, Pong, WhoIs

ROOT = Path(__file__).parents[3]


@contextlib.asynccontextmanager
async def process(number: int) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """Run a peer in a process; yields it and its port."""
    paths = [str(ROOT), *sys.path]
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.unit.peer.frozen",
        str(number),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        cwd=ROOT,
    )
    assert child.stdout is not None
    try:
        yield child, int(await child.stdout.readline())
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


async def test_a_frozen_process_is_noticed_and_linked_again_when_it_thaws(make: MakeNode) -> None:
    one = await make(1)
    async with process(2) as (child, port):
        await one.links.contact("127.0.0.1", port, SOON)
        one.links.want([uid_of(2)])
        child.send_signal(signal.SIGSTOP)
        begun = time.monotonic()
        with pytest.raises(Unavailable, match=r"silent for 0\.5 s"):
            await one.links.request(uid_of(2), Ping(), 60.0)
        assert time.monotonic() - begun < SOON
        assert not one.links.alive(uid_of(2))
        ref = one.links.ref(uid_of(2))
        assert ref is not None
        assert not await one.links.probe(ref, 0.1)
        child.send_signal(signal.SIGCONT)
        await one.until(lambda: one.links.alive(uid_of(2)))
        assert isinstance(await one.links.request(uid_of(2), Ping(), SOON), Pong)


async def test_a_killed_process_is_noticed_at_once(make: MakeNode) -> None:
    one = await make(1, PATIENT)
    async with process(2) as (child, port):
        await one.links.contact("127.0.0.1", port, SOON)
        child.send_signal(signal.SIGSTOP)  # so that it cannot answer first
        asking = asyncio.create_task(one.links.request(uid_of(2), question(), 60.0))
        await asyncio.sleep(0)
        child.kill()
        with pytest.raises(Unavailable, match="was lost"):
            await asyncio.wait_for(asking, SOON)
        assert one.changes == [(uid_of(2), True), (uid_of(2), False)]


async def test_heartbeats_keep_a_quiet_link(make: MakeNode) -> None:
    one = await make(1)
    async with raw_peer(one, 2) as quiet:
        await quiet.link()
        beats = 0
        while beats < 20:  # twice as long as silence is borne
            beats += (await quiet.receive()).count(Heartbeat())
            await quiet.send(Heartbeat())
        assert one.changes == [(quiet.uid, True)]


async def test_who_stood_still_itself_blames_nobody(make: MakeNode) -> None:
    one, two, three = await make(1), await make(2), await make(3)
    for a, b in ((one, two), (two, three), (three, one)):
        await a.meet(b)
    time.sleep(2 * QUICK.silence)  # noqa: ASYNC251  # the loop stands still: that is the point
    async with raw_peer(one, 9) as witness:
        await witness.link()
        for _ in range(10):
            await witness.receive()
            await witness.send(Heartbeat())
    assert [change for node in (one, two, three) for change in node.changes if not change[1]] == [
        change for change in one.changes if change == (witness.uid, False)
    ]
    assert await one.links.request(two.uid, Ping(), SOON) == Pong(two.me)


GARBAGE = [b"", b"\x00", b"\xc1" * 50, b"\x91" * 3000, b"\xdd\xff\xff\xff\xff", b"\x91\x92\x01\x92\xcc\xfe\x01", b"{}"]


@pytest.mark.parametrize("data", [*GARBAGE, b"x" * (MAX_PEER_FRAME_BYTES + 1)], ids=lambda data: repr(data[:6]))
@pytest.mark.parametrize("linked", [False, True])
async def test_garbage_ends_its_own_link_only(make: MakeNode, data: bytes, linked: bool) -> None:
    one, two = await make(1), await make(2)
    await one.meet(two)
    async with raw_peer(one, 3) as raw:
        if linked:
            await raw.link()
            await one.until(lambda: one.links.alive(raw.uid))
        with contextlib.suppress(ConnectionError):
            await raw.socket.send_bytes(data)
        await raw.ended()
        if linked:
            await one.until(lambda: not one.links.alive(raw.uid))
    assert await two.links.request(one.uid, Ping(), SOON) == Pong(one.me)
    assert two.changes == [(one.uid, True)]


async def test_garbage_among_good_frames(make: MakeNode) -> None:
    """What was whole before the nonsense has been taken."""
    one = await make(1)
    async with raw_peer(one, 3) as raw:
        await raw.link()
        await raw.send(event("good"))
        await raw.socket.send_str("a text message")
        await raw.ended()
    await one.until(lambda: one.changes == [(raw.uid, True), (raw.uid, False)])
    assert one.texts == ["good"]


async def test_the_peer_port_answers_http_with_an_error(make: MakeNode) -> None:
    one = await make(1)
    async with aiohttp.ClientSession() as session:
        for path, status in ((PEER_PATH, 400), ("/", 404)):
            async with session.get(f"http://127.0.0.1:{one.port}{path}") as response:
                assert response.status == status


@pytest.mark.parametrize("when", LEAVINGS)
async def test_a_node_that_goes_away_during_the_upgrade_is_no_failure(
    make: MakeNode, when: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = await make(1), await make(2)
    await leave_during_upgrade(f"http://127.0.0.1:{one.port}{PEER_PATH}", when, monkeypatch)
    await two.meet(one)
    assert caplog.records == []


async def test_a_server_that_is_no_node(make: MakeNode) -> None:
    one = await make(1)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nIt works!")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Unavailable, match="not a coterie node's peer port"):
            await one.links.contact("127.0.0.1", port, SOON)


async def test_a_server_that_says_nothing(make: MakeNode) -> None:
    one = await make(1)
    taken: list[asyncio.StreamWriter] = []
    async with await asyncio.start_server(lambda _, writer: taken.append(writer), "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Unavailable, match=r"did not answer within 0\.1 s"):
            await one.links.contact("127.0.0.1", port, 0.1)
        for writer in taken:
            writer.close()
            await writer.wait_closed()


async def test_a_peer_that_takes_nothing_is_cut_before_memory_fills(make: MakeNode) -> None:
    one = await make(1, PeerSettings(silence=60.0, urgent_bytes=1_000_000))
    async with raw_peer(one, 2) as slow:
        await slow.link()
        await one.until(lambda: one.links.alive(slow.uid))
        sent = 0
        while one.links.send(slow.uid, event("x" * 50_000)):
            sent += 1
            assert sent < 2000, "nothing bounds what waits for a peer"
            await asyncio.sleep(0)
        assert one.changes == [(slow.uid, True), (slow.uid, False)]
        assert not one.links.send(slow.uid, event("afterwards"))


async def test_someone_who_connects_and_says_nothing_is_shown_out(make: MakeNode) -> None:
    one = await make(1, PeerSettings(dial_timeout=0.05))
    async with raw_peer(one, 2) as mute:
        await mute.ended()
    async with raw_peer(one, 2) as half:
        await half.hello()
        await half.ended()
    assert one.changes == []


async def test_a_watcher_or_handler_that_fails_does_not_hurt_the_link(make: MakeNode) -> None:
    one, two = await make(1), await make(2)

    def fail(*_: object) -> None:
        raise KeyError("nobody foresaw this")

    one.links.watch(fail)
    one.dispatcher.on_event(WhoIs, fail)
    await one.meet(two)
    two.links.send(one.uid, question())
    two.links.send(one.uid, event("after it"))
    await one.until(lambda: one.texts == ["after it"])


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_of_a_peer_is_followed(make: MakeNode, status: int) -> None:
    """A peer would have this node ask any address in its name."""
    asked: list[bytes] = []

    async def elsewhere(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.read(100))
        writer.close()

    async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        where = f"http://127.0.0.1:{there.sockets[0].getsockname()[1]}/"
        writer.write(b"HTTP/1.1 %d x\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % (status, where.encode()))
        await writer.drain()
        writer.close()

    one = await make(1)
    there, here = [await asyncio.start_server(handler, "127.0.0.1", 0) for handler in (elsewhere, redirect)]
    async with there, here:
        with pytest.raises(Unavailable, match="no redirect is followed"):
            await one.links.contact("127.0.0.1", here.sockets[0].getsockname()[1], SOON)
    assert asked == []
