"""No frame is built that its receiver must refuse: each builder, filled with the heaviest items that may lie on a disk.

What releases before took is heavier than what is taken now: a `prekey` of nearly a client's whole message.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.sim.memory_store import _page

from coterie_client import archiver
from coterie_client import link as client_link
from coterie_node.chat.gateway.forwarding import FORWARD_BYTES, Entry, Forwarder
from coterie_node.chat.owner import archive, delivery, receipts
from coterie_node.chat.settings import ChatSettings
from coterie_node.peer import packing
from coterie_node.peer.outbox import Outbox
from coterie_node.peer.settings import PeerSettings
from coterie_node.replication.antientropy import pages as bulk
from coterie_node.replication.append import batches
from coterie_node.replication.append.batches import Batch
from coterie_node.replication.consensus import acceptor
from coterie_node.replication.reconfigure import state_transfer
from coterie_protocol.bounds import MAX_MS, MAX_PREKEY_BYTES
from coterie_protocol.chat import Deliver, DeliverReceipts, Forward, PageAnswer, Post, Push
from coterie_protocol.client_api import (
    MAX_CLIENT_FRAME_BYTES,
    MAX_MESSAGE_BODY_BYTES,
    MAX_PEER_FRAME_BYTES,
    Archive,
    ClientFrame,
    MailItem,
    PageReply,
    Request,
    Send,
    ServerFrame,
)
from coterie_protocol.frames import (
    PeerFrame,
    decode_client,
    decode_peer,
    decode_server,
    encode,
    encode_frame,
    join,
)
from coterie_protocol.identifiers import Uid
from coterie_protocol.records import MAX_BODY_BYTES, Record, State, Version, key_hash, version_of
from coterie_protocol.registers import AccountBallot, AccountPromise, AccountPromises
from coterie_protocol.replication import Offer, RecordsPage, Replicate, VersionsPage
from coterie_protocol.weight import weight_of_promise

NAME = "é" * 32
"""64 bytes."""
LANDED = MAX_CLIENT_FRAME_BYTES - 200
"""Bytes that a message could have in one field before."""
BODIES = [(b"x", LANDED), (bytes(MAX_MESSAGE_BODY_BYTES), MAX_PREKEY_BYTES), (bytes(MAX_BODY_BYTES), 0), (b"", 0)]
"""(body, length of the prekey)"""
KINDS = ["landed", "message", "attachment", "empty"]
BALLOT = AccountBallot(1 << 52, 1 << 52, "p" * 40)
WHEN = MAX_MS - 1
heaviest = pytest.mark.parametrize(("body", "prekey"), BODIES, ids=KINDS)


def record(number: int, body: bytes, prekey: int) -> Record:
    mid = number.to_bytes(16, "big")
    return Record(
        1023, NAME, NAME, mid, 0, State.PENDING, body, len(body), bytes(prekey), 1 << 52, WHEN + number - 5000, WHEN
    )


def records(body: bytes, prekey: int) -> list[Record]:
    """Return enough for several frames, and for more than a receiver takes at once."""
    weight = len(body) + prekey + 200
    return [record(number, body, prekey) for number in range(min(9 * MAX_PEER_FRAME_BYTES // (4 * weight), 4096))]


def mail(body: bytes, prekey: int) -> list[MailItem]:
    return [archive.mail_item(one) for one in records(body, prekey)]


def taken_by_a_node(bodies: Iterable[Any], at_least: int = 2) -> list[Any]:
    """Send bodies to a node, one frame each; return what it understood."""
    frames = [decode_peer(encode([PeerFrame(-(1 << 52), body)])) for body in bodies]
    assert len(frames) >= at_least
    return [frame[0].body for frame in frames]


def cursor(one: Record) -> tuple[int, bytes]:
    return (one.stored_at, key_hash(one.key))


class Shelf:
    """A store's transaction that has these records."""

    def __init__(self, held: Sequence[Record]) -> None:
        self._held = {one.key: one for one in held}
        self._order = sorted(held, key=cursor, reverse=True)

    def records(self, keys: Sequence[Any]) -> list[Record | None]:
        return [self._held.get(key) for key in keys]

    def archive_page(
        self, slot: int, owner: str, before: tuple[int, bytes] | None, limit: int, max_bytes: int
    ) -> list[Record]:
        page = [one for one in self._order if before is None or cursor(one) < before]
        return _page(page, limit, max_bytes)


@heaviest
def test_appends(body: bytes, prekey: int) -> None:
    held = records(body, prekey)
    calls = [([one], _done) for one in held] + [(held, _done)]
    made = batches.gather(calls, lambda _: (Uid("a"),), lambda members: Batch(1 << 62, members, 0.0))
    taken = taken_by_a_node([one.message for one in made])
    assert sum(len(cast(Replicate, one).records) for one in taken) == 2 * len(held)


def _done(*_: Any) -> None:
    pass


@heaviest
def test_repair_and_offers(body: bytes, prekey: int) -> None:
    held = records(body, prekey)
    versions: Sequence[Version] = [version_of(one) for one in held]
    tx = cast(Any, Shelf(held))
    pages = []
    while versions:
        page, count = bulk.fill(tx, versions)
        assert page
        pages.append(page)
        versions = versions[count:]
    taken_by_a_node(RecordsPage(page, more=True) for page in pages)
    taken_by_a_node(Offer(1023, page) for page in pages)


def test_versions() -> None:
    versions = [version_of(record(number, b"", 0)) for number in range(bulk.PAGE)]
    taken_by_a_node([VersionsPage(versions, (255, bytes(16))), Offer(1023, [], tuple(versions))])


@heaviest
def test_forwarded_messages(body: bytes, prekey: int) -> None:
    sent: list[list[Entry]] = []
    posts = [Post(1023, NAME, NAME, one.id, one.body, one.prekey, 1 << 52, one.id) for one in records(body, prekey)]
    entries = [Entry(post, 1, lambda *_: None, 0.0) for post in posts]
    Forwarder._dispatch(cast(Forwarder, SimpleNamespace(_send=lambda _, some: sent.append(some))), Uid("b"), entries)
    taken_by_a_node(Forward(1 << 62, [entry.post for entry in some]) for some in sent)
    assert [entry for some in sent for entry in some] == entries
    assert all(len(some) == 1 or sum(entry.weight for entry in some) <= FORWARD_BYTES for some in sent)


@heaviest
def test_pushed_mail(body: bytes, prekey: int) -> None:
    items = mail(body, prekey)
    parts = delivery._parts(items, ChatSettings().page_bytes)
    taken_by_a_node(Deliver([Push(NAME, 1 << 52, part, drained=True)]) for part, _ in parts)
    assert [item for part, _ in parts for item in part] == items


@heaviest
def test_pages_of_the_archive(body: bytes, prekey: int) -> None:
    held = records(body, prekey)
    tx = cast(Any, Shelf(held))
    pages: list[list[MailItem]] = []
    before: tuple[int, bytes] | None = None
    more = True
    while more:
        page, more = archive._archived(tx, 1023, NAME, before, archive.PAGE_LIMIT)
        before = cursor(page[-1])
        pages.append([archive.mail_item(one) for one in page])
    taken_by_a_node(PageAnswer(page, bytes(24)) for page in pages)
    assert sum(map(len, pages)) == len(held)
    for items in pages:
        data = encode([ServerFrame(1, PageReply(items, bytes(24)))])
        assert len(data) <= client_link.MAX_INCOMING_BYTES
        assert decode_server(data)


def test_receipts() -> None:
    items = [(NAME, NAME, number.to_bytes(16, "big"), 2, WHEN) for number in range(50_000)]
    parts = receipts.frames_of(items)
    taken_by_a_node(DeliverReceipts(part) for part in parts)
    assert [item for part in parts for item in part] == items


def accounts() -> list[AccountPromise]:
    """Return what an account may have: keys and a vault of 64 KiB each."""
    return [AccountPromise(f"{number:064}", BALLOT, BALLOT, bytes(132 * 1024)) for number in range(64)]


def test_accounts_that_are_listed() -> None:
    promises, pages = accounts(), []
    more = True
    while more:
        page = acceptor.page_of(promises, more=False)
        pages.append(page)
        promises, more = promises[len(page.items) :], page.more
    assert not promises
    taken_by_a_node(pages)


def test_accounts_that_are_accepted_again() -> None:
    by_name = {one.name: one for one in accounts()}
    pages = state_transfer._pages({name: weight_of_promise(one) for name, one in by_name.items()})
    assert [name for page in pages for name in page] == sorted(by_name)
    taken_by_a_node(AccountPromises([by_name[name] for name in page]) for page in pages)


async def test_what_waits_for_a_peer() -> None:
    outbox = Outbox(PeerSettings())
    heavy = packing.pack(0, Replicate(1, [record(0, bytes(MAX_BODY_BYTES), LANDED)]))
    for _ in range(20):
        outbox.put(heavy)
        outbox.put_bulk(heavy)
    for _ in range(20):
        assert decode_peer(await outbox.message())


def test_requests_of_a_client() -> None:
    small: list[Request] = [Send(NAME, bytes(16), b"x")] * 9000
    large: list[Request] = [
        Send(NAME, bytes(16), bytes(MAX_MESSAGE_BODY_BYTES), bytes(MAX_PREKEY_BYTES), bytes(16))
    ] * 40
    queue: list[archiver.Item] = [(NAME, bytes(16), 0, bytes(size)) for size in [0] * 3000 + [MAX_BODY_BYTES] * 9]
    archives: list[Request] = []
    while queue:
        batch = archiver._first_batch(queue)
        archives.append(Archive(batch))
        queue = queue[len(batch) :]
    for requests in (small, large, archives, [*small, *archives, *large]):
        frames = [encode_frame(ClientFrame(1 << 40, request)) for request in requests]
        messages = client_link._batches(frames)
        assert len(messages) > 1
        assert sum(len(decode_client(join(message))) for message in messages) == len(frames)
