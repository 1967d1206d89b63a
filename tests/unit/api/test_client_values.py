"""Requests with values that make no sense, on a real client port: each is refused alone, and the session goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from msgspec import inspect as mi
from tests.unit.api.lone_node import LoneNode, Peer, connected, lone_node
from tests.values import outside

from coterie_protocol import client_api
from coterie_protocol.client_api import (
    MAX_CLIENT_FRAME_BYTES,
    Archive,
    Discard,
    Done,
    Error,
    Page,
    PageReply,
    PresenceQuery,
    PresenceReply,
    Request,
    Send,
    Stored,
)
from coterie_protocol.errors import ErrorCode
from coterie_protocol.identifiers import message_id

MID = message_id(1, bytes(10))


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[LoneNode]:
    async with lone_node(tmp_path / "data") as one:
        yield one


@pytest.fixture
async def alice(node: LoneNode) -> AsyncIterator[Peer]:
    async with connected(node.url) as peer:
        await peer.hello()
        await peer.register("alice")
        yield peer


async def say(peer: Peer, body: Any, number: int = 1 << 40) -> Error:
    """Send a body as it is, and a good request in the same message; return what the first is answered."""
    good = msgspec.msgpack.decode(msgspec.msgpack.encode(PresenceQuery(["alice"])))
    await peer.socket.send_bytes(msgspec.msgpack.encode([[number, body], [number + 1, good]]))
    answers: dict[int, Any] = {}
    while len(answers) < 2:
        frames = await peer.frames()
        assert frames, "the connection has ended"
        answers.update((frame.id, frame.body) for frame in frames if frame.id)
    assert isinstance(answers[number + 1], PresenceReply)
    found = answers[number]
    assert isinstance(found, Error), found
    return found


async def refused(peer: Peer, request: Request) -> ErrorCode:
    return ErrorCode((await say(peer, msgspec.msgpack.decode(msgspec.msgpack.encode(request)))).code)


@pytest.mark.parametrize("part", [4096, (1 << 53) - 1, 1 << 62, 1 << 63, (1 << 64) - 1, -1, -(1 << 63)])
async def test_a_part_that_no_message_has_is_refused_for_archive_and_discard(alice: Peer, part: int) -> None:
    assert await refused(alice, Archive([("bob", MID, part, b"\0")])) == ErrorCode.BAD_REQUEST
    assert await refused(alice, Discard([("bob", MID, part)])) == ErrorCode.BAD_REQUEST
    assert await alice.ask(Archive([("", MID, 4095, b"\0x")]), Done)


@pytest.mark.parametrize(
    "before", [b"\x80" * 8, b"\x80" * 8 + bytes(16), b"\xff" * 24, b"\x7f" + b"\xff" * 23, b"x" * 65, b"x" * 900_000]
)
async def test_a_cursor_that_no_node_made_is_refused(alice: Peer, before: bytes) -> None:
    assert await refused(alice, Page(before, 10)) == ErrorCode.BAD_REQUEST
    assert (await alice.ask(Page(b"", 10), PageReply)).items == []


@pytest.mark.parametrize("limit", [-1, 1 << 53, 1 << 63, -(1 << 63)])
async def test_a_limit_that_makes_no_sense_is_refused(alice: Peer, limit: int) -> None:
    assert await refused(alice, Page(b"", limit)) == ErrorCode.BAD_REQUEST


async def test_a_prekey_of_nearly_a_message_is_refused_and_the_mailbox_stays_readable(alice: Peer) -> None:
    for number in range(5):
        mid = message_id(2 + number, bytes(10))
        assert await refused(alice, Send("alice", mid, b"x", bytes(900_000))) == ErrorCode.BAD_REQUEST
    assert (await alice.ask(Send("alice", MID, b"x"), Stored)).copies == 1


@pytest.mark.parametrize("kind", get_args(client_api.Request), ids=lambda kind: kind.__name__)
async def test_every_field_out_of_bounds_is_refused_and_the_connection_goes_on(alice: Peer, kind: type) -> None:
    cases = [(place, body) for place, body in outside(mi.type_info(kind), kind.__name__)]
    for number, (place, body) in enumerate(cases, 1):
        if len(msgspec.msgpack.encode(body)) < MAX_CLIENT_FRAME_BYTES - 100:
            answer = await say(alice, body, 2 * number)
            assert ErrorCode(answer.code) is ErrorCode.BAD_REQUEST, place
            assert len(answer.detail) < 200


async def test_before_hello_a_value_that_makes_no_sense_breaks_the_protocol(node: LoneNode) -> None:
    async with connected(node.url) as stranger:
        await stranger.socket.send_bytes(msgspec.msgpack.encode([[1, [11, b"", -1]]]))
        (last,) = await stranger.ended()
        assert last.code == ErrorCode.BAD_FRAME


async def test_a_kind_that_is_none_still_breaks_the_protocol(alice: Peer) -> None:
    await alice.socket.send_bytes(msgspec.msgpack.encode([[1, [99]]]))
    (last,) = await alice.ended()
    assert last.code == ErrorCode.BAD_FRAME
