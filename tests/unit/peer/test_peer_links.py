"""What `ports.Peers` promises, on real sockets between well-behaved nodes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.unit.peer.conftest import MakeNode
from tests.unit.peer.nodes import ANOTHER, QUICK, SOON, Node, event, question, uid_of

from coterie_node.http.listening import ListenError
from coterie_node.peer.errors import SelfContact
from coterie_node.peer.settings import PeerSettings
from coterie_protocol.errors import CoterieError, ErrorCode, StaleEpoch, Unavailable
from coterie_protocol.identifiers import Uid
from coterie_protocol.nodes import NodeRef, Ping, Pong, Refs, WhoIs
from coterie_protocol.registers import Ballot, Config, KnownConfig


async def test_contact_links_both_and_says_who_answered(make: MakeNode) -> None:
    one, two = await make(1), await make(2)
    assert one.links.down_since(two.uid) is not None
    assert await one.links.contact("127.0.0.1", two.port, SOON) == two.me
    await two.until(lambda: two.links.alive(one.uid))
    assert one.changes == [(two.uid, True)]
    assert two.changes == [(one.uid, True)]
    assert one.links.down_since(two.uid) is None
    assert two.links.ref(one.uid) == one.me
    assert two.links.hello_of(one.uid) == one.hello()


async def test_a_host_that_is_not_named_is_where_the_node_is_seen(make: MakeNode) -> None:
    one, two = await make(1), await make(2)
    one.host, two.host = "", "0.0.0.0"
    await one.meet(two)
    for node, other in ((one, two), (two, one)):
        ref = node.links.ref(other.uid)
        assert ref is not None
        assert (ref.host, ref.peer_port) == ("127.0.0.1", other.port)


async def test_requests_are_answered(make: MakeNode) -> None:
    one, two = await make(1), await make(2)
    await one.meet(two)
    assert await one.links.request(two.uid, Ping(), SOON) == Pong(two.me)
    assert await two.links.request(one.uid, Ping(), SOON) == Pong(one.me)
    two.links.learn([three := Node(3).me])
    asked = await one.links.request(two.uid, WhoIs([uid_of(3), uid_of(2), uid_of(9)]), SOON)
    assert asked == Refs([three, two.me])


async def test_a_request_opens_a_link_by_the_book(make: MakeNode) -> None:
    one, two = await make(1), await make(2)
    one.links.learn([two.me])
    answers = await asyncio.gather(*(one.links.request(two.uid, Ping(), SOON) for _ in range(50)))
    assert answers == [Pong(two.me)] * 50
    assert one.changes == [(two.uid, True)]
    assert two.changes == [(one.uid, True)]


async def test_errors_come_back_as_they_were(make: MakeNode) -> None:
    one, two = await make(1), await make(2)
    await one.meet(two)
    ballot = Ballot(1, two.uid)
    known = KnownConfig(7, ballot, Config(3, ballot, (), (two.uid,)))
    errors: list[Exception] = [
        CoterieError("the mailbox is full", code=ErrorCode.MAILBOX_FULL, value=9),
        StaleEpoch((known,)),
        KeyError("what nobody foresaw"),
    ]

    async def fail(_: Uid, __: Any) -> None:
        raise errors.pop(0)

    two.dispatcher.on_request(WhoIs, fail)
    with pytest.raises(CoterieError, match="mailbox is full") as full:
        await one.links.request(two.uid, question(), SOON)
    assert (full.value.wire_code, full.value.value) == (ErrorCode.MAILBOX_FULL, 9)
    with pytest.raises(StaleEpoch) as stale:
        await one.links.request(two.uid, question(), SOON)
    assert stale.value.known == (known,)
    with pytest.raises(CoterieError) as internal:
        await one.links.request(two.uid, question(), SOON)
    assert internal.value.wire_code is ErrorCode.INTERNAL
    with pytest.raises(CoterieError) as unknown:
        await one.links.request(two.uid, Refs([]), SOON)
    assert unknown.value.wire_code is ErrorCode.BAD_REQUEST


async def test_a_request_ends_with_its_timeout_and_a_late_answer_is_nobody_s(make: MakeNode) -> None:
    one, two = await make(1), await make(2)
    await one.meet(two)
    release = asyncio.Event()

    async def late(_: Uid, __: Any) -> Any:
        await release.wait()
        return Refs([])

    two.dispatcher.on_request(WhoIs, late)
    with pytest.raises(Unavailable, match=r"within 0\.05 s"):
        await one.links.request(two.uid, question(), 0.05)
    release.set()
    assert await one.links.request(two.uid, Ping(), SOON) == Pong(two.me)
    assert one.links.alive(two.uid)


async def test_many_events_come_in_order(make: MakeNode) -> None:
    one, two = await make(1), await make(2)
    await one.meet(two)
    wanted = [f"event {i}" for i in range(20_000)]
    for i, text in enumerate(wanted):
        assert one.links.send(two.uid, event(text))
        if i % 777 == 0:
            await asyncio.sleep(0)
    await two.until(lambda: len(two.texts) == len(wanted))
    assert two.texts == wanted


async def test_bulk_goes_behind_what_is_urgent(make: MakeNode) -> None:
    one, two = await make(1), await make(2)
    await one.meet(two)
    for _ in range(100):
        assert one.links.send(two.uid, event("b" * 10_000), bulk=True)
    assert one.links.send(two.uid, event("a record larger than a piece" * 10_000), bulk=True)
    assert one.links.send(two.uid, event("urgent"))
    await two.until(lambda: len(two.texts) == 102)
    assert two.texts[0] == "urgent"


async def test_bulk_requests_wait_for_space_and_bulk_events_are_refused(make: MakeNode) -> None:
    settings = PeerSettings(silence=60.0, bulk_bytes=100_000)
    one, two = await make(1, settings), await make(2, settings)
    await one.meet(two)

    async def measure(_: Uid, message: WhoIs) -> Refs:
        return Refs([two.me] * (len(message.uids) == 2_000))

    two.dispatcher.on_request(WhoIs, measure)
    asking = [
        asyncio.create_task(one.links.request(two.uid, WhoIs(["0" * 32] * 2_000), SOON, bulk=True)) for _ in range(40)
    ]
    await asyncio.sleep(0)  # all of them have begun: two fit, the others wait
    assert not one.links.send(two.uid, event("more"), bulk=True)
    assert one.links.send(two.uid, event("urgent"))
    assert await asyncio.gather(*asking) == [Refs([two.me])] * 40


async def test_a_message_that_no_frame_can_carry_is_its_sender_s_error(make: MakeNode) -> None:
    one, two = await make(1), await make(2)
    await one.meet(two)
    huge = "x" * (5 * 1024 * 1024)
    with capture_logs() as logs:
        assert not one.links.send(two.uid, event(huge)), "it does not raise: its callers tell many peers"
    assert [entry["event"] for entry in logs] == ["an event cannot be sent"]
    with pytest.raises(CoterieError, match="at most"):
        await one.links.request(two.uid, WhoIs([huge]), SOON)

    async def too_much(_: Uid, __: Any) -> Any:
        return event(huge)

    two.dispatcher.on_request(WhoIs, too_much)
    with pytest.raises(CoterieError, match="at most"):
        await one.links.request(two.uid, question(), SOON)
    assert one.changes == [(two.uid, True)]


async def test_without_a_link(make: MakeNode) -> None:
    one = await make(1)
    assert not one.links.send(uid_of(2), event("lost"))
    with pytest.raises(Unavailable, match="nobody has said where"):
        await one.links.request(uid_of(2), Ping(), SOON)
    nobody = Node(2)
    with socket.create_server(("127.0.0.1", 0)) as free:
        nobody.port = free.getsockname()[1]
    one.links.learn([nobody.me])
    with pytest.raises(Unavailable, match="cannot be reached"):
        await one.links.request(nobody.uid, Ping(), 60.0)
    with pytest.raises(Unavailable, match=str(nobody.port)):
        await one.links.contact("127.0.0.1", nobody.port, 60.0)


async def test_an_address_where_another_node_is_by_now(make: MakeNode) -> None:
    one, two = await make(1), await make(2)
    gone = Node(3)
    gone.port = two.port
    one.links.learn([gone.me])
    with pytest.raises(Unavailable, match="not the node n3 any more"):
        await one.links.request(gone.uid, Ping(), SOON)


async def test_a_node_gives_its_own_address_up(make: MakeNode) -> None:
    one = await make(1)
    for _ in range(2):
        with pytest.raises(SelfContact):
            await one.links.contact("127.0.0.1", one.port, SOON)
    assert one.changes == []


async def test_a_node_that_names_no_host_is_probed_where_it_was_seen(make: MakeNode) -> None:
    one, two = await make(1), await make(2)
    two.host = "0.0.0.0"
    assert not await one.links.probe(two.me, SOON)
    await one.meet(two)
    assert await one.links.probe(two.me, SOON)


async def test_probe(make: MakeNode) -> None:
    one, two, three = await make(1), await make(2), await make(3, ring=ANOTHER)
    await one.meet(two)
    assert await one.links.probe(two.me, SOON)
    assert await three.links.probe(two.me, SOON)  # it lives, whatever it thinks of us
    other = Node(4)
    other.port = two.port
    assert not await one.links.probe(other.me, SOON)
    await two.stop()
    assert not await one.links.probe(two.me, SOON)
    await one.until(lambda: not one.links.alive(two.uid))
    assert one.changes == [(two.uid, True), (two.uid, False)]
    assert three.changes == []


async def test_a_port_in_use(make: MakeNode) -> None:
    one = await make(1)
    two = Node(2)
    with pytest.raises(ListenError, match=rf"127\.0\.0\.1:{one.port}: .*in use; .*--listen-peer"):
        await two.start(one.port)
    await two.stop()


async def test_requests_fail_at_once_when_the_peer_stops(make: MakeNode) -> None:
    one, two = await make(1), await make(2)
    await one.meet(two)
    asked = asyncio.Event()

    async def never(_: Uid, __: Any) -> None:
        asked.set()
        await asyncio.Event().wait()

    two.dispatcher.on_request(WhoIs, never)
    asking = asyncio.create_task(one.links.request(two.uid, question(), 60.0))
    await asked.wait()
    await two.stop()
    with pytest.raises(Unavailable, match="was lost: the node is stopping"):
        await asyncio.wait_for(asking, SOON)
    assert one.links.down_since(two.uid) is not None


async def test_closing_writes_what_is_queued_and_fails_what_waits(make: MakeNode) -> None:
    one, two = await make(1), await make(2)
    await one.meet(two)
    two.dispatcher.on_request(WhoIs, lambda _, __: asyncio.Event().wait())
    asking = asyncio.create_task(one.links.request(two.uid, question(), 60.0))
    await asyncio.sleep(0)
    for i in range(1000):
        one.links.send(two.uid, event(f"last words {i}"))
    await one.stop()
    with pytest.raises(Unavailable):
        await asking
    await two.until(lambda: len(two.texts) == 1000)
    with pytest.raises(Unavailable, match="stopping"):
        await one.links.contact("127.0.0.1", two.port, SOON)


async def test_wanted_links_are_kept(make: MakeNode) -> None:
    one, two = await make(1), await make(2)
    one.links.want([two.uid, one.uid])  # nobody knows yet where it is
    one.links.learn([two.me])
    await one.until(lambda: one.links.alive(two.uid))
    port = two.port
    await two.stop()
    await one.until(lambda: not one.links.alive(two.uid))
    again = await make(2, QUICK, boot="again", port=port)
    await one.until(lambda: one.links.alive(two.uid))
    assert await one.links.request(again.uid, Ping(), SOON) == Pong(again.me)


async def test_a_wanted_node_is_found_where_it_went(make: MakeNode) -> None:
    lazy = PeerSettings(redial_first=3600.0, redial_most=3600.0)
    one, two = await make(1, lazy), await make(2)
    await one.meet(two)
    one.links.want([two.uid])
    await two.stop()
    await one.until(lambda: not one.links.alive(two.uid))
    moved = await make(2, boot="again")
    moved.incarnation += 1
    one.links.learn([moved.me])
    await one.until(lambda: one.links.alive(two.uid))
    one.links.learn([two.me])  # an old rumour changes nothing
    assert one.links.ref(two.uid) == moved.me


async def test_the_book_is_told_for_keeping(make: MakeNode) -> None:
    one, two = await make(1), await make(2)
    kept: list[list[Uid]] = []
    told = asyncio.Event()

    def keep(refs: Sequence[NodeRef]) -> None:
        kept.append([ref.uid for ref in refs])
        told.set()

    one.links.book.watch(keep)
    await one.meet(two)
    await asyncio.wait_for(told.wait(), SOON)
    assert kept == [[two.uid]]
