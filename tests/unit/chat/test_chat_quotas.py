"""What one account can make grow on others' disks has a quota, and what it asks has a rate."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from tests.unit.chat.ring import ChatRing, Client, N, auth_of, mid, op_of, refusal, simulated

from coterie_node.chat.settings import ChatSettings
from coterie_protocol.client_api import (
    Archive,
    Discard,
    Done,
    Error,
    Hello,
    Kdf,
    Keep,
    Login,
    LoginParams,
    Lookup,
    LookupReply,
    Page,
    PresenceQuery,
    Receipt,
    Register,
    Request,
    Resume,
    Send,
    SessionGranted,
    States,
    StatesReply,
    Stored,
    Subscribe,
)
from coterie_protocol.errors import CoterieError, ErrorCode
from coterie_protocol.identifiers import slot_of_name
from coterie_protocol.records import OUTGOING, State


async def count(ring: ChatRing, name: str) -> int:
    slot = slot_of_name(name, ring.world.slots)
    return max(
        [
            await ring.world.processes[uid].store.read(lambda tx: tx.record_count(slot))
            for uid in ring.world.members_of(name)
        ]
    )


def test_discarding_ids_that_never_were_leaves_nothing_on_a_disk() -> None:
    async def story() -> None:
        async with ChatRing(settings=ChatSettings(unasked_at_once=10_000, acknowledged_per_second=10_000)) as ring:
            mallory = await ring.user(N[0], "mallory")
            await ring.user(N[1], "bob")
            before = await count(ring, "mallory")
            for start in range(0, 3000, 1000):
                items = [("bob", mid(number), 0) for number in range(start, start + 1000)]
                await mallory.ask(Discard(items), Done)
            assert await count(ring, "mallory") == before

    simulated(story)


def test_discarding_own_copies_that_never_were_has_a_quota() -> None:
    async def story() -> None:
        async with ChatRing(settings=ChatSettings(unheld_discards=10)) as ring:
            mallory = await ring.user(N[0], "mallory")
            before = await count(ring, "mallory")
            await mallory.ask(Discard([(OUTGOING, mid(number), 0) for number in range(1000)]), Done)
            assert await count(ring, "mallory") == before + 10

    simulated(story)


def test_an_own_copy_that_comes_after_it_was_discarded_stays_away() -> None:
    async def story() -> None:
        async with ChatRing() as ring:
            alice = await ring.user(N[0], "alice")
            await alice.ask(Discard([(OUTGOING, mid(1), 0)]), Done)
            await alice.ask(Keep(mid(1), b"late"), Stored)
            again = await ring.connect(N[1])
            await again.login("alice")
            await again.subscribe()
            await again.until_drained()
            assert again.got() == set()

    simulated(story)


def test_what_is_discarded_before_its_owner_has_it_is_delivered_once_more_and_goes_then() -> None:
    async def story() -> None:
        async with ChatRing() as ring:
            alice, bob = await ring.user(N[0], "alice"), await ring.user(N[1], "bob")
            await bob.ask(Discard([("alice", mid(1), 0)]), Done)
            await alice.send("bob", 1)
            await bob.subscribe()
            await bob.until_drained()
            assert bob.got() == {("alice", mid(1))}
            await bob.ask(Discard([("alice", mid(1), 0)]), Done)
            reply = await alice.ask(States("bob", [mid(1)]), StatesReply)
            assert [state for _, state, _ in reply.items] == [State.DELETED]

    simulated(story)


def test_archiving_ids_that_never_were_is_slowed_and_counts_against_the_archives_quota() -> None:
    async def story() -> None:
        settings = ChatSettings(unasked_at_once=100, unasked_per_second=10, archive_records=250)
        async with ChatRing(settings=settings) as ring:
            mallory = await ring.user(N[0], "mallory")
            refusals: list[CoterieError] = []
            number = 0
            while number < 10 and not (refusals and refusals[-1].wire_code is ErrorCode.ARCHIVE_FULL):
                items = [(OUTGOING, mid(100 * number + one), 0, b"") for one in range(100)]
                try:
                    await mallory.ask(Archive(items), Done)
                    number += 1
                except CoterieError as error:
                    refusals.append(error)
                    await asyncio.sleep(error.value / 1000)
            assert [one.wire_code for one in refusals] == 3 * [ErrorCode.RATE_LIMITED] + [ErrorCode.ARCHIVE_FULL]
            assert all(0 < one.value <= 10_000 for one in refusals[:3])
            assert number == 3
            assert await count(ring, "mallory") <= 400

    simulated(story)


def test_deleted_messages_that_are_remembered_have_a_quota() -> None:
    async def story() -> None:
        async with ChatRing(settings=ChatSettings(deleted_records=3)) as ring:
            mallory = await ring.user(N[0], "mallory")
            for number in range(3):
                await mallory.send("mallory", number)
                await mallory.ask(Discard([("mallory", mid(number), 0)]), Done)
            await mallory.send("mallory", 4)
            assert await refusal(mallory.ask(Discard([("mallory", mid(4), 0)]), Done)) is ErrorCode.ARCHIVE_FULL

    simulated(story)


@pytest.mark.parametrize("kind", [Archive, Discard])
def test_no_receipt_is_sent_for_a_message_that_never_was(kind: type) -> None:
    async def story() -> None:
        async with ChatRing() as ring:
            # The same node acts for both: receipts are best effort where a node does not know who acts for the sender.
            name = next(one for number in range(100) if ring.owner(one := f"m{number}") == ring.owner("alice"))
            alice, mallory = await ring.user(N[0], "alice"), await ring.user(N[1], name)
            await alice.send(name, 1)
            forged = [("alice", mid(number), 0, b"")[: 4 if kind is Archive else 3] for number in range(100, 200)]
            await mallory.ask(kind(forged), Done)
            await mallory.ask(Archive([("alice", mid(1), 0, b"copy")]), Done)
            await alice.until(lambda: any(isinstance(event, Receipt) for event in alice.events))
            await asyncio.sleep(5.0)
            assert [one[1] for one in alice.receipts] == [mid(1)]

    simulated(story)


FLOODS: dict[str, Callable[[int], Request]] = {
    "Archive": lambda n: Archive([(OUTGOING, mid(n * 500 + one), 0, b"") for one in range(500)]),
    "Discard": lambda n: Discard([("bob", mid(n * 1000 + one), 0) for one in range(1000)]),
    "States": lambda n: States("bob", [mid(n * 1000 + one) for one in range(1000)]),
    "PresenceQuery": lambda n: PresenceQuery([f"nobody{n * 1000 + one}" for one in range(1000)]),
    "Lookup": lambda n: Lookup("bob"),
    "Page": lambda n: Page(b"", 500),
    "Subscribe": lambda n: Subscribe(),
    "Send": lambda n: Send("bob", mid(n), b"x"),
    "Send to nobody": lambda n: Send(f"nobody{n}", mid(n), b"x"),
    "Send of many bytes": lambda n: Send("bob", mid(n), bytes(70_000)),
    "Keep": lambda n: Keep(mid(n), b"x"),
    "LoginParams": lambda n: LoginParams("bob"),
    "Hello": lambda n: Hello(1, 1, "test"),
    "Resume": lambda n: Resume("bob", bytes(32)),
}


@pytest.mark.parametrize("flood", FLOODS)
def test_every_kind_of_request_has_a_rate_and_says_how_long_to_wait(flood: str) -> None:
    async def story() -> None:
        settings = ChatSettings(sends_per_second=100)
        async with ChatRing(settings=settings) as ring:
            mallory = await ring.user(ring.elsewhere("mallory"), "mallory")
            await ring.user(N[1], "bob")
            limited: Error | None = None
            for number in range(1500):
                (future,) = mallory.post(FLOODS[flood](number))
                async with asyncio.timeout(30):
                    reply = await future
                if isinstance(reply, Error) and reply.code == ErrorCode.RATE_LIMITED:
                    limited = reply
                    break
            assert limited is not None
            assert limited.value > 0
            assert mallory.conversation.pause > 0
            await asyncio.sleep(limited.value / 1000)
            (future,) = mallory.post(FLOODS[flood](2000))
            reply = await future
            assert not (isinstance(reply, Error) and reply.code == ErrorCode.RATE_LIMITED)

    simulated(story)


def test_who_connects_anew_does_not_begin_anew_with_what_it_may_ask() -> None:
    async def story() -> None:
        async with ChatRing(settings=ChatSettings(lookups_per_second=2)) as ring:
            mallory = await ring.user(N[0], "mallory")
            for _ in range(10):
                await mallory.ask(Lookup("mallory"), LookupReply)
            token = mallory.token
            mallory.leave()
            again = await ring.connect(N[0])
            await again.resume("mallory", token)
            assert await refusal(again.ask(Lookup("mallory"), LookupReply)) is ErrorCode.RATE_LIMITED

    simulated(story)


def test_sessions_one_after_the_other_have_a_rate_and_do_not_make_a_register_grow() -> None:
    async def story() -> None:
        async with ChatRing(settings=ChatSettings(sessions_per_account=40)) as ring:
            mallory = await ring.user(N[0], "mallory")
            sizes: list[int] = []
            for number in range(40):
                mallory = await ring.connect(N[0])
                await mallory.login("mallory", op=number + 10)
                (register,) = [
                    await ring.world.processes[uid].store.read(
                        lambda tx: tx.account(slot_of_name("mallory", ring.world.slots), "mallory")
                    )
                    for uid in ring.world.members_of("mallory")[:1]
                ]
                assert register is not None
                assert register.value is not None
                sizes.append(len(register.value))
            assert max(sizes[20:]) - min(sizes[20:]) <= 16
            last = await ring.connect(N[0])
            code = await refusal(last.ask(Login("mallory", auth_of("secret"), op_of(99)), SessionGranted))
            assert code is ErrorCode.RATE_LIMITED

    simulated(story)


def test_names_that_one_address_registers_have_a_rate_and_others_do_not_wait_for_it() -> None:
    async def story() -> None:
        async with ChatRing(settings=ChatSettings(registrations_per_address=3)) as ring:
            client = await ring.connect(N[0])
            for number in range(3):
                await client.register(f"name{number}", op=number)
            request = Register("name4", Kdf(8, 1, 1), auth_of("x"), b"", b"", op_of(4))
            assert await refusal(client.ask(request, SessionGranted)) is ErrorCode.RATE_LIMITED
            other = await ring.connect(N[0], "192.0.2.99")
            await other.register("name5")

    simulated(story)


async def heavy(client: Client, first: int, number: int) -> list[asyncio.Future[object]]:
    sends = [Send("mallory", mid(first + one), bytes(70_000)) for one in range(number)]
    return client.post(*sends)  # type: ignore[return-value]


def test_what_one_session_has_under_way_is_bounded_and_leaves_room_for_others() -> None:
    async def story() -> None:
        settings = ChatSettings(bytes_per_second=1e9)
        async with ChatRing(settings=settings) as ring:
            gateway = ring.elsewhere("bob", "alice", "mallory")
            mallory, alice = await ring.user(gateway, "mallory"), await ring.user(gateway, "alice")
            second = await ring.connect(gateway)
            await second.resume("mallory", mallory.token)
            bob = await ring.user(gateway, "bob")
            await bob.subscribe()
            futures = await heavy(mallory, 0, 300) + await heavy(second, 500, 300)
            assert mallory.conversation.crowded
            await alice.send("bob", 5000)
            await bob.until(lambda: ("alice", mid(5000)) in bob.got())
            replies = await asyncio.gather(*futures)
            codes = {reply.code for reply in replies if isinstance(reply, Error)}
            assert codes == {ErrorCode.BUSY}
            assert 20 < sum(isinstance(reply, Stored) for reply in replies) < 80
            assert mallory.conversation.session is not None
            assert mallory.conversation.session.allowance.share.bytes == 0

    simulated(story)
