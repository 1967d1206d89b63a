"""A full archive takes no more copies, and blocks no mail."""

from __future__ import annotations

from tests.unit.chat.ring import ChatRing, Client, N, mid, refusal, simulated

from coterie_node.chat.settings import ChatSettings
from coterie_protocol.client_api import Archive, Discard, Done, Page, PageReply, Receipt, States, StatesReply
from coterie_protocol.errors import ErrorCode
from coterie_protocol.records import State

SMALL = ChatSettings(archive_records=2)


async def archive(client: Client, number: int) -> None:
    await client.ask(Archive([("alice", mid(number), 0, b"copy")]), Done)


async def two_of_two(ring: ChatRing) -> tuple[Client, Client]:
    """Have bob archive as many messages as he may."""
    alice, bob = await ring.user(N[0], "alice"), await ring.user(N[1], "bob")
    for number in (1, 2):
        await alice.send("bob", number)
        await archive(bob, number)
    return alice, bob


def test_what_is_beyond_the_quota_is_refused_and_stays_pending() -> None:
    async def story() -> None:
        async with ChatRing(settings=SMALL) as ring:
            alice, bob = await two_of_two(ring)
            await alice.send("bob", 3)
            assert await refusal(archive(bob, 3)) is ErrorCode.ARCHIVE_FULL
            await archive(bob, 2)  # It is there already: harmless to repeat.
            reply = await alice.ask(States("bob", [mid(2), mid(3)]), StatesReply)
            assert [state for _, state, _ in reply.items] == [State.ARCHIVED, State.PENDING]

    simulated(story)


def test_who_discards_has_it_no_more_and_its_sender_sees_it_delivered() -> None:
    async def story() -> None:
        async with ChatRing(settings=SMALL) as ring:
            alice, bob = await two_of_two(ring)
            await alice.send("bob", 3)
            alice.events.clear()
            await bob.ask(Discard([("alice", mid(3), 0)]), Done)
            await alice.until(lambda: any(isinstance(event, Receipt) for event in alice.events))
            reply = await alice.ask(States("bob", [mid(3)]), StatesReply)
            assert [state for _, state, _ in reply.items] == [State.DELETED]
            await bob.subscribe()
            await bob.until_drained()
            assert bob.got() == set()
            page = await bob.ask(Page(b"", 10), PageReply)
            assert {item.id for item in page.items} == {mid(1), mid(2)}

    simulated(story)


def test_a_copy_that_is_given_up_makes_room() -> None:
    async def story() -> None:
        async with ChatRing(settings=SMALL) as ring:
            alice, bob = await two_of_two(ring)
            await alice.send("bob", 3)
            await bob.ask(Discard([("alice", mid(1), 0)]), Done)
            await archive(bob, 3)
            page = await bob.ask(Page(b"", 10), PageReply)
            assert {item.id for item in page.items} == {mid(2), mid(3)}

    simulated(story)


def test_a_full_archive_leaves_the_mailbox_its_room() -> None:
    async def story() -> None:
        async with ChatRing(settings=ChatSettings(archive_bytes=1)) as ring:
            alice, bob = await ring.user(N[0], "alice"), await ring.user(N[1], "bob")
            await alice.send("bob", 1)
            await archive(bob, 1)
            for number in range(2, 20):
                await alice.send("bob", number)
            assert await refusal(archive(bob, 2)) is ErrorCode.ARCHIVE_FULL

    simulated(story)
