"""Who may be linked with whom, and which of two links stays."""

from __future__ import annotations

import asyncio

import pytest
from tests.unit.peer.conftest import MakeNode
from tests.unit.peer.nodes import ANOTHER, PATIENT, RING, SOON, Node, event, question, raw_peer

from coterie_node.peer import handshake
from coterie_node.peer.errors import Refused
from coterie_protocol.errors import ErrorCode, FrameError, Unavailable
from coterie_protocol.frames import PeerError, PeerFrame, encode
from coterie_protocol.nodes import Heartbeat, PeerHello, Ping, Pong, WhoIs


@pytest.mark.parametrize(
    ("mine", "theirs", "code"),
    [
        ({}, {}, None),
        ({}, {"ring": ANOTHER}, ErrorCode.WRONG_RING),
        ({}, {"ring": ANOTHER, "k": 5}, ErrorCode.WRONG_RING),
        ({}, {"k": 5}, ErrorCode.WRONG_SETTINGS),
    ],
)
async def test_who_belongs_together(
    make: MakeNode, mine: dict[str, object], theirs: dict[str, object], code: ErrorCode | None
) -> None:
    one, two = await make(1, **mine), await make(2, **theirs)
    if code is None:
        await one.meet(two)
        return
    with pytest.raises(Refused) as refused:
        await one.links.contact("127.0.0.1", two.port, SOON)
    assert refused.value.wire_code is code
    assert refused.value.hello.node.uid == two.uid
    assert one.changes == two.changes == []
    if code is ErrorCode.WRONG_RING:
        assert (one.foreign, two.foreign) == ([ANOTHER], [RING])


async def test_versions_without_a_common_one_are_refused_by_either_side(make: MakeNode) -> None:
    one, two = await make(1), await make(2)
    two.versions = (2, 9)
    for node, other in ((one, two), (two, one)):
        with pytest.raises(Refused, match="upgrade the older") as refused:
            await node.links.contact("127.0.0.1", other.port, SOON)
        assert refused.value.wire_code is ErrorCode.UNSUPPORTED_VERSION


async def test_a_copied_data_directory_is_noticed(make: MakeNode) -> None:
    one, twin = await make(1), await make(1, boot="another boot")
    with pytest.raises(Refused, match="copy of this node's data directory"):
        await one.links.contact("127.0.0.1", twin.port, SOON)
    assert one.changes == twin.changes == []


async def test_links_of_a_ring_that_a_node_has_given_up_are_cut(make: MakeNode) -> None:
    one, two = await make(1), await make(2)
    await one.meet(two)
    one.ring = "another"
    one.links.ring_changed()
    assert not one.links.alive(two.uid)
    await two.until(lambda: not two.links.alive(one.uid))


def test_what_is_no_hello() -> None:
    with pytest.raises(FrameError):
        handshake.read(encode([]))
    with pytest.raises(FrameError, match="not a hello"):
        handshake.read(encode([PeerFrame(0, Heartbeat())]))
    with pytest.raises(FrameError, match="follows"):
        handshake.read(encode([PeerFrame(0, Node(1).hello()), PeerFrame(0, Heartbeat())]))


async def test_both_dial_at_once(make: MakeNode) -> None:
    """One link comes of it, made by the smaller uid; nothing that either asked is lost on the way."""
    for turn in range(20):
        one, two = await make(2 * turn + 1), await make(2 * turn + 2)
        one.links.learn([two.me])
        two.links.learn([one.me])
        answers = await asyncio.gather(
            *(one.links.request(two.uid, Ping(), SOON) for _ in range(5)),
            *(two.links.request(one.uid, Ping(), SOON) for _ in range(5)),
        )
        assert answers == [Pong(two.me)] * 5 + [Pong(one.me)] * 5
        assert one.changes == [(two.uid, True)]
        assert two.changes == [(one.uid, True)]
        assert (await one.links.open(two.uid, SOON)).dialled is True
        assert (await two.links.open(one.uid, SOON)).dialled is False


async def test_many_meet_at_once_by_addresses_alone(make: MakeNode) -> None:
    """As seeds do at the first start: nobody knows yet who answers where."""
    nodes = [await make(number) for number in range(1, 7)]
    pairs = [(a, b) for a in nodes for b in nodes if a is not b]
    met = await asyncio.gather(*(a.links.contact("127.0.0.1", b.port, SOON) for a, b in pairs))
    assert met == [b.me for _, b in pairs]
    for a, b in pairs:
        await a.until(lambda a=a, b=b: a.links.alive(b.uid))
        assert await a.links.request(b.uid, Ping(), SOON) == Pong(b.me)
    for node in nodes:
        assert sorted(node.changes) == [(other.uid, True) for other in nodes if other is not node]


async def test_a_second_contact_changes_nothing(make: MakeNode) -> None:
    one, two = await make(1), await make(2)
    await one.meet(two)
    for node, other in ((one, two), (two, one), (one, two)):
        assert await node.links.contact("127.0.0.1", other.port, SOON) == other.me
    assert await one.links.request(two.uid, Ping(), SOON) == Pong(two.me)
    assert one.changes == [(two.uid, True)]
    assert two.changes == [(one.uid, True)]


async def test_a_restarted_peer_replaces_its_old_link_at_once(make: MakeNode) -> None:
    """The old process died without a word, such as in a power cut: its connection still seems to stand."""
    one = await make(1, PATIENT)
    async with raw_peer(one, 2) as old:
        await old.link()
        await one.until(lambda: one.links.alive(old.uid))
        asking = asyncio.create_task(one.links.request(old.uid, question(), 60.0))
        while WhoIs([]) not in await old.receive():
            pass
        two = await make(2, boot="after the restart")
        await two.links.contact("127.0.0.1", one.port, SOON)
        with pytest.raises(Unavailable, match="started anew"):
            await asyncio.wait_for(asking, SOON)
        await old.ended()
    await one.until(lambda: one.links.alive(two.uid))
    assert one.changes == [(two.uid, True), (two.uid, False), (two.uid, True)]
    assert await one.links.request(two.uid, Ping(), SOON) == Pong(two.me)


async def test_a_peer_that_lost_its_link_gets_a_new_one(make: MakeNode) -> None:
    one = await make(1, PATIENT)
    async with raw_peer(one, 2) as half, raw_peer(one, 2) as again:
        await half.link()
        await one.until(lambda: one.links.alive(half.uid))
        await again.link()
        await again.send(event("on the new link"))
        await one.until(lambda: one.texts == ["on the new link"])
        await half.ended()
    assert one.changes[:3] == [(half.uid, True), (half.uid, False), (half.uid, True)]


async def test_a_dial_that_crossed_ours_is_told_so(make: MakeNode) -> None:
    one, two = await make(1), await make(2)
    await one.meet(two)
    async with raw_peer(one, 2) as crossing:
        hello, refusal = await crossing.hello()
        assert isinstance(hello, PeerHello)
        assert isinstance(refusal, PeerError)
        assert refusal.code == ErrorCode.BUSY
        await crossing.ended()
    assert one.changes == [(two.uid, True)]


async def test_a_probe_answers_hello_and_closes(make: MakeNode) -> None:
    one, two = await make(1), await make(2)
    await one.meet(two)
    async with raw_peer(one, 2) as probing:
        (hello,) = await probing.hello("another boot", probe=True)
        assert hello == one.hello()
        await probing.ended()
    assert one.changes == [(two.uid, True)]
