"""What a peer may make a node keep in memory is bounded."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.unit.peer.conftest import MakeNode
from tests.unit.peer.nodes import SOON, raw_peer, uid_of
from tests.unit.peer.test_peer_parts import ref

from coterie_node.peer.address_book import MOST, Book
from coterie_node.peer.reconnect import UNMET_MOST, WANTED_MOST
from coterie_node.peer.settings import PeerSettings
from coterie_protocol.errors import ErrorCode
from coterie_protocol.frames import PeerError, PeerFrame, decode_peer, encode
from coterie_protocol.identifiers import Uid
from coterie_protocol.nodes import Refs, WhoIs


async def test_requests_that_are_answered_at_once_are_bounded(make: MakeNode) -> None:
    one = await make(1, PeerSettings(silence=60.0, answering=10))
    free = asyncio.Event()
    asked: list[int] = []

    async def answer(_: Uid, message: WhoIs) -> Refs:
        asked.append(len(message.uids))
        await free.wait()
        return Refs([])

    one.dispatcher.on_request(WhoIs, answer)
    async with raw_peer(one, 2) as greedy:
        await greedy.link()
        await greedy.socket.send_bytes(encode([PeerFrame(number, WhoIs([])) for number in range(1, 31)]))
        refused = await answers(greedy.socket, 20)
        assert {number: type(body) for number, body in refused.items()} == dict.fromkeys(range(11, 31), PeerError)
        assert {body.code for body in refused.values()} == {ErrorCode.BUSY}
        assert len(asked) == 10
        free.set()
        assert set(await answers(greedy.socket, 10)) == set(range(1, 11))
        await greedy.socket.send_bytes(encode([PeerFrame(99, WhoIs([]))]))
        assert set(await answers(greedy.socket, 1)) == {99}


async def test_large_answers_to_one_who_does_not_read_are_bounded(make: MakeNode) -> None:
    """They used to pile up without limit: only bulk requests waited for space, not the answers to them."""
    settings = PeerSettings(silence=60.0, bulk_bytes=1_000_000, bulk_answers=5)
    one = await make(1, settings)
    big = Refs([ref(number, 1) for number in range(3000)])

    async def answer(_: Uid, __: WhoIs) -> Refs:
        return big

    one.dispatcher.on_request(WhoIs, answer)
    async with raw_peer(one, 2) as slow:
        await slow.link()
        await one.until(lambda: one.links.alive(slow.uid))
        size = len(encode([PeerFrame(-1, big)]))
        assert size > 100_000
        count = 400
        await slow.socket.send_bytes(encode([PeerFrame(number, WhoIs([])) for number in range(1, count + 1)]))
        got = await answers(slow.socket, count)
        busy = [body for body in got.values() if isinstance(body, PeerError)]
        assert {body.code for body in busy} == {ErrorCode.BUSY}
        # Those that were queued or waited, and as many as left while the others were made.
        kept = settings.bulk_bytes // size + 1 + settings.bulk_answers
        assert kept <= count - len(busy) <= 3 * kept
        assert all(isinstance(body, PeerError) or len(body.nodes) == 3000 for body in got.values())


def test_the_book_does_not_grow_for_ever() -> None:
    book = Book()
    for number in range(MOST + 10):
        book.learn([ref(number, 1)])
        book.learn([ref(0, number + 2)])
    assert len(book.all()) == MOST
    assert book.get(uid_of(0)) is not None
    assert book.get(uid_of(5)) is None
    assert book.get(uid_of(MOST + 9)) is not None


async def answers(socket: Any, count: int) -> dict[int, Any]:
    """Collect so many answers, by the numbers of their requests."""
    got: dict[int, Any] = {}
    while len(got) < count:
        for frame in decode_peer(await socket.receive_bytes(timeout=SOON)):
            if frame.id:
                got[-frame.id] = frame.body
    return got


def redials() -> int:
    """Count the tasks that try to have a link."""
    return sum("redial" in task.get_name() for task in asyncio.all_tasks())


async def test_nodes_that_never_were_are_not_dialled_without_bound(make: MakeNode) -> None:
    """A member that lies names as many as it likes; who is honest keeps its link, and gets one in the midst of it."""
    one, two = await make(1), await make(2)
    one.links.want([two.uid])
    await one.meet(two)
    one.links.want(uid_of(number) for number in range(1000, 1000 + 2 * WANTED_MOST))
    three = await make(3)
    one.links.learn([three.me])
    one.links.want([three.uid])
    await one.until(lambda: one.links.alive(three.uid))
    one.links.want(uid_of(number) for number in range(9000, 9000 + UNMET_MOST))
    for _ in range(5):  # whoever is let go sees it in its next steps
        await asyncio.sleep(0)
    assert redials() <= UNMET_MOST
    port = two.port
    await two.stop()
    await one.until(lambda: not one.links.alive(two.uid))
    again = await make(2, port=port)
    await one.until(lambda: one.links.alive(again.uid))


async def test_who_was_let_go_can_be_wanted_again(make: MakeNode) -> None:
    one = await make(1)
    one.links.want([uid_of(2)])
    one.links.want(uid_of(number) for number in range(1000, 1000 + UNMET_MOST))
    two = await make(2)
    one.links.learn([two.me])
    one.links.want([two.uid])
    await one.until(lambda: one.links.alive(two.uid))
