"""What somebody gets at the peer port who is no node of the ring, and what ends a connection there."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec
import pytest
from structlog.testing import capture_logs
from tests.rawhttp import UPGRADE, RawSocket, ask, connect, websocket_frame
from tests.unit.peer.conftest import MakeNode
from tests.unit.peer.nodes import PATIENT, SOON, Node, event, raw_peer

from coterie_node.peer.settings import PeerSettings
from coterie_protocol.client_api import MAX_PEER_FRAME_BYTES, PEER_PATH
from coterie_protocol.errors import CoterieError, ErrorCode
from coterie_protocol.frames import PeerError, PeerFrame, encode
from coterie_protocol.nodes import Heartbeat, PeerHello, Ping, WhoIs

HEAD = b"GET " + PEER_PATH.encode() + b" HTTP/1.1\r\nHost: node\r\n" + UPGRADE


async def test_a_stranger_without_a_ring_gets_the_ring_s_uid_and_nothing_else(make: MakeNode) -> None:
    one = await make(1, PATIENT)
    async with raw_peer(one, 2) as stranger:
        (hello,) = await stranger.hello(ring_uid="")
        assert hello == one.hello()  # what a node that joins needs: uid, K, S, and whom it has met
        with contextlib.suppress(ConnectionError):
            await stranger.send(Heartbeat(), event("poison"))
            await stranger.socket.send_bytes(encode([PeerFrame(1, WhoIs([])), PeerFrame(2, Ping())]))
        await stranger.ended()
    assert not one.changes
    assert not one.texts
    assert one.links.book.get(stranger.uid) is None


async def test_a_node_without_a_ring_takes_nothing_either(make: MakeNode) -> None:
    waiting = await make(1, PATIENT, ring="")
    async with raw_peer(waiting, 2) as stranger:
        assert await stranger.hello() == [waiting.hello()]
        with contextlib.suppress(ConnectionError):
            await stranger.send(Heartbeat(), event("poison"))
        await stranger.ended()
    assert not waiting.changes
    assert not waiting.texts


async def test_a_node_that_looks_for_a_ring_learns_it_and_is_linked_once_it_belongs(make: MakeNode) -> None:
    one, two = await make(1), await make(2, ring="")
    for _ in range(3):  # each round asks anew
        hello = await two.links.greet("127.0.0.1", one.port, SOON)
        assert (hello.ring_uid, hello.replication_factor, hello.slots) == (one.ring, 3, 1024)
        assert not two.links.alive(one.uid)
    two.ring = hello.ring_uid
    two.links.ring_changed()
    await two.meet(one)
    assert one.changes == [(two.uid, True)]


async def test_a_node_of_the_version_before_learns_it_too(make: MakeNode) -> None:
    """It made a link of the connection at once, and takes its end as any other's."""
    one = await make(1, PATIENT)
    async with raw_peer(one, 2) as older:
        (hello,) = await older.hello(ring_uid="")
        assert hello.ring_uid == one.ring
        await older.ended()
    async with raw_peer(one, 2) as older:
        await older.link()
        await one.until(lambda: one.links.alive(older.uid))


async def test_a_node_that_waits_is_not_linked_by_who_dials_it(make: MakeNode) -> None:
    one, waiting = await make(1), await make(2, ring="")
    with pytest.raises(CoterieError, match="no ring yet"):
        await one.links.contact("127.0.0.1", waiting.port, SOON)
    assert not one.changes
    assert not waiting.changes


async def test_a_stranger_of_another_version_hears_so(make: MakeNode) -> None:
    one = await make(1, PATIENT)
    async with raw_peer(one, 2) as stranger:
        node = msgspec.structs.replace(one.me, uid=stranger.uid)
        await stranger.send(PeerHello(8, 9, "", 0, 0, node, "boot"))
        _, refusal = await stranger.receive()
        assert isinstance(refusal, PeerError)
        assert refusal.code == ErrorCode.UNSUPPORTED_VERSION


# --- what breaks the protocol ---


@contextlib.asynccontextmanager
async def raw(node: Node) -> AsyncIterator[RawSocket]:
    one = await connect(node.port)
    try:
        one.send(HEAD + b"\r\n")
        assert (await one.answer())[0] == 101
        yield one
    finally:
        one.close()


@pytest.mark.parametrize(
    "frames",
    [
        websocket_frame(b"text", opcode=1),
        websocket_frame(b"\xc1"),
        websocket_frame(encode([PeerFrame(0, Heartbeat())])),
        websocket_frame(encode([PeerFrame(1, Ping())])),
        websocket_frame(encode([])),
        websocket_frame(encode([PeerFrame(0, Node(2).hello())]), masked=False),
        websocket_frame(b"", opcode=9, masked=False),
        websocket_frame(bytes(MAX_PEER_FRAME_BYTES + 1))[:100],
        websocket_frame(b"x", opcode=0),
        bytes((0xC2,)) + websocket_frame(encode([PeerFrame(0, Node(2).hello())]))[1:],
    ],
    ids=[
        "text", "no frame", "no hello", "a request before hello", "empty", "unmasked", "unmasked ping", "too large",
        "continuation of nothing", "compressed",
    ],
)  # fmt: skip
async def test_what_breaks_the_protocol_ends_the_connection_and_is_logged_once(make: MakeNode, frames: bytes) -> None:
    one = await make(1, PATIENT)
    with capture_logs() as logs:
        for _ in range(5):
            async with raw(one) as stranger:
                stranger.send(frames)
                await stranger.rest()
        await one.links.close()
    assert not one.changes
    told = [entry for entry in logs if entry["event"] == "a connection to the peer port broke the protocol"]
    assert [entry.get("suppressed") for entry in told] == [None, 4]


async def test_an_unmasked_frame_ends_a_link_that_stands(make: MakeNode) -> None:
    one = await make(1, PATIENT)
    async with raw(one) as peer:
        peer.send(websocket_frame(encode([PeerFrame(0, Node(2).hello())])))
        peer.send(websocket_frame(encode([PeerFrame(0, Heartbeat())])))
        await one.until(lambda: one.links.alive(Node(2).uid))
        peer.send(websocket_frame(encode([PeerFrame(0, event("poison"))]), masked=False))
        await one.until(lambda: not one.links.alive(Node(2).uid))
    assert not one.texts


async def test_no_page_may_connect(make: MakeNode) -> None:
    one = await make(1, PATIENT)
    for origin in (b"http://localhost", b"https://evil.example", b"null"):
        status, _, body = await ask(one.port, HEAD + b"Origin: " + origin + b"\r\n\r\n")
        assert status == 403
        assert len(body.splitlines()) == 1
        assert origin not in body


async def test_a_head_that_does_not_come_ends_the_connection(make: MakeNode) -> None:
    one = await make(1, PeerSettings(silence=60.0, dial_timeout=0.1))
    slow = await connect(one.port)
    slow.send(HEAD[:40])
    assert (await slow.answer())[0] == 408
    assert await slow.ended()
    slow.close()


async def test_refusals_are_logged_at_a_bounded_rate_whatever_strangers_say(make: MakeNode) -> None:
    one = await make(1, PATIENT)
    with capture_logs() as logs:
        for number in range(2, 42):
            async with raw_peer(one, number) as stranger:
                await stranger.hello(ring_uid=f"{number:032x}")
        async with asyncio.timeout(SOON):
            await one.links.close()
    refused = [entry for entry in logs if entry["event"] == "a peer was refused"]
    assert [entry.get("suppressed") for entry in refused] == [None, 39]
