"""A poisoned frame among good ones, in and out: the link stays, the others are taken, the bad one is answered."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs
from tests.unit.peer.conftest import MakeNode
from tests.unit.peer.nodes import SOON, event, uid_of

from coterie_node.peer import packing
from coterie_protocol.errors import CoterieError, ErrorCode, FrameError, Unavailable
from coterie_protocol.frames import PeerFrame, decode_peer, join
from coterie_protocol.identifiers import Uid
from coterie_protocol.nodes import Ping, Pong, WhoIs
from coterie_protocol.replication import Replicate

POISONS = [
    pytest.param([251], id="a kind of a later release"),
    pytest.param([60, "no number", []], id="a wrong type"),
    pytest.param([60, 1, [[3, "ann", "bob"]]], id="a record that is cut off"),
    pytest.param("no message at all", id="no message"),
]


def _frame(number: int, body: Any) -> bytes:
    return msgspec.msgpack.encode([number, body])


@pytest.mark.parametrize("poison", POISONS)
async def test_a_frame_that_is_not_understood_spoils_no_other_of_its_message(make: MakeNode, poison: Any) -> None:
    one, two = await make(1), await make(2)
    await one.meet(two)
    link = one.links._links[two.uid]
    asked = asyncio.get_running_loop().create_future()
    link._pending[77] = asked
    frames = [packing.pack(0, event("before")), _frame(0, poison), _frame(77, poison), packing.pack(0, event("after"))]
    with capture_logs() as logs:
        await link._wire.send(join(frames))
        await two.until(lambda: two.texts == ["before", "after"])
        answer = await asyncio.wait_for(asked, SOON)
    assert answer.code == ErrorCode.BAD_REQUEST
    assert [entry["event"] for entry in logs] == ["a frame of a peer is not understood"], "once a link"
    assert isinstance(await one.links.request(two.uid, Ping(), SOON), Pong), "the link goes on"
    assert two.changes == [(one.uid, True)]


async def test_an_answer_that_is_not_understood_is_unavailable_at_once(make: MakeNode) -> None:
    one, two = await make(1), await make(2)
    await one.meet(two)
    back = two.links._links[one.uid]

    async def odd(_: Uid, __: WhoIs) -> Any:
        await back._wire.send(join([_frame(-number, [251]) for number in one.links._links[two.uid]._pending]))
        await asyncio.Event().wait()

    two.dispatcher.on_request(WhoIs, odd)
    with pytest.raises(Unavailable, match="does not understand"):
        await one.links.request(two.uid, WhoIs([]), SOON)
    assert isinstance(await one.links.request(two.uid, Ping(), SOON), Pong)


def test_what_is_no_list_of_frames_is_refused_as_a_whole() -> None:
    for data in (b"\xc1", msgspec.msgpack.encode([["x", 1]]), msgspec.msgpack.encode({"a": 1}), b"\x92\x92\x00"):
        with pytest.raises(FrameError):
            decode_peer(data, lambda number, why: None)


def test_frames_are_read_alike_together_and_apart() -> None:
    frames = [PeerFrame(0, event("a")), PeerFrame(5, Ping()), PeerFrame(0, Replicate(1, []))]
    whole = msgspec.msgpack.encode(frames)
    told: list[int] = []
    data = join([*map(msgspec.msgpack.encode, frames), _frame(9, [251])])
    apart = decode_peer(data, lambda number, _: told.append(number))
    assert apart == decode_peer(whole) == frames
    assert told == [9]


@pytest.mark.parametrize("unencodable", ["\ud800", 1 << 70, object()], ids=["surrogate", "2^70", "object"])
async def test_a_message_without_a_form_on_the_wire_spoils_no_other(make: MakeNode, unencodable: Any) -> None:
    one, two = await make(1), await make(2)
    await one.meet(two)
    with capture_logs() as logs:
        sent = [one.links.send(two.uid, message) for message in (event("a"), event(unencodable), event("b"))]
    assert sent == [True, False, True]
    assert [entry["kind"] for entry in logs] == ["AccountValue"]
    await two.until(lambda: two.texts == ["a", "b"])
    with pytest.raises(CoterieError, match="cannot be encoded"):
        await one.links.request(two.uid, WhoIs([unencodable]), SOON)

    async def odd(_: Uid, __: WhoIs) -> Any:
        return event(unencodable)

    two.dispatcher.on_request(WhoIs, odd)
    with pytest.raises(CoterieError, match="cannot be encoded"):
        await one.links.request(two.uid, WhoIs([]), SOON)
    assert one.changes == [(two.uid, True)]


async def test_a_watcher_of_links_that_fails_hides_nothing(make: MakeNode) -> None:
    one, two = await make(1), await make(2)
    heard: list[Uid] = []

    def failing(*_: object) -> None:
        raise ZeroDivisionError

    one.links._watchers[:0] = [failing]
    one.links.watch(lambda uid, _: heard.append(uid))
    with capture_logs() as logs:
        await one.meet(two)
        await one.until(lambda: heard == [uid_of(2)])
    assert any(entry["event"] == "a watcher failed" for entry in logs)
