"""A node of the ring that lies in one number: what the lie is about may suffer, everything beside it goes on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.unit.chat.ring import ChatRing, N, simulated
from tests.unit.replication.nodes import until

from coterie_node.chat.owner import attachments
from coterie_protocol.bounds import MAX_COUNT
from coterie_protocol.chat import Attach, AttachItem
from coterie_protocol.client_api import Lookup, LookupReply
from coterie_protocol.errors import CoterieError
from coterie_protocol.identifiers import Uid, slot_of_name
from coterie_protocol.registers import (
    AccountBallot,
    AccountPrepare,
)

MOST = MAX_COUNT - 1


async def tell(ring: ChatRing, liar: Uid, to: Uid, message: Any) -> Any:
    process = ring.world.processes[liar]
    return await process.context.copy().run(asyncio.ensure_future, process.peers.request(to, message, 5.0))


def of_one_slot(ring: ChatRing, count: int) -> list[str]:
    slots: dict[int, list[str]] = {}
    for number in range(4000):
        slots.setdefault(slot_of_name(f"u{number}", ring.world.slots), []).append(f"u{number}")
    return next(some for some in slots.values() if len(some) >= count)[:count]


def test_an_order_at_its_bound_keeps_no_other_session_from_its_mail() -> None:
    """The next order would be beyond what a gateway reads, and took the answer for all others with it."""

    async def story() -> None:
        async with ChatRing(3) as ring:
            names = of_one_slot(ring, 2)
            owner = ring.owner(names[0])
            gateway, liar = (uid for uid in N[:3] if uid != owner)
            users = [await ring.user(gateway, name) for name in names]
            await tell(ring, liar, owner, Attach([AttachItem(names[0], 1, 77, MOST)]))
            async with asyncio.timeout(4):
                await asyncio.gather(*(user.subscribe() for user in users))

    simulated(story)


def test_sessions_of_accounts_that_never_were_are_forgotten() -> None:
    """A peer may name any number of them, and renew them: only accounts make the owner's table grow."""

    async def story() -> None:
        async with ChatRing(3) as ring:
            names = of_one_slot(ring, 20)
            owner = ring.owner(names[0])
            liar = next(uid for uid in N[:3] if uid != owner)
            user = await ring.user(liar, names[0])
            await user.subscribe()
            await tell(ring, liar, owner, Attach([AttachItem(name, 1, 77, 0) for name in names[1:]]))
            presence = ring.chats[owner]._presence
            await until(lambda: presence.users == 1, 4.0)
            assert list(presence.gateways(names[0])) == [liar]

    simulated(story)


def test_a_gateway_has_so_many_sessions_and_others_keep_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        async with ChatRing(3) as ring:
            names = of_one_slot(ring, 8)
            owner = ring.owner(names[0])
            gateway, liar = (uid for uid in N[:3] if uid != owner)
            users = [await ring.user(gateway, name) for name in names]
            for user in users[:5]:
                await user.subscribe()
            monkeypatch.setattr(attachments, "MOST_OF_GATEWAY", 5)
            presence = ring.chats[owner]._presence
            await tell(ring, liar, owner, Attach([AttachItem(name, 1, 0, 0) for name in names]))
            named = [name for name in names if liar in presence.gateways(name)]
            assert named == names[:5]
            await tell(ring, liar, owner, Attach([AttachItem(name, 1, 0, 0) for name in names[:5]]))  # They renew.
            assert all(gateway in presence.gateways(name) for name in names[:5])
            await tell(ring, liar, owner, Attach([AttachItem(names[7], 1, 0, 0)]))
            assert liar not in presence.gateways(names[7])

    simulated(story)


def test_a_ballot_at_its_bound_blocks_no_other_account() -> None:
    """One counter serves all of a proposer's registers: it must not follow one that nobody counted to."""

    async def story() -> None:
        async with ChatRing(3) as ring:
            names = of_one_slot(ring, 4)
            owner = ring.owner(names[0])
            liar = next(uid for uid in N[:3] if uid != owner)
            client = await ring.user(liar, names[0])
            known = ring.world.processes[owner].table.known(slot_of_name(names[0], ring.world.slots))
            assert known is not None
            epoch = known.config.epoch
            for uid in N[:3]:
                items = [(names[0], AccountBallot(epoch, MOST, "liar"))]
                if uid != liar:
                    await tell(ring, liar, uid, AccountPrepare(known.slot, *known.config.identity, items))
            other = await ring.connect(liar)
            with pytest.raises(CoterieError):
                await other.login(names[0])  # Its register is what was lied about.
            for number, name in enumerate(names[1:], 3):
                client = await ring.connect(liar)
                await client.register(name, op=number)
                assert (await client.ask(Lookup(name), LookupReply)).name == name

    simulated(story)


def test_a_promise_for_a_later_epoch_is_not_given() -> None:
    """It would stand above the ballots of every configuration to come: no change of members would free the account."""

    async def story() -> None:
        async with ChatRing(3) as ring:
            await ring.user(N[0], "alice")
            owner = ring.owner("alice")
            liar = next(uid for uid in N[:3] if uid != owner)
            known = ring.world.processes[owner].table.known(slot_of_name("alice", ring.world.slots))
            assert known is not None
            items = [("alice", AccountBallot(MOST, 1, "liar"))]
            answer = await tell(ring, liar, owner, AccountPrepare(known.slot, *known.config.identity, items))
            assert answer.items[0].promised.epoch == known.config.epoch

    simulated(story)
