"""The parts of a link that need no socket."""

from __future__ import annotations

import asyncio
from typing import cast
from unittest.mock import Mock

import pytest
from aiohttp import ClientWebSocketResponse
from tests.unit.peer.nodes import Node, event, uid_of

from coterie_node.config.settings import Address, NodeConfig
from coterie_node.peer import packing
from coterie_node.peer.address_book import Book
from coterie_node.peer.lines import Lines
from coterie_node.peer.link import Link
from coterie_node.peer.outbox import URGENT_MESSAGE, Outbox
from coterie_node.peer.settings import PeerSettings, peer_settings
from coterie_node.peer.wire import Wire
from coterie_protocol.frames import PeerFrame, decode_peer, encode, join
from coterie_protocol.nodes import Heartbeat, NodeRef


def ref(number: int, incarnation: int, host: str = "10.0.0.1", port: int = 7401) -> NodeRef:
    return NodeRef(uid_of(number), "n", 0, host, port, 1, 2, incarnation)


@pytest.mark.parametrize("count", [1, 15, 16, 65_535, 65_536])
def test_frames_that_are_joined_are_what_is_encoded_at_once(count: int) -> None:
    frames = [PeerFrame(i, event("x")) for i in range(count)]
    data = join([packing.pack(frame.id, frame.body) for frame in frames])
    assert data == encode(frames)
    assert decode_peer(data) == frames


def test_the_book_believes_the_greater_incarnation() -> None:
    book = Book()
    assert book.learn([ref(1, 5)]) == [uid_of(1)]
    assert book.learn([ref(1, 5, port=9), ref(1, 4, port=9)]) == []
    assert book.learn([ref(1, 6)]) == []  # newer, but nowhere else
    assert book.learn([ref(1, 7, port=9)]) == [uid_of(1)]
    assert book.get(uid_of(1)) == ref(1, 7, port=9)
    assert book.all() == [ref(1, 7, port=9)]


def test_the_book_keeps_the_host_of_who_does_not_name_one() -> None:
    book = Book()
    assert book.learn([ref(1, 5, host="")]) == []
    assert book.get(uid_of(1)) is None
    book.learn([ref(1, 5)])
    book.learn([ref(1, 6, host="0.0.0.0", port=8)])
    assert book.get(uid_of(1)) == ref(1, 6, port=8)


def test_the_book_tells_of_changes_once() -> None:
    book, told = Book(), []
    book.watch(lambda refs: told.append(list(refs)))
    book.tell()
    book.learn([ref(1, 1), ref(2, 1)])
    book.learn([ref(1, 2)])
    book.tell()
    book.tell()
    assert told == [[ref(2, 1), ref(1, 2)]]


async def test_what_was_queued_in_one_turn_is_one_message() -> None:
    outbox = Outbox(PeerSettings())
    writing = asyncio.create_task(outbox.message())
    await asyncio.sleep(0)
    for i in range(100):
        assert outbox.put(packing.pack(i, event("x")))
    assert [frame.id for frame in decode_peer(await writing)] == list(range(100))


async def test_urgent_messages_close_at_a_size_and_bulk_ones_sooner() -> None:
    outbox = Outbox(PeerSettings(bulk_chunk=1000))
    for i in range(5):
        outbox.put(packing.pack(i, event("x" * (URGENT_MESSAGE // 2))))
    for i in range(10, 14):
        outbox.put_bulk(packing.pack(i, event("x" * 400)))
    outbox.put_bulk(packing.pack(14, event("x" * 5000)))
    outbox.finish()
    messages = []
    while data := await outbox.message():
        messages.append([frame.id for frame in decode_peer(data)])
    assert messages == [[0], [1], [2], [3], [4], [10, 11], [12, 13], [14]]


async def test_who_waits_for_space_may_leave_and_is_let_go_at_the_end() -> None:
    outbox = Outbox(PeerSettings(bulk_bytes=10))
    outbox.put_bulk(b"x" * 10)
    first, second, third = (asyncio.create_task(outbox.bulk_space()) for _ in range(3))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    assert not second.done()
    await outbox.message()
    await second
    await third  # the second queued nothing, so there is still space
    outbox.put_bulk(b"x" * 10)
    last = asyncio.create_task(outbox.bulk_space())
    await asyncio.sleep(0)
    assert not last.done()
    outbox.close()
    await last


def test_the_limit_counts_frames_and_bytes() -> None:
    outbox = Outbox(PeerSettings(urgent_bytes=100, urgent_frames=3))
    assert [outbox.put(b"x") for _ in range(4)] == [True, True, True, False]
    outbox = Outbox(PeerSettings(urgent_bytes=100))
    assert [outbox.put(b"x" * 60) for _ in range(2)] == [True, False]


def test_settings_come_from_the_configuration() -> None:
    config = NodeConfig(heartbeat=2.0, silence=9.0, dial_timeout=3.0, listen_peer=Address("127.0.0.1", 1))
    settings = peer_settings(config)
    assert (settings.heartbeat, settings.silence, settings.dial_timeout) == (2.0, 9.0, 3.0)
    assert peer_settings(NodeConfig()) == PeerSettings()


async def test_a_quiet_link_beats_every_time_and_a_busy_one_never() -> None:
    written: list[list[object]] = []

    class Socket:
        async def send_bytes(self, data: bytes) -> None:
            written.append([frame.body for frame in decode_peer(data)])

    node = Node(2)
    wire = Wire(cast("ClientWebSocketResponse", Socket()), cast("asyncio.Transport", Mock()))
    link = Link(
        wire,
        node.hello(),
        dialled=True,
        since=0.0,
        dispatcher=node.dispatcher,
        tasks=node.tasks,
        settings=PeerSettings(),
        lost=lambda *_: None,
        lines=Lines(),
    )
    link.start()
    for turn in range(1, 5):
        await turns()
        link.beat()
        await turns()
        assert written == [[Heartbeat()]] * turn  # the first is the one that opened the link
    written.clear()
    for _ in range(4):
        link.send(event("busy"), bulk=False)
        await turns()
        link.beat()
        await turns()
    assert written == [[event("busy")]] * 4
    link.end("the test is over")


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)
