"""Sending and receiving through a real server, by the library."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from pathlib import Path

import pytest
from tests.unit.client.conftest import Enter
from tests.unit.client.gateway import Gateway, Refusal, World, now, serving
from tests.unit.client.talk import opened, receive_all, texts, waiting

from coterie_client.client import Account, Client
from coterie_client.envelope import WITHDRAWN, Content, archive_copy, open_archive, open_body, seal
from coterie_client.errors import (
    AlreadyReceiving,
    ClientError,
    NoSuchUser,
    NotDelivered,
    SessionTaken,
    Unavailable,
    UsageError,
)
from coterie_client.settings import Settings
from coterie_protocol.client_api import Archive, Keep, Mail, MailItem, Request, Send, Subscribe
from coterie_protocol.errors import ErrorCode


async def test_a_message_for_somebody_away_waits_and_comes_once(world: World, alice: Settings, bob: Settings) -> None:
    async with opened(alice) as client:
        sent = await client.sender.send("bob", "héllo\n\0 ✨")
        assert sent.state == "stored"
        assert await client.archiver.flush(5)
    assert texts(await waiting(bob)) == ["héllo\n\0 ✨"]
    assert await waiting(bob) == []
    assert world.pending("bob") == world.pending("alice") == []
    (own,) = world.archived("alice")
    copy = open_archive(own.body)
    assert isinstance(copy, bytes)
    content = open_body(copy)
    assert isinstance(content, Content)
    assert (content.to, content.text) == ("bob", "héllo\n\0 ✨")


async def test_the_own_copy_goes_out_with_the_message(world: World, alice: Settings, bob: Settings) -> None:
    async with opened(alice) as client:
        await client.sender.send("bob", "x")
        await client.archiver.flush(5)
    kinds = [[type(request) for request in message] for message in world.messages]
    assert [Keep, Send] in kinds
    assert kinds.index([Archive]) > kinds.index([Keep, Send])


async def test_ten_thousand_waiting_messages_come_in_order(world: World, alice: Settings, bob: Settings) -> None:
    account = world.accounts["bob"]
    prev = b""
    for n in range(1, 10_001):
        body = seal(Content(1, n, prev, now(), f"text {n}", "bob"))
        prev = n.to_bytes(16, "big")
        world.put(account, MailItem("alice", prev, 0, 0, body, b"", 1, now()))
    start = asyncio.get_running_loop().time()
    assert texts(await waiting(bob)) == [f"text {n}" for n in range(1, 10_001)]
    assert asyncio.get_running_loop().time() - start < 10
    assert world.pending("bob") == []


async def test_many_sent_at_once_keep_their_order(world: World, alice: Settings, bob: Settings) -> None:
    async with opened(alice) as client:
        tasks = [client.sender.submit("bob", str(n))[1] for n in range(300)]
        await asyncio.gather(*tasks)
    assert texts(await waiting(bob)) == [str(n) for n in range(300)]


async def test_a_message_is_acknowledged_only_after_it_is_saved(world: World, alice: Settings, bob: Settings) -> None:
    async with opened(alice) as client:
        await client.sender.send("bob", "precious")
    async with Client.open(bob, receive=True) as client:
        client.mailbox.start()
        while not (batch := await client.mailbox.next_batch()).messages:
            pass
        assert [m.text for m in client.account.history.unshown()] == ["precious"]
        assert len(world.pending("bob")) == 1
    # The process ended before it had shown the message: the next one shows it, though it was saved.
    assert batch.messages
    assert texts(await waiting(bob)) == ["precious"]
    assert await waiting(bob) == []


async def test_delivered_is_told_by_a_receipt(world: World, alice: Settings, bob: Settings) -> None:
    async with opened(alice) as client:
        sent = await client.sender.send("bob", "x")
        received = asyncio.create_task(waiting(bob))
        assert (await client.sender.wait_delivered(sent, 10)).state == "delivered"
        await received


async def test_delivered_is_found_out_by_asking_too(
    world: World, alice: Settings, bob: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coterie_client.sender.POLL", 0.05)
    async with opened(alice) as client:
        sent = await client.sender.send("bob", "x")
        world.accounts["alice"].links.clear()  # no receipt will be pushed
        await waiting(bob)
        assert (await client.sender.wait_delivered(sent, 10)).state == "delivered"


async def test_waiting_for_delivery_ends_with_the_time(alice: Settings, bob: Settings) -> None:
    async with opened(alice) as client:
        sent = await client.sender.send("bob", "x")
        with pytest.raises(NotDelivered, match="is stored, but bob"):
            await client.sender.wait_delivered(sent, 0.05)


async def test_nobody_of_that_name_takes_the_message_back_out(world: World, alice: Settings) -> None:
    async with opened(alice) as client:
        with pytest.raises(NoSuchUser):
            await client.sender.send("nobody", "x")
        assert await client.archiver.flush(5)
        assert client.account.outbox.sending() == []
    assert [item.body for item in world.archived("alice")] == [WITHDRAWN]
    assert world.pending("alice") == []


async def test_bad_texts_never_reach_the_outbox(alice: Settings) -> None:
    async with opened(alice) as client:
        for text in ("", "x" * 65_537, "\udc80"):
            with pytest.raises(UsageError):
                await client.sender.send("bob", text)
        assert client.account.outbox.sending() == []


async def test_what_could_not_be_sent_is_resent_in_order_under_the_same_id(
    world: World, alice: Settings, bob: Settings
) -> None:
    def faults(gateway: Gateway, request: Request) -> None:
        if isinstance(request, Send):
            raise Refusal(ErrorCode.UNAVAILABLE, "no quorum")

    world.faults = faults
    async with opened(alice, patience=0.3) as client:
        for text in ("one", "two"):
            with pytest.raises(Unavailable, match="no quorum"):
                await client.sender.send("bob", text)
    world.faults = lambda gateway, request: None
    world.requests.clear()
    async with opened(alice) as client:
        left = client.account.outbox.sending()
        client.sender.resend()
        await client.sender.send("bob", "three")
    assert [request.id for request in world.requests if isinstance(request, Send)][:2] == [m.id for m in left]
    assert texts(await waiting(bob)) == ["one", "two", "three"]


async def test_a_stored_message_whose_answer_was_lost_is_not_doubled(
    world: World, alice: Settings, bob: Settings
) -> None:
    lost: list[Request] = []

    def faults(gateway: Gateway, request: Request) -> None:
        if isinstance(request, Archive) and not lost and gateway.account is world.accounts["alice"]:
            lost.append(request)
            raise ConnectionResetError

    world.faults = faults
    async with opened(alice) as client:
        await client.sender.send("bob", "once")
        assert await client.archiver.flush(10)
    assert lost
    assert texts(await waiting(bob)) == ["once"]


async def test_a_held_id_with_another_body_counts_as_stored(world: World, alice: Settings, bob: Settings) -> None:
    def faults(gateway: Gateway, request: Request) -> None:
        if isinstance(request, Send):
            raise Refusal(ErrorCode.DUPLICATE_ID)

    world.faults = faults
    async with opened(alice) as client:
        assert (await client.sender.send("bob", "x")).state == "stored"


async def test_a_killed_server_in_the_middle_loses_and_doubles_nothing(world: World, enter: Enter) -> None:
    async with serving(world, 3) as servers:
        urls = tuple(one.url for one in servers)
        alice, bob = await enter("alice", urls=urls), await enter("bob", urls=urls)
        async with opened(alice) as sender, Client.open(bob, receive=True) as receiver:
            receiver.mailbox.start()
            got = asyncio.create_task(receive_all(receiver, lambda got: len(got) >= 200))
            for n in range(200):
                if n in (50, 120):
                    victim = sender.connection if n == 50 else receiver.connection
                    await servers[urls.index(victim.url)].kill()
                await sender.sender.send("bob", str(n))
            assert texts(await got) == [str(n) for n in range(200)]


async def test_the_next_device_sends_what_the_last_one_left(world: World, enter: Enter, bob: Settings) -> None:
    laptop = await enter("alice", home="laptop")

    def faults(gateway: Gateway, request: Request) -> None:
        if isinstance(request, Send):
            raise Refusal(ErrorCode.UNAVAILABLE)

    world.faults = faults
    async with opened(laptop, patience=0.2) as client:
        with pytest.raises(Unavailable):
            await client.sender.send("bob", "typed on the laptop")
    world.faults = lambda gateway, request: None
    phone = await enter("alice", home="phone", again=True)
    assert await waiting(phone) == []
    assert texts(await waiting(bob)) == ["typed on the laptop"]
    with contextlib.closing(Account.open(phone)) as account:
        assert texts(account.history.page("bob", limit=9) or []) == ["typed on the laptop"]


async def test_a_new_device_pages_the_history(world: World, enter: Enter, bob: Settings) -> None:
    laptop = await enter("alice", home="laptop")
    async with opened(laptop) as client:
        await asyncio.gather(*(client.sender.submit("bob", f"a{n}")[1] for n in range(250)))
        assert await client.archiver.flush(10)
    async with opened(bob) as client:
        for n in range(250):
            client.sender.submit("alice", f"b{n}")
        assert await client.sender.finish(10) == 0
    assert len(await waiting(laptop)) == 250
    phone = await enter("alice", home="phone", again=True)
    async with opened(phone) as client:
        assert await client.catch_up() == 500
        assert await client.catch_up() == 0
        page = client.account.history.page("bob", limit=1000) or []
    assert texts([m for m in page if m.outgoing]) == [f"a{n}" for n in range(250)]
    assert texts([m for m in page if not m.outgoing]) == [f"b{n}" for n in range(250)]
    assert await waiting(phone) == []


async def test_a_sender_goes_on_counting_on_a_new_device(world: World, enter: Enter, bob: Settings) -> None:
    laptop = await enter("alice", home="laptop")
    async with opened(laptop) as client:
        first = await client.sender.send("bob", "1")
        await client.archiver.flush(5)
    phone = await enter("alice", home="phone", again=True)
    async with opened(phone) as client:
        await client.catch_up()
        second = await client.sender.send("bob", "2")
    assert (second.epoch, second.prev) == (2, first.id)
    assert texts(await waiting(bob)) == ["1", "2"]


async def test_a_message_of_a_newer_client_is_kept_and_acknowledged(world: World, bob: Settings) -> None:
    body = b"\x05from the future"
    world.put(world.accounts["bob"], MailItem("bob", secrets.token_bytes(16), 0, 0, body, b"", 1, now()))
    (message,) = await waiting(bob)
    assert message.text is None
    assert [item.body for item in world.archived("bob")] == [archive_copy(body)]


async def test_messages_to_oneself_arrive(alice: Settings) -> None:
    async with opened(alice) as client:
        await client.sender.send("alice", "note to self")
        await client.archiver.flush(5)
    assert texts(await waiting(alice)) == ["note to self"]


async def test_one_account_receives_in_one_process(alice: Settings) -> None:
    async with Client.open(alice, receive=True):
        with pytest.raises(AlreadyReceiving):
            async with Client.open(alice, receive=True):
                pass
        async with opened(alice):
            pass


async def test_sending_beside_a_receiver_in_another_process(world: World, alice: Settings, bob: Settings) -> None:
    async with Client.open(alice, receive=True) as receiver:
        receiver.mailbox.start()
        await receive_all(receiver, lambda got: True)
        async with opened(alice) as sender:
            await sender.sender.send("bob", "x")
            assert await sender.archiver.flush(5)
        async with opened(bob) as other:
            await other.sender.send("alice", "y")
        assert texts(await receive_all(receiver, lambda got: bool(got))) == ["y"]
    assert len([request for request in world.requests if isinstance(request, Send)]) == 2


async def test_another_subscriber_of_the_session_ends_this_one(alice: Settings) -> None:
    async with Client.open(alice, receive=True) as client:
        client.mailbox.start()
        await receive_all(client, lambda got: True)
        async with opened(alice) as other:
            receiving = asyncio.create_task(receive_all(client, lambda got: False))
            while not receiving.done():
                await other.connection.call(Subscribe())
            with pytest.raises(ClientError, match="another client with this session"):
                await receiving


async def test_a_late_subscription_of_a_former_connection_does_not_end_the_receiver(
    world: World, alice: Settings, bob: Settings
) -> None:
    """A server that was frozen reads what the client had asked it before it went elsewhere."""
    async with Client.open(bob, receive=True) as client:
        client.mailbox.start()
        await receive_all(client, lambda got: True)
        async with opened(bob) as former:
            await former.connection.call(Subscribe())
        async with opened(alice) as sender:
            await sender.sender.send("bob", "after that")
        assert texts(await receive_all(client, bool)) == ["after that"]


async def test_a_takeover_ends_a_receiver_with_its_own_error(enter: Enter, alice: Settings) -> None:
    async with Client.open(alice, receive=True) as client:
        client.mailbox.start()
        await receive_all(client, lambda got: True)
        await enter("alice", home="phone", again=True)
        with pytest.raises(SessionTaken, match="taken over"):
            await client.mailbox.next_batch()


async def test_a_full_archive_blocks_no_mail_and_is_told_once(world: World, alice: Settings, bob: Settings) -> None:
    """Messages are acknowledged without copies: they leave the mailbox, and their sender sees them as delivered."""
    world.archive_records = 0
    said: list[str] = []
    async with opened(alice) as sender, Client.open(bob, receive=True) as receiver:
        receiver.archiver.on_full = lambda error: said.append(str(error))
        receiver.mailbox.start()
        sent = [await sender.sender.send("bob", f"message {number}") for number in range(3)]
        assert texts(await receive_all(receiver, lambda got: len(got) == 3)) == [f"message {n}" for n in range(3)]
        assert receiver.archiver.failure is None
        assert (await sender.sender.wait_delivered(sent[-1], 10.0)).state == "delivered"
        assert await sender.archiver.flush(10)
        await sender.sender.send("bob", "one more")
        assert texts(await receive_all(receiver, lambda got: len(got) == 1)) == ["one more"]
    assert len(said) == 1
    assert "your archive on the ring is full" in said[0]
    assert world.pending("alice") == world.pending("bob") == world.archived("alice") == world.archived("bob") == []
    assert await waiting(bob) == []


async def test_acknowledgements_that_fail_are_made_again(world: World, alice: Settings, bob: Settings) -> None:
    async with opened(alice) as client:
        await client.sender.send("bob", "x")
    refusals = [ErrorCode.UNAVAILABLE, ErrorCode.BUSY]

    def faults(gateway: Gateway, request: Request) -> None:
        if isinstance(request, Archive) and refusals:
            raise Refusal(refusals.pop())

    world.faults = faults
    assert texts(await waiting(bob)) == ["x"]
    assert world.pending("bob") == []


async def test_the_database_does_not_lie_in_the_way_of_another_account(enter: Enter, tmp_path: Path) -> None:
    first = await enter("alice", home="shared")
    with contextlib.closing(Account.open(first)) as account:
        account.contacts.add("bob", "", 1)
    second = await enter("bob", home="shared")
    with contextlib.closing(Account.open(second)) as account:
        assert account.contacts.all() == []


async def test_attachments_stay_for_a_newer_client(world: World, alice: Settings, bob: Settings) -> None:
    account = world.accounts["bob"]
    async with Client.open(bob, receive=True) as client:
        client.mailbox.start()
        await receive_all(client, lambda got: True)
        part = MailItem("alice", b"i" * 16, 1, 0, b"\x01picture", b"", 1, now())
        text = seal(Content(1, 1, b"", now(), "look", "bob"))
        for link in account.links:
            link.push(Mail([part, MailItem("alice", b"i" * 16, 0, 0, text, b"", 1, now())]))
        assert texts(await receive_all(client, lambda got: bool(got))) == ["look"]
    assert [item.part for item in world.archived("bob")] == [0]
