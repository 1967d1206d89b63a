"""What clients and other gateways may make a node keep in memory is bounded."""

from __future__ import annotations

import asyncio

from tests.unit.chat.ring import ChatRing, N, mid, simulated

from coterie_node.chat.gateway.queries import ARCHIVE_LIMIT
from coterie_node.chat.settings import ChatSettings
from coterie_protocol.client_api import Archive, Error, Keep, Lookup, Send, Stored
from coterie_protocol.errors import ErrorCode


def test_sessions_of_a_ring_that_is_away_do_not_multiply_their_attempts() -> None:
    """Each renewal used to begin another chain of attempts beside those that had not come to an end."""

    async def story() -> None:
        async with ChatRing() as ring:
            gateway = ring.elsewhere("alice")
            alice = await ring.user(gateway, "alice")
            await alice.subscribe()
            others = [uid for uid in ring.chats if uid != gateway]
            for uid in others:
                await ring.crash(uid)
            await asyncio.sleep(30.0)
            before = len(asyncio.all_tasks())
            await asyncio.sleep(200.0)
            assert len(asyncio.all_tasks()) <= before + 5
            for uid in others:
                await ring.start(uid)
            bob = await ring.connect(ring.elsewhere("alice"))
            await bob.register("bob")
            await bob.send("alice", 1)
            await alice.until(lambda: len(alice.got()) == 1, timeout=60.0)

    simulated(story)


def test_an_owner_that_answers_no_attach_is_asked_by_one_attempt_at_a_time() -> None:
    async def story() -> None:
        async with ChatRing() as ring:
            gateway = ring.elsewhere("alice")
            alice = await ring.user(gateway, "alice")
            ring.world.network.drop(lambda one: type(one.body).__name__ == "Attach")
            await asyncio.sleep(30.0)
            before = ring.world.network.counts["Attach"]
            await asyncio.sleep(60.0)
            first = ring.world.network.counts["Attach"] - before
            await asyncio.sleep(200.0)
            before = ring.world.network.counts["Attach"]
            await asyncio.sleep(60.0)
            assert ring.world.network.counts["Attach"] - before <= 2 * first
            assert alice.conversation.session is not None

    simulated(story)


def test_messages_whose_recipient_is_looked_for_are_bounded() -> None:
    async def story() -> None:
        settings = ChatSettings(opening_at_once=10, send_timeout=0.001)  # Nothing is forwarded again.
        async with ChatRing(settings=settings) as ring:
            alice = await ring.user(ring.owner("nobody"), "alice")
            replies = await asyncio.gather(*alice.post(*(Send("nobody", mid(number), b"x") for number in range(50))))
            codes = [ErrorCode(reply.code) for reply in replies if isinstance(reply, Error)]
            assert codes.count(ErrorCode.NO_SUCH_USER) == 10
            assert codes.count(ErrorCode.BUSY) == 40

    simulated(story)


def test_own_copies_whose_session_is_checked_are_bounded() -> None:
    async def story() -> None:
        settings = ChatSettings(vouching_at_once=10, send_timeout=0.001)
        async with ChatRing(settings=settings) as ring:
            alice = await ring.user(ring.owner("alice"), "alice")
            await alice.send("alice", 1)
            await asyncio.sleep(settings.current_age + 1.0)
            replies = await asyncio.gather(*alice.post(*(Keep(mid(number), b"x") for number in range(2, 52))))
            codes = [ErrorCode(reply.code) for reply in replies if isinstance(reply, Error)]
            assert codes == [ErrorCode.BUSY] * 40
            assert sum(isinstance(reply, Stored) for reply in replies) == 10

    simulated(story)


def test_requests_that_are_served_at_once_are_bounded_for_all_clients_together() -> None:
    async def story() -> None:
        async with ChatRing(settings=ChatSettings(questions_at_once=20)) as ring:
            alice, bob = await ring.user(N[0], "alice"), await ring.user(N[0], "bob")
            replies = await asyncio.gather(*alice.post(*[Lookup("bob")] * 15), *bob.post(*[Lookup("alice")] * 15))
            busy = [reply for reply in replies if isinstance(reply, Error)]
            assert [error.code for error in busy] == [int(ErrorCode.BUSY)] * 10
            assert all(error.value for error in busy)
            assert not isinstance(await alice.post(Lookup("bob"))[0], Error)

    simulated(story)


def test_an_archive_of_too_many_copies_is_refused() -> None:
    async def story() -> None:
        async with ChatRing() as ring:
            alice = await ring.user(N[0], "alice")
            many = Archive([("", mid(number), 0, b"") for number in range(ARCHIVE_LIMIT + 1)])
            reply = await alice.post(many)[0]
            assert isinstance(reply, Error)
            assert (reply.code, reply.value) == (int(ErrorCode.TOO_LARGE), ARCHIVE_LIMIT)

    simulated(story)


def test_windows_are_bounded_together_and_everybody_still_gets_everything() -> None:
    async def story() -> None:
        settings = ChatSettings(windows_records=100, window_least=4, page_records=50)
        async with ChatRing(settings=settings) as ring:
            alice = await ring.user(N[0], "alice")
            names = [f"user{number}" for number in range(10)]
            for name in names:
                user = await ring.user(N[1], name)
                user.leave()
            count = 60
            for name in names:
                numbers = range(count)
                replies = await asyncio.gather(*alice.post(*(Send(name, mid(number), b"x") for number in numbers)))
                assert all(isinstance(reply, Stored) for reply in replies)
            users = []
            for number, name in enumerate(names):
                user = await ring.connect(N[2 + number % 3])
                await user.login(name)
                await user.subscribe()
                users.append(user)
            await asyncio.sleep(5.0)
            # The names are on five nodes: each fills windows up to the bound, and gives every further one the least.
            assert sum(len(user.mail) for user in users) < 10 * count
            assert all(user.mail for user in users)
            for user in users:
                while len(user.got()) < count:
                    taken = len(user.mail)
                    await user.archive(*user.mail)
                    await user.until(lambda user=user, taken=taken: len(user.mail) > taken)  # type: ignore[misc]

    simulated(story)
