"""A message is stored only where the one before it is held."""

from __future__ import annotations

from tests.unit.chat.ring import ChatRing, N, mid, refusal, simulated

from coterie_protocol.client_api import Send, Stored
from coterie_protocol.errors import ErrorCode


def test_a_message_whose_predecessor_is_nowhere_is_refused() -> None:
    async def story() -> None:
        async with ChatRing(3) as ring:
            alice, _ = await ring.user(N[0], "alice"), await ring.user(N[1], "bob")
            second = Send("bob", mid(2), b"two", after=mid(1))
            assert await refusal(alice.ask(second, Stored)) is ErrorCode.PREDECESSOR_MISSING
            await alice.send("bob", 1)
            await alice.ask(second, Stored)
            await alice.ask(second, Stored)  # sent again

    simulated(story)


def test_the_next_owner_looks_into_its_store() -> None:
    async def story() -> None:
        async with ChatRing(5) as ring:
            at = ring.elsewhere("alice", "bob")
            alice, _ = await ring.user(at, "alice"), await ring.user(at, "bob")
            await alice.send("bob", 1)
            await ring.crash(ring.owner("bob"))
            await alice.ask(Send("bob", mid(2), b"two", after=mid(1)), Stored)
            assert (
                await refusal(alice.ask(Send("bob", mid(4), b"four", after=mid(3)), Stored))
                is ErrorCode.PREDECESSOR_MISSING
            )

    simulated(story)
