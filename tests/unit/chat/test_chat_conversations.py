"""Two people on a whole ring: registering, sending, receiving, acknowledging, taking over."""

from __future__ import annotations

import asyncio

import pytest
from tests.unit.chat.ring import OUTGOING, ChatRing, N, mid, refusal, simulated

from coterie_node.chat.accounts import existing, take_session
from coterie_node.chat.settings import ChatSettings
from coterie_protocol.chat import TakeSession
from coterie_protocol.client_api import (
    Archive,
    Done,
    Drained,
    Error,
    Hello,
    Keep,
    Logout,
    Lookup,
    LookupReply,
    MailItem,
    Page,
    PageReply,
    PresenceQuery,
    PresenceReply,
    Send,
    States,
    StatesReply,
    Stored,
    Superseded,
    Unsubscribed,
)
from coterie_protocol.errors import ErrorCode
from coterie_protocol.records import State


def test_a_message_to_somebody_away_arrives_once_and_its_sender_hears_of_it() -> None:
    async def story() -> None:
        async with ChatRing() as ring:
            alice = await ring.user(N[0], "alice")
            bob = await ring.user(N[1], "bob")
            bob.leave()
            stored = [await alice.send("bob", number) for number in range(5)]
            assert all(one.copies >= 2 for one in stored)
            assert [one.stored_at for one in stored] == sorted({one.stored_at for one in stored})

            again = await ring.connect(N[2])
            assert (await again.resume("bob", bob.token)).epoch == 1
            await again.subscribe()
            await again.until_drained()
            assert [item.id for item in again.mail] == [mid(number) for number in range(5)]
            assert [item.stored_at for item in again.mail] == [one.stored_at for one in stored]
            assert {item.sender for item in again.mail} == {"alice"}

            await again.archive(*again.mail)
            await alice.until(lambda: len(alice.receipts) == 5)
            assert {(to, state) for to, _, state, _ in alice.receipts} == {("bob", State.ARCHIVED)}
            states = await alice.ask(States("bob", [mid(0), mid(99)]), StatesReply)
            assert [(one, state) for one, state, _ in states.items] == [(mid(0), State.ARCHIVED), (mid(99), -1)]

            page = await again.ask(Page(b"", 3), PageReply)
            rest = await again.ask(Page(page.next, 3), PageReply)
            items = page.items + rest.items
            assert [item.id for item in items] == [mid(number) for number in reversed(range(5))]
            assert [item.stored_at for item in reversed(items)] == [one.stored_at for one in stored]
            assert not rest.next

            third = await ring.connect(N[3])
            await third.resume("bob", bob.token)
            await third.subscribe()
            await third.until_drained()
            assert not third.mail

    simulated(story)


def test_what_comes_while_one_is_there_is_pushed() -> None:
    async def story() -> None:
        async with ChatRing() as ring:
            alice = await ring.user(N[0], "alice")
            bob = await ring.user(N[1], "bob")
            await bob.subscribe()
            await bob.until_drained()
            for number in range(3):
                await alice.send("bob", number)
            await bob.until(lambda: len(bob.mail) == 3)
            assert [item.id for item in bob.mail] == [mid(number) for number in range(3)]

    simulated(story)


def test_a_login_takes_the_session_over_wherever_it_is() -> None:
    async def story() -> None:
        async with ChatRing() as ring:
            first = await ring.user(N[0], "alice")
            beside = await ring.connect(N[1])
            await beside.resume("alice", first.token)
            await asyncio.sleep(0.5)
            second = await ring.connect(N[2])
            assert (await second.login("alice")).epoch == 2
            for old in (first, beside):
                await old.until(lambda old=old: old.ended, timeout=1.0)  # type: ignore[misc]
                (event,) = old.events
                assert isinstance(event, Superseded)
                assert event.at > 0
            late = await ring.connect(N[3])
            assert await refusal(late.resume("alice", first.token)) is ErrorCode.SUPERSEDED
            assert await refusal(first.send("alice", 1)) is ErrorCode.SUPERSEDED
            assert (await second.send("alice", 1)).copies >= 2

    simulated(story)


def test_a_missed_notice_of_a_takeover_ends_at_the_next_renewal() -> None:
    async def story() -> None:
        async with ChatRing() as ring:
            owner = ring.owner("alice")
            gateway, other = [uid for uid in N if uid != owner][:2]
            first = await ring.user(gateway, "alice")
            await asyncio.sleep(0.5)
            lost = ring.world.network.drop(
                lambda envelope: type(envelope.body).__name__ == "SessionsOver" and envelope.to == gateway
            )
            second = await ring.connect(other)
            await second.login("alice")
            await asyncio.sleep(1.0)
            assert lost.taken
            assert not first.ended
            await first.until(lambda: first.ended, timeout=12.0)
            assert isinstance(first.events[-1], Superseded)

    simulated(story)


def test_a_takeover_through_another_member_ends_the_session_at_the_next_renewal() -> None:
    """Whoever took it thought the owner dead; the owner lives, and heard of it as an acceptor only."""

    async def story() -> None:
        async with ChatRing() as ring:
            owner, other = ring.world.members_of("alice")[:2]
            first = await ring.user(ring.elsewhere("alice"), "alice")
            await asyncio.sleep(0.5)
            process = ring.world.processes[other]

            def take(value: bytes | None) -> bytes:
                account = existing(value, "alice")
                return take_session(value, TakeSession("alice", account.auth_hash, b"2" * 16, b"2" * 32), 77)

            await process.call(lambda: process.accounts.change("alice", take))
            await first.until(lambda: first.ended, timeout=12.0)
            (event,) = first.events
            assert event == Superseded(77), owner

    simulated(story)


def test_repeating_a_login_gives_the_same_session() -> None:
    async def story() -> None:
        async with ChatRing() as ring:
            one = await ring.user(N[0], "alice")
            two = await ring.connect(N[1])
            again = await two.register("alice")
            assert (again.epoch, again.token) == (1, one.token)
            three = await ring.connect(N[2])
            login = await three.login("alice", op=7)
            four = await ring.connect(N[3])
            repeated = await four.login("alice", op=7)
            assert (repeated.epoch, repeated.token) == (2, login.token)
            assert await refusal(four.login("alice", op=1)) is ErrorCode.SUPERSEDED

    simulated(story)


def test_refusals_have_their_own_codes() -> None:
    async def story() -> None:
        async with ChatRing() as ring:
            alice = await ring.user(N[0], "alice")
            other = await ring.connect(N[1])
            assert await refusal(other.send("alice", 1)) is ErrorCode.NOT_LOGGED_IN
            assert await refusal(other.register("Alice", op=9)) is ErrorCode.NAME_TAKEN
            assert await refusal(other.register("al ice", op=9)) is ErrorCode.BAD_NAME
            assert await refusal(other.login("nobody")) is ErrorCode.NO_SUCH_USER
            assert await refusal(other.login("alice", "wrong")) is ErrorCode.REFUSED
            assert await refusal(other.resume("alice", b"x" * 32)) is ErrorCode.REFUSED
            assert await refusal(alice.send("nobody", 1)) is ErrorCode.NO_SUCH_USER
            assert await refusal(alice.send("", 1)) is ErrorCode.BAD_NAME
            assert await refusal(alice.send("x" * 900_000, 1)) is ErrorCode.BAD_NAME
            assert await refusal(alice.send("alice", 1, b"x" * (72 * 1024 + 1))) is ErrorCode.TOO_LARGE
            assert await refusal(alice.ask(Send("alice", b"short", b"x"), Stored)) is ErrorCode.BAD_REQUEST
            assert await refusal(alice.ask(Page(b"odd", 1), PageReply)) is ErrorCode.BAD_REQUEST
            await alice.send("alice", 1, b"one")
            assert (await alice.send("alice", 1, b"one")).copies >= 2
            assert await refusal(alice.send("alice", 1, b"two")) is ErrorCode.DUPLICATE_ID
            assert await refusal(alice.ask(Hello(2, 3, "future"), Done)) is ErrorCode.UNSUPPORTED_VERSION

    simulated(story)


def test_a_forming_ring_takes_no_accounts_and_no_messages() -> None:
    async def story() -> None:
        async with ChatRing(nodes=1) as ring:
            client = await ring.connect(N[0])
            assert await refusal(client.register("alice")) is ErrorCode.FORMING

    simulated(story)


def test_a_full_mailbox_says_so_and_takes_more_once_it_was_emptied() -> None:
    async def story() -> None:
        async with ChatRing(settings=ChatSettings(pending_records=3)) as ring:
            alice = await ring.user(N[0], "alice")
            bob = await ring.user(N[1], "bob")
            for number in range(3):
                await alice.send("bob", number)
            assert await refusal(alice.send("bob", 3)) is ErrorCode.MAILBOX_FULL
            await bob.subscribe()
            await bob.until(lambda: len(bob.mail) == 3)
            await bob.archive(*bob.mail)
            await asyncio.sleep(1.5)
            await alice.send("bob", 3)

    simulated(story)


def test_too_many_messages_a_second_are_told_how_long_to_wait() -> None:
    async def story() -> None:
        async with ChatRing(settings=ChatSettings(sends_per_second=10)) as ring:
            alice = await ring.user(N[0], "alice")
            futures = alice.post(*(Send("alice", mid(number), b"x") for number in range(21)))
            replies = await asyncio.gather(*futures)
            assert all(isinstance(reply, Stored) for reply in replies[:20])
            last = replies[20]
            assert isinstance(last, Error)
            assert last.code == ErrorCode.RATE_LIMITED
            await asyncio.sleep(last.value / 1000)
            await alice.send("alice", 20)

    simulated(story)


def test_failed_logins_are_limited_and_good_ones_are_not() -> None:
    async def story() -> None:
        async with ChatRing(settings=ChatSettings(logins_per_account=2)) as ring:
            client = await ring.user(N[0], "alice")
            for op in range(10, 15):
                await client.login("alice", op=op)
            for op in range(20, 22):
                assert await refusal(client.login("alice", "wrong", op=op)) is ErrorCode.REFUSED
            assert await refusal(client.login("alice", op=30)) is ErrorCode.RATE_LIMITED
            await asyncio.sleep(6.1)
            await client.login("alice", op=31)

    simulated(story)


def test_only_the_newest_subscription_gets_mail() -> None:
    async def story() -> None:
        async with ChatRing() as ring:
            alice = await ring.user(N[0], "alice")
            bob = await ring.user(N[1], "bob")
            await bob.subscribe()
            newer = await ring.connect(N[2])
            await newer.resume("bob", bob.token)
            await newer.subscribe()
            await bob.until(lambda: any(isinstance(event, Unsubscribed) for event in bob.events))
            await alice.send("bob", 1)
            await newer.until(lambda: len(newer.mail) == 1)
            assert not bob.mail
            assert not bob.ended

    simulated(story)


def test_own_copies_wait_for_the_next_device() -> None:
    async def story() -> None:
        async with ChatRing() as ring:
            alice = await ring.user(N[0], "alice")
            await alice.subscribe()
            await alice.until_drained()
            await alice.ask(Keep(mid(1), b"draft"), Stored)
            await alice.ask(Keep(mid(2), b"sent"), Stored)
            await alice.archive(MailItem(OUTGOING, mid(2), 0, 0, b"sent", b"", 1, 0))
            assert not alice.mail
            device = await ring.connect(N[1])
            await device.login("alice")
            await device.subscribe()
            await device.until_drained()
            assert [(item.sender, item.id, item.body) for item in device.mail] == [(OUTGOING, mid(1), b"draft")]

    simulated(story)


def test_the_previous_session_may_flush_for_a_while() -> None:
    async def story() -> None:
        async with ChatRing() as ring:
            alice = await ring.user(N[0], "alice")
            other = await ring.connect(N[1])
            session = alice.conversation.session
            assert session is not None
            await other.login("alice")
            questions = ring.chats[N[2]].gateway.questions
            process = ring.world.processes[N[2]]
            write = Archive([(OUTGOING, mid(1), 0, b"copy")])
            await process.call(lambda: questions.reply(session, write))
            await asyncio.sleep(11)
            assert await refusal(process.call(lambda: questions.reply(session, write))) is ErrorCode.SUPERSEDED

    simulated(story)


def test_a_clock_that_was_ahead_at_a_takeover_gives_the_previous_session_no_years() -> None:
    """The owner's clock is set right after the takeover: until then it would have counted as just happened."""

    async def story() -> None:
        async with ChatRing() as ring:
            clock = ring.world.processes[ring.owner("alice")].clock
            clock.skew_ms = 3 * 365 * 86_400_000
            alice = await ring.user(N[0], "alice")
            other = await ring.connect(N[1])
            session = alice.conversation.session
            assert session is not None
            await other.login("alice")
            clock.skew_ms = 0
            questions = ring.chats[N[2]].gateway.questions
            process = ring.world.processes[N[2]]
            await asyncio.sleep(11)
            write = Archive([(OUTGOING, mid(1), 0, b"copy")])
            assert await refusal(process.call(lambda: questions.reply(session, write))) is ErrorCode.SUPERSEDED

    simulated(story)


def test_presence_follows_connections() -> None:
    async def story() -> None:
        async with ChatRing() as ring:
            alice = await ring.user(N[0], "alice")
            bob = await ring.user(N[1], "bob")
            query = PresenceQuery(["alice", "bob", "nobody"])
            await asyncio.sleep(0.5)
            reply = await alice.ask(query, PresenceReply)
            assert [(item.name, item.online) for item in reply.items] == [("alice", True), ("bob", True)]
            bob.leave()
            await asyncio.sleep(0.5)
            reply = await alice.ask(query, PresenceReply)
            assert [(item.name, item.online) for item in reply.items] == [("alice", True), ("bob", False)]
            assert reply.items[1].last_seen > 0
            await asyncio.sleep(45)  # Renewals keep who is there.
            reply = await alice.ask(query, PresenceReply)
            assert [item.online for item in reply.items] == [True, False]
            await ring.crash(alice_gateway := N[0])
            watcher = await ring.user(N[2], "carol")
            await asyncio.sleep(40)
            reply = await watcher.ask(query, PresenceReply)
            assert [item.online for item in reply.items] == [False, False], alice_gateway

    simulated(story)


def test_logging_out_ends_the_session_everywhere() -> None:
    async def story() -> None:
        async with ChatRing() as ring:
            alice = await ring.user(N[0], "alice")
            beside = await ring.connect(N[1])
            await beside.resume("alice", alice.token)
            await asyncio.sleep(0.2)
            await alice.ask(Logout(), Done)
            assert not alice.ended
            assert await refusal(alice.send("alice", 1)) is ErrorCode.NOT_LOGGED_IN
            await beside.until(lambda: beside.ended, timeout=1.0)
            assert not any(isinstance(event, Superseded) for event in beside.events)
            later = await ring.connect(N[2])
            assert await refusal(later.resume("alice", alice.token)) is ErrorCode.REFUSED
            assert (await later.login("alice")).epoch == 2

    simulated(story)


def test_a_lookup_shows_the_public_account() -> None:
    async def story() -> None:
        async with ChatRing() as ring:
            await ring.user(N[0], "alice")
            other = await ring.connect(N[1])
            reply = await other.ask(Lookup("ALICE"), LookupReply)
            assert (reply.name, reply.keys) == ("alice", b"keys")

    simulated(story)


@pytest.mark.parametrize("seed", range(3))
def test_a_large_mailbox_is_drained_window_by_window(seed: int) -> None:
    async def story() -> None:
        settings = ChatSettings(window_records=50, page_records=16, sends_per_second=100_000)
        async with ChatRing(settings=settings) as ring:
            alice = await ring.user(N[0], "alice")
            bob = await ring.user(ring.elsewhere("bob"), "bob")
            await asyncio.gather(*alice.post(*(Send("bob", mid(number), b"x" * 100) for number in range(300))))
            await bob.subscribe()
            await asyncio.sleep(1.0)
            assert len(bob.mail) <= 50 + 16
            archived = 0
            more = 300
            while not any(isinstance(event, Drained) for event in bob.events) or archived < len(bob.mail):
                await bob.until(lambda at=archived: len(bob.mail) > at or bool(bob.events))  # type: ignore[misc]
                batch = bob.mail[archived : archived + 20]
                archived += len(batch)
                await bob.archive(*batch)
                if more < 350:  # What comes during the drain is not lost either.
                    await alice.send("bob", more)
                    more += 1
            await bob.until(lambda: len(bob.got()) == more)

    simulated(story, seed)
