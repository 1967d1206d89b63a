"""In the sender's order, whatever fails on the way."""

from __future__ import annotations

import asyncio

import pytest
from tests.unit.client.conftest import Enter
from tests.unit.client.gateway import Gateway, Refusal, World, now
from tests.unit.client.talk import opened, receive_all, texts, waiting

from coterie_client.client import Client
from coterie_client.envelope import Content, seal
from coterie_client.errors import ClientError, Unavailable
from coterie_client.settings import Settings
from coterie_protocol.client_api import Drained, Mail, MailItem, Request, Send, Subscribe
from coterie_protocol.errors import ErrorCode


async def test_a_message_goes_out_when_the_one_before_it_is_stored(
    world: World, alice: Settings, bob: Settings
) -> None:
    """Every other attempt fails: what is stored is a beginning of what was written at any time."""
    attempts: list[bytes] = []

    def faults(gateway: Gateway, request: Request) -> None:
        if isinstance(request, Send):
            attempts.append(request.id)
            if len(attempts) % 2:
                raise Refusal(ErrorCode.UNAVAILABLE, value=1)

    world.faults = faults
    async with opened(alice) as client:
        sent = [client.sender.submit("bob", str(n)) for n in range(20)]
        await asyncio.gather(*(task for _, task in sent))
    assert [item.id for item in world.pending("bob")] == [message.id for message, _ in sent]
    assert texts(await waiting(bob)) == [str(n) for n in range(20)]


async def test_people_do_not_wait_for_each_other(world: World, enter: Enter, alice: Settings, bob: Settings) -> None:
    await enter("carol")

    def faults(gateway: Gateway, request: Request) -> None:
        if isinstance(request, Send) and request.to == "bob":
            raise Refusal(ErrorCode.UNAVAILABLE)

    world.faults = faults
    async with opened(alice, patience=0.5) as client:
        _, to_bob = client.sender.submit("bob", "x")
        assert (await client.sender.send("carol", "y")).state == "stored"
        _, behind = client.sender.submit("bob", "z")
        for task in (to_bob, behind):
            with pytest.raises(Unavailable):
                await task
    assert world.pending("bob") == []


async def test_what_another_process_is_sending_goes_first(world: World, alice: Settings, bob: Settings) -> None:
    async with opened(alice, patience=0.2) as first, opened(alice) as second:
        world.faults = refuse_sends
        with pytest.raises(Unavailable):
            await first.sender.send("bob", "one")
        world.faults = lambda gateway, request: None
        await second.sender.send("bob", "two")
    assert texts(await waiting(bob)) == ["one", "two"]


def refuse_sends(gateway: Gateway, request: Request) -> None:
    if isinstance(request, Send):
        raise Refusal(ErrorCode.UNAVAILABLE)


async def test_a_withdrawn_message_leaves_no_gap(world: World, alice: Settings, bob: Settings) -> None:
    """The next one was written, and names it, before it was refused."""
    refused: list[bytes] = []

    def faults(gateway: Gateway, request: Request) -> None:
        if isinstance(request, Send) and not refused:
            refused.append(request.id)
            raise Refusal(ErrorCode.MAILBOX_FULL)

    async with Client.open(bob, receive=True) as receiver, opened(alice) as client:
        receiver.mailbox.start()
        await receive_all(receiver, lambda got: True)
        world.faults = faults
        begun = asyncio.get_running_loop().time()
        tasks = [client.sender.submit("bob", text)[1] for text in ("never", "two", "three")]
        with pytest.raises(ClientError, match="full"):
            await tasks[0]
        assert texts(await receive_all(receiver, lambda got: len(got) == 2)) == ["two", "three"]
        assert asyncio.get_running_loop().time() - begun < 1.0


async def test_a_gap_is_asked_about_before_what_follows_is_shown(world: World, bob: Settings) -> None:
    """One node has pushed the second message, and the first, acknowledged before it, was never pushed."""
    account = world.accounts["bob"]
    async with Client.open(bob, receive=True) as client:
        client.mailbox.start()
        await receive_all(client, lambda got: True)
        first = MailItem("alice", b"1" * 16, 0, 0, seal(Content(1, 1, b"", now(), "one", "bob")), b"", 1, now())
        account.mailbox["alice", first.id] = first
        second = MailItem("alice", b"2" * 16, 0, 0, seal(Content(1, 2, first.id, now(), "two", "bob")), b"", 1, now())
        world.put(account, second)
        assert texts(await receive_all(client, bool)) == ["one", "two"]
    assert sum(isinstance(request, Subscribe) for request in world.requests) == 2


async def test_a_gap_is_not_given_up_while_nodes_that_are_away_may_have_what_is_missing(
    world: World, bob: Settings
) -> None:
    """What has no gap before it is shown meanwhile, and the drain counts for it."""
    world.certain = False
    account = world.accounts["bob"]
    first = MailItem("alice", b"1" * 16, 0, 0, seal(Content(1, 1, b"", now(), "one", "bob")), b"", 1, now())
    second = MailItem("alice", b"2" * 16, 0, 0, seal(Content(1, 2, first.id, now(), "two", "bob")), b"", 1, now())
    other = MailItem("carol", b"3" * 16, 0, 0, seal(Content(1, 1, b"", now(), "else", "bob")), b"", 1, now())
    async with Client.open(bob, receive=True) as client:
        client.mailbox.start()
        await receive_all(client, lambda got: True)
        world.put(account, second)
        world.put(account, other)
        receiving = asyncio.create_task(receive_all(client, lambda got: len(got) == 3))
        await world.until(lambda: sum(isinstance(request, Subscribe) for request in world.requests) == 2)
        await asyncio.sleep(0.1)  # The second drain ends at once, and is not certain.
        account.mailbox["alice", first.id] = first
        for link in account.links:
            link.push(Mail([first]))
        assert texts(await receiving) == ["else", "one", "two"]


async def test_a_gap_is_given_up_when_the_drain_is_certain(world: World, bob: Settings) -> None:
    world.certain = False
    account = world.accounts["bob"]
    second = MailItem("alice", b"2" * 16, 0, 0, seal(Content(1, 2, b"1" * 16, now(), "two", "bob")), b"", 1, now())
    async with Client.open(bob, receive=True) as client:
        client.mailbox.start()
        await receive_all(client, lambda got: True)
        world.put(account, second)
        receiving = asyncio.create_task(receive_all(client, bool))
        await world.until(lambda: sum(isinstance(request, Subscribe) for request in world.requests) == 2)
        await asyncio.sleep(0.1)
        assert not receiving.done()
        for link in account.links:
            link.push(Drained())
        assert texts(await receiving) == ["two"]


async def test_a_drain_does_not_show_what_has_just_come_with_a_gap(world: World, bob: Settings) -> None:
    """It began before: the first message may come a moment later."""
    account = world.accounts["bob"]
    first = MailItem("alice", b"1" * 16, 0, 0, seal(Content(1, 1, b"", now(), "one", "bob")), b"", 1, now())
    second = MailItem("alice", b"2" * 16, 0, 0, seal(Content(1, 2, first.id, now(), "two", "bob")), b"", 1, now())
    world.put(account, second)
    async with Client.open(bob, receive=True) as client:
        client.mailbox.start()
        receiving = asyncio.create_task(receive_all(client, bool))
        await world.until(lambda: any(isinstance(request, Subscribe) for request in world.requests))
        await asyncio.sleep(0.1)  # The drain has ended by now, or ends now; in both cases the message must wait.
        account.mailbox["alice", first.id] = first
        for link in account.links:
            link.push(Mail([first]))
        assert texts(await receiving) == ["one", "two"]


async def test_what_the_ring_lacks_is_sent_again_before_what_follows(
    world: World, alice: Settings, bob: Settings
) -> None:
    """Whoever acknowledged the last messages is away; the node that acts now must not take the next without them."""

    def faults(gateway: Gateway, request: Request) -> None:
        if isinstance(request, Send) and request.after and ("alice", request.after) not in account.mailbox:
            raise Refusal(ErrorCode.PREDECESSOR_MISSING)

    account = world.accounts["bob"]
    world.faults = faults
    async with opened(alice) as client:
        sent = [await client.sender.send("bob", text) for text in ("one", "two", "three")]
        for message in sent[1:]:
            del account.mailbox["alice", message.id]
        sent.append(await client.sender.send("bob", "four"))
    assert [item.id for item in world.pending("bob")] == [message.id for message in sent]
    assert texts(await waiting(bob)) == ["one", "two", "three", "four"]
