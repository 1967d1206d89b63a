"""A poisoned item in the middle of what chat handles many of at once: the others get theirs, and it is named."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec
from structlog.testing import capture_logs
from tests.unit.chat.ring import ChatRing, Client, N, mid, simulated
from tests.unit.replication.nodes import until

from coterie_protocol.chat import Attach, Attached, AttachItem, Deliver, Forward, Forwarded, Post, Push, RouteReceipts
from coterie_protocol.client_api import (
    Error,
    MailItem,
    PresenceQuery,
    PresenceReply,
    Receipt,
    Send,
    States,
    StatesReply,
    Stored,
)
from coterie_protocol.errors import ErrorCode
from coterie_protocol.identifiers import Uid, slot_of_name
from coterie_protocol.records import RecordKey


class Poison(Exception):
    """What nobody foresaw."""


def _poisoned(function: Any, *bad: Any) -> Any:
    """Return the function, failing for calls with one of these among their arguments."""

    def call(*args: Any, **kwargs: Any) -> Any:
        if any(one in args for one in bad):
            raise Poison
        return function(*args, **kwargs)

    return call


async def _together(client: Client, *requests: Any) -> list[Any]:
    async with asyncio.timeout(30):
        return await asyncio.gather(*client.post(*requests))


def test_a_request_that_fails_unforeseen_is_answered_internal_and_its_neighbours_as_ever() -> None:
    async def story() -> None:
        async with ChatRing(3) as ring:
            alice, _ = await ring.user(N[0], "alice"), await ring.user(N[1], "bob")
            with capture_logs() as logs:
                names = ring.chats[N[0]].gateway.names
                names.get = _poisoned(names.get, "mallory")  # type: ignore[method-assign]
                replies = await _together(
                    alice, Send("bob", mid(1), b"a"), Send("mallory", mid(2), b"b"), Send("bob", mid(3), b"c")
                )
            assert [type(reply) for reply in replies] == [Stored, Error, Stored]
            assert replies[1].code == ErrorCode.INTERNAL
            assert any("request failed" in entry["event"] for entry in logs)
            assert isinstance((await _together(alice, Send("bob", mid(4), b"d")))[0], Stored)

    simulated(story)


def test_a_post_that_fails_unforeseen_at_the_owner_is_refused_alone() -> None:
    async def story() -> None:
        async with ChatRing(3) as ring:
            for number, name in enumerate(("alice", "bob", "carol")):
                await ring.user(N[number], name)
            owner = ring.owner("bob")
            answers: list[Forwarded] = []
            asking = next(uid for uid in N[:3] if uid != owner)
            process, mailbox = ring.world.processes[asking], ring.chats[owner]._forwarder._mailbox
            process.dispatcher.on_event(Forwarded, lambda _, answer: answers.append(answer))
            boxes = mailbox._boxes  # type: ignore[attr-defined]
            boxes.get = _poisoned(boxes.get, "mallory")
            slot = slot_of_name("bob", ring.world.slots)
            posts = [
                Post(slot, to, "alice", mid(number), b"hello", b"", 1)
                for number, to in enumerate(("bob", "mallory", "bob"), 1)
            ]
            posts.insert(2, msgspec.structs.replace(posts[0], id=mid(9), epoch=1 << 62))
            with capture_logs() as logs:
                process.context.copy().run(process.peers.send, owner, Forward(7, posts))
                await until(lambda: sum(len(one.stored) + len(one.refused) for one in answers) == len(posts), 20)
            assert sorted(place for one in answers for place, _, _ in one.stored) == [0, 3]
            refused = {place: code for one in answers for place, code, _, _ in one.refused}
            assert refused == {1: ErrorCode.INTERNAL, 2: ErrorCode.BAD_REQUEST}
            assert {entry.get("to") for entry in logs} >= {"mallory"}

    simulated(story)


def test_a_result_that_cannot_be_told_keeps_no_other_back() -> None:
    async def story() -> None:
        async with ChatRing(3) as ring:
            alice, _ = await ring.user(N[0], "alice"), await ring.user(N[1], "bob")
            told: list[int] = []

            def result(number: int, reply: Any) -> None:
                if number == 2:
                    raise Poison
                told.append(number)

            forwarder = ring.chats[N[0]]._forwarder
            slot = slot_of_name("bob", ring.world.slots)
            context = alice.process.context
            with capture_logs() as logs:
                for number in (1, 2, 3):
                    post = Post(slot, "bob", "alice", mid(number), b"x", b"", 1)
                    context.copy().run(forwarder.post, post, number, result)
                async with asyncio.timeout(20):
                    await forwarder.idle()
            assert sorted(told) == [1, 3]
            assert any(entry.get("id") == mid(2).hex() for entry in logs)

    simulated(story)


def test_a_result_for_a_place_before_the_first_is_nobodys() -> None:
    async def story() -> None:
        async with ChatRing(3) as ring:
            alice, _ = await ring.user(N[0], "alice"), await ring.user(N[1], "bob")
            forwarder = ring.chats[N[0]]._forwarder
            told: list[Any] = []
            post = Post(slot_of_name("bob", ring.world.slots), "bob", "alice", mid(1), b"x", b"", 1)
            alice.process.context.copy().run(forwarder.post, post, 1, lambda *one: told.append(one))
            forwarder._flush()
            (number,) = forwarder._batches
            forwarder._answered(number, [(-1, 5, 1)], [(-1, 1, "", 0)], [])
            assert not told
            async with asyncio.timeout(20):
                await forwarder.idle()
            assert [type(reply) for _, reply in told] == [Stored]

    simulated(story)


def test_one_damaged_account_hides_no_other_user_s_session_presence_or_mailbox() -> None:
    """An owner reads the accounts of many users at once from its disk: one of them fails its checksum."""

    async def story() -> None:
        async with ChatRing(3) as ring:
            # Names of one slot, so that one owner handles them together.
            slots: dict[int, list[str]] = {}
            for number in range(200):
                slots.setdefault(slot_of_name(f"u{number}", ring.world.slots), []).append(f"u{number}")
            names = next(some for some in slots.values() if len(some) >= 3)[:3]
            users = {name: await ring.user(N[0], name) for name in names}
            owner = ring.owner(names[0])
            disk = ring.world.disks[owner]
            disk.damage_account(slot_of_name(names[1], ring.world.slots), names[1])
            chat = ring.chats[owner]
            chat._presence._current._known.clear()  # As after a start: nothing is known but what is on disk.
            chat._presence._current._known.pop(names[1], None)
            process = ring.world.processes[next(uid for uid in N[:3] if uid != owner)]
            items = [AttachItem(name, 1, 0, 0) for name in names]
            answer = await process.context.copy().run(
                asyncio.ensure_future, process.peers.request(owner, Attach(items), 5.0)
            )
            assert isinstance(answer, Attached)
            assert not answer.elsewhere
            assert {name for name in names if process.peers.me in chat._presence.gateways(name)} == set(names)
            writer = await ring.user(N[1], "writer")
            replies = await _together(writer, *(Send(name, mid(number), b"x") for number, name in enumerate(names, 1)))
            assert [type(reply) for reply in replies] == [Stored] * 3
            reply = await users[names[0]].ask(PresenceQuery(names), PresenceReply)
            assert {item.name for item in reply.items} == set(names)

    simulated(story)


def test_keys_that_cannot_be_looked_up_fail_only_the_request_that_names_them() -> None:
    async def story() -> None:
        async with ChatRing(3) as ring:
            alice, _ = await ring.user(N[0], "alice"), await ring.user(N[1], "bob")
            await alice.send("bob", 1)
            archive = ring.chats[ring.owner("bob")]._archive
            slot = slot_of_name("bob", ring.world.slots)
            good, bad = RecordKey(slot, "bob", "alice", mid(1), 0), RecordKey(slot, "bob", "\ud800", mid(1), 0)
            process = ring.world.processes[ring.owner("bob")]

            def ask(key: RecordKey) -> asyncio.Future[Any]:
                return process.context.copy().run(asyncio.ensure_future, archive._held([key]))

            # The store in memory looks up whatever it is asked; the real one hashes names.
            read = archive._store.read
            archive._store.read = lambda function: read(lambda tx: function(_Picky(tx)))  # type: ignore[method-assign]
            asked: Any = await asyncio.gather(ask(good), ask(bad), ask(good), return_exceptions=True)
            one, two, three = asked
            assert one[0] is not None
            assert one == three
            assert isinstance(two, UnicodeEncodeError)
            reply = await alice.ask(States("bob", [mid(1)]), StatesReply)
            assert reply.items[0][1] == 0

    simulated(story)


class _Picky:
    def __init__(self, tx: Any) -> None:
        self._tx = tx

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tx, name)

    def records(self, keys: Sequence[RecordKey]) -> Any:
        for key in keys:
            key.sender.encode()
        return self._tx.records(keys)


def test_mail_for_one_client_that_fails_reaches_the_others_of_its_event() -> None:
    async def story() -> None:
        async with ChatRing(3) as ring:
            clients = {name: await ring.user(N[0], name) for name in ("ann", "ben", "cid")}
            for client in clients.values():
                await client.subscribe()
            process, sessions = ring.world.processes[N[0]], ring.chats[N[0]]._sessions

            def fail(_: Any) -> bool:
                raise Poison

            clients["ben"].push_mail = clients["ben"].push = fail  # type: ignore[method-assign, assignment]
            pushes = [
                Push(name, sessions._sessions[name].subscription, [MailItem("x", mid(1), 0, 0, b"m", b"", 1, 5)], False)
                for name in clients
            ]
            with capture_logs() as logs:
                process.context.copy().run(process.dispatcher.event, Uid("n1"), Deliver(pushes))
                receipts = [(name, "x", mid(2), 2, 5) for name in clients]
                process.context.copy().run(sessions.receipts, receipts)
            for name in ("ann", "cid"):
                assert [item.id for item in clients[name].mail] == [mid(1)]
                assert any(isinstance(event, Receipt) for event in clients[name].events)
            assert any(entry.get("name") == "ben" for entry in logs)

    simulated(story)


def test_receipts_of_which_one_has_an_odd_name_reach_the_others() -> None:
    async def story() -> None:
        async with ChatRing(3) as ring:
            clients = {name: await ring.user(N[0], name) for name in ("ann", "ben")}
            for client in clients.values():
                await client.subscribe()
            for name in clients:
                process = ring.world.processes[ring.owner(name)]
                items = [("ann", "x", mid(1), 2, 5), ("\u202e" * 64, "x", mid(2), 2, 5), ("ben", "x", mid(3), 2, 5)]
                process.context.copy().run(process.dispatcher.event, N[1], RouteReceipts(items))
            for client in clients.values():
                await until(partial(bool, client.receipts))

    simulated(story)
