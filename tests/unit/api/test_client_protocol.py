"""What ends a client's connection: what docs/protocol.md says of errors on the client port, on sockets."""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs
from tests.rawhttp import UPGRADE, RawSocket, ask, connect, websocket_frame
from tests.unit.api.lone_node import LoneNode, connected, lone_node

from coterie_node.api.client import ClientApi
from coterie_node.http.guard import FRAMES_AT_ONCE
from coterie_protocol.client_api import (
    CLIENT_PATH,
    MAX_CLIENT_FRAME_BYTES,
    MAX_CLIENT_FRAMES,
    Archive,
    ClientFrame,
    Discard,
    Error,
    Hello,
    Kdf,
    Keep,
    Login,
    LoginParams,
    Logout,
    Lookup,
    Page,
    PresenceQuery,
    Register,
    Request,
    Resume,
    Send,
    States,
    Subscribe,
    Welcome,
)
from coterie_protocol.errors import ErrorCode
from coterie_protocol.frames import decode_server, encode

HELLO = encode([ClientFrame(1, Hello(1, 1, "test"))])
AUTH = "A" * 43 + "="
BEFORE_HELLO: list[Request] = [
    Register("ann", Kdf(8, 1, 1), AUTH, b"", b"", bytes(16)),
    LoginParams("ann"),
    Login("ann", AUTH, bytes(16)),
    Resume("ann", bytes(32)),
    Logout(),
    Subscribe(),
    Send("ann", bytes(16), b"\0"),
    Keep(bytes(16), b"\0"),
    Archive([]),
    Discard([]),
    Page(b"", 1),
    States("ann", []),
    PresenceQuery([]),
    Lookup("ann"),
]


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[LoneNode]:
    async with lone_node(tmp_path) as made:
        yield made


def port_of(node: LoneNode) -> int:
    return int(node.url.rpartition(":")[2])


def upgrade(*lines: bytes) -> bytes:
    extra = b"".join(line + b"\r\n" for line in lines)
    return b"GET " + CLIENT_PATH.encode() + b" HTTP/1.1\r\nHost: node\r\n" + UPGRADE + extra + b"\r\n"


@contextlib.asynccontextmanager
async def raw(node: LoneNode, *, greeted: bool = True) -> AsyncIterator[RawSocket]:
    one = await connect(port_of(node))
    try:
        one.send(upgrade())
        assert (await one.answer())[0] == 101
        if greeted:
            one.send(websocket_frame(HELLO))
            (frame,) = await received(one)
            assert isinstance(frame, Welcome)
        yield one
    finally:
        one.close()


async def received(one: RawSocket) -> list[object]:
    """Read a binary message, or the close frame: its code."""
    async with asyncio.timeout(10):
        while True:
            first, size = await one.reader.readexactly(2)
            if size >= 126:
                size = int.from_bytes(await one.reader.readexactly(2 if size == 126 else 8), "big")
            payload = await one.reader.readexactly(size)
            if first == 0x82:
                return [frame.body for frame in decode_server(payload)]
            if first == 0x88:
                return [int.from_bytes(payload[:2], "big")]


async def goodbye(one: RawSocket) -> None:
    """Read to the close frame: the node waits some seconds for the client's own."""
    (code,) = await received(one)
    assert code in (1001, 1002, 1007, 1009)


async def broken(node: LoneNode, one: RawSocket) -> str:
    """Read that the protocol was broken, and the goodbye; return the sentence. Others go on."""
    (error,) = await received(one)
    assert isinstance(error, Error)
    assert error.code == ErrorCode.BAD_FRAME
    await goodbye(one)
    async with connected(node.url) as good:
        await good.hello()
    return error.detail


def test_each_kind_of_request_is_here() -> None:
    assert {type(one) for one in BEFORE_HELLO} | {Hello} == set(Request.__args__)


@pytest.mark.parametrize("request_", BEFORE_HELLO, ids=lambda one: type(one).__name__)
async def test_a_request_before_hello_ends_the_connection(node: LoneNode, request_: Request) -> None:
    async with raw(node, greeted=False) as one:
        one.send(websocket_frame(encode([ClientFrame(1, request_)])))
        assert "hello first" in await broken(node, one)


async def test_an_unmasked_frame_ends_the_connection(node: LoneNode) -> None:
    """RFC 6455, section 5.1: else a page could write what a proxy on the way takes for a request of its own."""
    async with raw(node) as one:
        one.send(websocket_frame(HELLO, masked=False))
        assert "masked" in await broken(node, one)
    async with raw(node, greeted=False) as one:
        one.send(websocket_frame(b"", opcode=9, masked=False))
        assert "masked" in await broken(node, one)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
async def test_an_unmasked_frame_is_found_however_the_bytes_come(node: LoneNode, size: int) -> None:
    whole = b"".join(
        (
            websocket_frame(HELLO),
            websocket_frame(bytes(120), opcode=10),
            websocket_frame(HELLO[:5], final=False),
            websocket_frame(b"", opcode=9),
            websocket_frame(HELLO[5:], opcode=0),
            websocket_frame(encode([ClientFrame(7, Hello(1, 1, "x" * 60))])),
            websocket_frame(encode([ClientFrame(8, Lookup("x" * 60)), ClientFrame(9, Lookup("y" * 64))]) + b""),
        )
    )
    async with raw(node) as one:
        for at in range(0, len(whole), size):
            one.send(whole[at : at + size])
            await asyncio.sleep(0)
        seen: list[object] = []
        while len(seen) < 5:
            seen += await received(one)
        assert sum(isinstance(body, Welcome) for body in seen) == 3
        one.send(websocket_frame(b"", opcode=10, masked=False))
        assert "masked" in await broken(node, one)


async def test_what_comes_with_the_upgrade_in_one_write_is_looked_at_too(node: LoneNode) -> None:
    one = await connect(port_of(node))
    try:
        one.send(upgrade() + websocket_frame(HELLO, masked=False))
        assert (await one.answer())[0] == 101
        assert "masked" in await broken(node, one)
    finally:
        one.close()


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\xc1",
        b"\x01",
        b"\x91\x92\x01",
        encode([ClientFrame(1, Hello(1, 1, "test"))])[:-1],
        msgspec.msgpack.encode([[1, [99, 1]]]),
        msgspec.msgpack.encode([[1, []]]),
        msgspec.msgpack.encode([["1", [1, 1, 1, "x"]]]),
        b"\x91" * 100_000,
        b"\xdd\xff\xff\xff\xff",
        b"\x91\x92\x01\x92\x0e\xd9\x02\xff\xfe",
    ],
    ids=["empty", "no MessagePack", "no array", "half", "cut", "unknown tag", "no tag", "id", "deep", "count", "UTF-8"],
)
async def test_a_frame_that_does_not_decode_ends_the_connection(node: LoneNode, message: bytes) -> None:
    async with raw(node) as one:
        one.send(websocket_frame(message))
        await broken(node, one)


async def test_a_text_message_ends_the_connection(node: LoneNode) -> None:
    async with raw(node) as one:
        one.send(websocket_frame(HELLO.hex().encode(), opcode=1))
        assert "text" in await broken(node, one)


async def test_a_message_over_the_limit_ends_the_connection_before_it_has_come(node: LoneNode) -> None:
    async with raw(node) as one:
        one.send(websocket_frame(bytes(MAX_CLIENT_FRAME_BYTES + 1))[:1000])
        await broken(node, one)
    async with raw(node) as one:
        one.send(websocket_frame(encode([ClientFrame(2, Register("ann", Kdf(8, 1, 1), AUTH, b"", b"", bytes(16)))])))
        await received(one)  # a stranger would be cut off before
        part = websocket_frame(bytes(300_000), final=False)
        one.send(part + 3 * websocket_frame(bytes(300_000), opcode=0, final=False))
        await broken(node, one)


async def test_more_frames_than_the_limit_end_the_connection(node: LoneNode) -> None:
    async with raw(node) as one:
        one.send(websocket_frame(encode([ClientFrame(1, Logout())] * (MAX_CLIENT_FRAMES + 1))))
        assert str(MAX_CLIENT_FRAMES) in await broken(node, one)


async def test_a_decoder_ignores_elements_that_it_does_not_know(node: LoneNode) -> None:
    async with raw(node, greeted=False) as one:
        one.send(websocket_frame(msgspec.msgpack.encode([[5, [1, 1, 9, "newer", "more"], "more"]])))
        (welcome,) = await received(one)
        assert isinstance(welcome, Welcome)


async def test_no_common_version_is_answered_and_ends_the_connection(node: LoneNode) -> None:
    async with raw(node, greeted=False) as one:
        one.send(websocket_frame(encode([ClientFrame(1, Hello(7, 9, "newer"))])))
        (error,) = await received(one)
        assert isinstance(error, Error)
        assert error.code == ErrorCode.UNSUPPORTED_VERSION
        await goodbye(one)


@pytest.mark.parametrize(
    "frames",
    [
        websocket_frame(b"x", opcode=0),
        websocket_frame(b"", opcode=9, final=False),
        websocket_frame(b"x", opcode=3),
        websocket_frame(b"x", opcode=11),
        bytes((0xC2,)) + websocket_frame(HELLO)[1:],
        bytes((0xA2,)) + websocket_frame(HELLO)[1:],
        websocket_frame(bytes(126), opcode=9),
        websocket_frame(b"x", opcode=8),
        websocket_frame((1005).to_bytes(2, "big"), opcode=8),
        websocket_frame((1000).to_bytes(2, "big") + b"\xff", opcode=8),
        bytes((0x82, 0xFF)) + b"\xff" * 8 + bytes(4),
        websocket_frame(b"x", final=False) + websocket_frame(b"y"),
    ],
    ids=[
        "continuation of nothing", "ping in parts", "reserved opcode", "reserved control", "compressed", "reserved bit",
        "long ping", "close of one byte", "close code", "close reason", "2^64 bytes", "message within a message",
    ],
)  # fmt: skip
async def test_what_breaks_websocket_ends_the_connection(node: LoneNode, frames: bytes) -> None:
    async with raw(node) as one:
        one.send(frames)
        await broken(node, one)


async def test_compression_is_off_whatever_is_offered(node: LoneNode) -> None:
    """So that no kilobyte becomes a gigabyte."""
    one = await connect(port_of(node))
    try:
        one.send(upgrade(b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"))
        status, headers, _ = await one.answer()
        assert (status, headers.get("sec-websocket-extensions")) == (101, None)
        bomb = zlib.compressobj(wbits=-15)
        payload = bomb.compress(bytes(1 << 22)) + bomb.flush(zlib.Z_SYNC_FLUSH)
        one.send(bytes((0xC2,)) + websocket_frame(payload)[1:])
        await broken(node, one)
    finally:
        one.close()


async def test_fragments_of_one_byte_are_put_together(node: LoneNode) -> None:
    async with raw(node, greeted=False) as one:
        last = len(HELLO) - 1
        for at, byte in enumerate(HELLO):
            one.send(websocket_frame(bytes((byte,)), opcode=0 if at else 2, final=at == last))
        (welcome,) = await received(one)
        assert isinstance(welcome, Welcome)


async def test_the_node_answers_pings_and_takes_pongs(node: LoneNode) -> None:
    async with raw(node) as one:
        one.send(websocket_frame(b"", opcode=10) * 100)
        one.send(websocket_frame(b"are you there", opcode=9))
        assert await one.reader.readexactly(15) == b"\x8a\x0dare you there"


async def test_whoever_is_cut_off_while_pings_are_answered_is_no_fault_of_the_node(node: LoneNode) -> None:
    with capture_logs() as logs:
        async with raw(node, greeted=False) as one:
            (connection,) = node.api._connections
            connection._guarded.on_data = lambda size: connection.cut_off("a test says so")
            one.send(websocket_frame(bytes(125), opcode=9) * FRAMES_AT_ONCE)
            await one.rest()
        await node.api.close(2.0)
    assert [entry["event"] for entry in logs] == ["a client is cut off"]


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://localhost", "http://localhost:1"])
async def test_a_page_of_another_origin_may_not_connect(node: LoneNode, origin: str) -> None:
    status, _, body = await ask(port_of(node), upgrade(f"Origin: {origin}".encode()))
    assert status == 403
    assert b"--allowed-origin" in body
    assert len(body.splitlines()) == 1
    assert origin.encode() not in body


async def test_a_page_of_an_allowed_origin_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ClientApi.__init__, "__defaults__", (("https://chat.example.org",),))
    async with lone_node(tmp_path) as node:
        for origins, expected in (
            (["https://chat.example.org"], 101),
            (["https://Chat.Example.ORG"], 101),
            (["https://chat.example.org.evil.example"], 403),
            (["http://chat.example.org"], 403),
            (["https://chat.example.org:444"], 403),
            (["https://chat.example.org", "https://evil.example"], 403),
            ([], 101),
        ):
            request = upgrade(*(f"Origin: {one}".encode() for one in origins))
            assert (await ask(port_of(node), request))[0] == expected


async def test_broken_frames_are_logged_at_a_bounded_rate_and_counted(node: LoneNode) -> None:
    with capture_logs() as logs:
        for _ in range(50):
            async with raw(node, greeted=False) as one:
                one.send(websocket_frame(b"\xc1"))
                await received(one)
        assert len(logs) == 1
        await node.api.close(2.0)
    assert [entry.get("suppressed") for entry in logs] == [None, 49]
