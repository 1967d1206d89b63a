"""One bad item never takes others with it: one in the middle, wherever the client handles many at once."""

from __future__ import annotations

import asyncio

import pytest
from tests.unit.client.conftest import Coterie
from tests.unit.client.gateway import Gateway, Refusal, World, now
from tests.unit.client.talk import opened, texts, waiting

from coterie_client import mailbox
from coterie_client.client import Account
from coterie_client.envelope import Content, Problem, archive_copy, seal
from coterie_client.errors import ClientError, Unavailable
from coterie_client.output import message_json, message_line
from coterie_client.settings import Settings
from coterie_protocol.client_api import Archive, Discard, Mail, MailItem, Request, Send
from coterie_protocol.errors import ErrorCode

NINETEEN_BYTES = bytes.fromhex("009601cf8000000000000000c40000a178a178")
"""The body that ended its recipient's client for good: its counter is 2^63."""


def array(*fields: bytes) -> bytes:
    return b"\x00" + bytes([0x90 + len(fields)]) + b"".join(fields)


HUGE, NEGATIVE = b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00"
ONE, NO_BYTES, X = b"\x01", b"\xc4\x00", b"\xa1x"
POISONS = {
    "counter 2^63": NINETEEN_BYTES,
    "epoch 2^64 - 1": array(HUGE, ONE, NO_BYTES, ONE, X, X),
    "epoch -2^63": array(NEGATIVE, ONE, NO_BYTES, ONE, X, X),
    "counter -2^63": array(ONE, NEGATIVE, NO_BYTES, ONE, X, X),
    "sent_at 2^64 - 1": array(ONE, ONE, NO_BYTES, HUGE, X, X),
    "prev of 17 bytes": array(ONE, ONE, b"\xc4\x11" + bytes(17), ONE, X, X),
    "text no UTF-8": array(ONE, ONE, NO_BYTES, ONE, b"\xa1\xff", X),
    "text a surrogate": array(ONE, ONE, NO_BYTES, ONE, b"\xa3\xed\xa0\x80", X),
    "recipient too long": array(ONE, ONE, NO_BYTES, ONE, X, b"\xd9\xff" + b"x" * 255),
    "deep": b"\x00" + b"\x91" * 70_000,
    "many": b"\x00\xdd\xff\xff\xff\xff",
    "nothing": b"",
    "no array": b"\x00\xc0",
}
poisoned = pytest.mark.parametrize("poison", POISONS.values(), ids=POISONS.keys())


def item(number: int, body: bytes | None = None, *, sender: str = "bob", state: int = 0, to: str = "alice") -> MailItem:
    sealed = seal(Content(1, number, b"", now(), f"text {number}", to)) if body is None else body
    return MailItem(sender, number.to_bytes(16, "big"), 0, state, sealed, b"", 1, now())


def put(world: World, name: str, *items: MailItem) -> None:
    for one in items:
        world.put(world.accounts[name], one)


@poisoned
async def test_saving_a_batch_keeps_what_does_not_decode_as_a_named_problem(alice: Settings, poison: bytes) -> None:
    account = Account.open(alice)
    try:
        new = account.history.save([item(1), item(2, poison), item(3)])
        assert texts(new) == ["text 1", None, "text 3"]
        assert new[1].problem is Problem.DAMAGED
        assert texts(account.history.page("bob", limit=9) or []) == ["text 1", None, "text 3"]
    finally:
        account.close()


def test_saving_survives_what_no_decoder_should_let_through(alice: Settings) -> None:
    """The second line: numbers that SQLite does not hold."""
    account = Account.open(alice)
    try:
        strange = [
            MailItem("bob", bytes(15) + b"\7", 0, 0, seal(Content(1, 7, b"", 1, "x", "y")), b"", 1, 2**63),
            MailItem("bob", bytes(15) + b"\x08", 0, 0, seal(Content(1, 8, b"", 1, "x", "y")), b"", 1, -(2**63) - 1),
        ]
        assert len(account.history.save([item(1), *strange, item(9)])) == 4
        page = account.history.page("bob", limit=9)
        assert page is not None
        assert len(page) == 4
        assert all(message_line(one, str) and message_json(one, "alice") for one in page)
    finally:
        account.close()


def test_a_time_that_a_former_release_has_saved_does_not_end_the_history(alice: Settings) -> None:
    account = Account.open(alice)
    try:
        account.history.save([item(1), item(2), item(3)])
        with account.database.write() as sql:
            sql.execute("UPDATE messages SET time = ? WHERE counter = 2", (2**62,))
        assert [message_json(one, "alice")["text"] for one in account.history.page("bob", limit=9) or []] == [
            "text 1", "text 2", "text 3",
        ]  # fmt: skip
    finally:
        account.close()


@poisoned
async def test_a_poisoned_message_is_shown_acknowledged_and_never_comes_again(
    world: World, coterie: Coterie, alice: Settings, bob: Settings, poison: bytes
) -> None:
    put(world, "alice", item(1), item(2, poison), item(3))
    first = await coterie("receive")
    assert first.code == 0
    assert sorted(line.split(" ", 2)[2] for line in first.out.splitlines()) == [
        "bob: [this message does not decode; it is kept as it came]", "bob: text 1", "bob: text 3",
    ]  # fmt: skip
    assert world.pending("alice") == []
    again = await coterie("receive")
    assert (again.code, again.out, again.err) == (0, "", "")
    assert sorted((await coterie("history", "bob")).out.splitlines()) == sorted(first.out.splitlines())


@poisoned
async def test_a_page_of_the_archive_brings_what_is_around_a_poisoned_copy(
    world: World, alice: Settings, bob: Settings, poison: bytes
) -> None:
    put(
        world,
        "alice",
        item(1, archive_copy(item(1).body), state=2),
        item(2, archive_copy(poison) if poison else b"\x07", state=2),
        item(3, archive_copy(item(3).body), state=2),
        item(4, b"", state=2),
        item(5, archive_copy(poison or b"\x00"), sender="", state=2),
    )
    async with opened(alice) as client:
        await client.catch_up()
        page = client.account.history.page("bob", limit=9)
    assert page is not None
    assert {"text 1", "text 3"} <= set(texts(page))


async def test_the_archiver_goes_past_what_the_ring_refuses(world: World, alice: Settings, bob: Settings) -> None:
    bad = item(500).id

    def faults(gateway: Gateway, request: Request) -> None:
        if isinstance(request, Archive) and any(one[1] == bad for one in request.items):
            raise Refusal(ErrorCode.BAD_REQUEST, "an archive copy that it does not like")

    world.faults = faults
    put(world, "alice", *(item(number) for number in range(1, 1001)))
    assert len(await waiting(alice)) == 1000
    assert world.pending("alice") == []
    assert len(world.archived("alice")) == 999
    assert any(
        isinstance(request, Discard) and [one[1] for one in request.items] == [bad] for request in world.requests
    )


async def test_the_archiver_says_what_it_cannot_acknowledge(world: World, alice: Settings, bob: Settings) -> None:
    bad = item(2).id

    def faults(gateway: Gateway, request: Request) -> None:
        if isinstance(request, Archive | Discard) and any(one[1] == bad for one in request.items):
            raise Refusal(ErrorCode.BAD_REQUEST, "it does not like it")

    world.faults = faults
    put(world, "alice", item(1), item(2), item(3))
    async with opened(alice) as client:
        client.archiver.add(("bob", one.id, 0, archive_copy(one.body)) for one in (item(1), item(2), item(3)))
        assert await client.archiver.flush(10)
        assert isinstance(client.archiver.failure, ClientError)
        assert "00000000-0000-0000-0000-000000000002 from bob" in str(client.archiver.failure)
    assert [one.id for one in world.pending("alice")] == [bad]


async def test_the_outbox_goes_past_a_message_that_the_ring_does_not_take(
    world: World, alice: Settings, bob: Settings
) -> None:
    stuck: list[bytes] = []

    def faults(gateway: Gateway, request: Request) -> None:
        if isinstance(request, Send) and request.id in stuck:
            raise Refusal(ErrorCode.INTERNAL, "the node failed")

    world.faults = faults
    async with opened(alice) as client:
        told: list[str] = []
        client.sender.on_failure = lambda message, error: told.append(f"{message.text}: {error}")
        sent = []
        for text in ("1", "2", "3"):
            message, task = client.sender.submit("bob", text)
            sent.append(task)
            if text == "2":
                stuck.append(message.id)
        results = await asyncio.gather(*sent, return_exceptions=True)
        assert [type(result).__name__ for result in results] == ["Message", "ClientError", "Message"]
        assert [message.text for message in client.account.outbox.sending()] == ["2"]
        assert (await client.sender.send("bob", "4")).state == "stored"
    assert any(line.startswith("2: ") for line in told)
    assert texts(await waiting(bob)) == ["1", "3", "4"]
    stuck.clear()
    async with opened(alice) as client:
        await asyncio.gather(*client.sender.resend())
    assert texts(await waiting(bob)) == ["2"]


@poisoned
async def test_own_copies_that_nobody_can_read_keep_no_other_from_being_sent(
    world: World, alice: Settings, bob: Settings, poison: bytes
) -> None:
    left = [seal(Content(0, number, b"", now(), f"text {number}", "bob")) for number in (1, 3)]  # by a former device
    put(world, "alice", item(1, left[0], sender=""), item(2, poison, sender=""), item(3, left[1], sender=""))
    async with opened(alice) as client:
        client.sender.take_over(world.pending("alice"))
        await client.sender.finish(10)
        await client.archiver.flush(10)
    assert texts(await waiting(bob)) == ["text 1", "text 3"]
    assert world.pending("alice") == []


@pytest.mark.parametrize(("count", "size"), [(1000, 10), (10, 50_000)], ids=["many", "large"])
async def test_mail_without_end_does_not_fill_the_memory(
    world: World, alice: Settings, monkeypatch: pytest.MonkeyPatch, count: int, size: int
) -> None:
    monkeypatch.setattr(mailbox, "MOST_WAITING", 8 * 1024 * 1024)
    async with opened(alice) as client:
        client.mailbox.start()
        await world.until(lambda: any(link.subscribed for link in world.accounts["alice"].links))
        link = world.accounts["alice"].links[0]
        flood = Mail([item(number, bytes(size)) for number in range(1, count + 1)])
        for _ in range(20):
            link.push(flood)
        async with asyncio.timeout(20):
            await link.gone.wait()
        assert 0 < client.mailbox._waiting <= mailbox.MOST_WAITING


async def test_a_server_that_never_says_what_waits_is_not_waited_for(world: World, alice: Settings) -> None:
    world.drains = False
    async with opened(alice, patience=0.2) as client:
        client.mailbox.start()
        with pytest.raises(Unavailable, match="does not say"):
            await client.mailbox.next_batch()
