"""How long a node was away, and what is left of it when the ring has outlived it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest
from tests.unit.store.making import make_record

from coterie_node.assembly import downtime
from coterie_node.assembly.node import begin_anew
from coterie_node.assembly.replica import Replica
from coterie_node.bootstrap import identity
from coterie_node.bootstrap.identity import Membership
from coterie_node.config.settings import NodeConfig
from coterie_node.store.store import Store
from coterie_node.store.tx import Transaction
from coterie_protocol.identifiers import Uid
from coterie_protocol.nodes import NodeRef
from coterie_protocol.registers import AccountBallot, AccountRegister, Ballot, Config, SlotRegister

DAY_MS = 86_400_000
SAFE = 15 * 86_400.0
NOW = 1_800_000_000_000


@pytest.mark.parametrize(
    ("last", "said"),
    [
        (None, ""),
        (NOW, ""),
        (NOW - 15 * DAY_MS, ""),
        (NOW + 60_000, ""),
        (NOW - 16 * DAY_MS, "for 16.0 days"),
        (NOW + 2 * 3_600_000, "for an unknown time (its clock was set back)"),
    ],
)
async def test_what_counts_as_too_long(tmp_path: Path, last: int | None, said: str) -> None:
    store = await Store.open(tmp_path)
    if last is not None:
        await store.transact(lambda tx: downtime.note(tx, last))
    assert await store.read(lambda tx: downtime.long_away(tx, NOW, SAFE)) == said
    await store.close()


class Clock:
    """A clock that a script moves."""

    def __init__(self) -> None:
        self.at = 1_000.0
        self._asleep = asyncio.Event()
        self._go = asyncio.Event()

    def now(self) -> float:
        return self.at

    def wall_ms(self) -> int:
        return NOW + int(self.at * 1000)

    async def sleep(self, seconds: float) -> None:
        self._asleep.set()
        await self._go.wait()
        self._go.clear()

    async def round(self) -> None:
        """Wake who sleeps, and wait until it sleeps again."""
        self._asleep.clear()
        self._go.set()
        await self._asleep.wait()

    def wake(self) -> None:
        self._go.set()


class Offers:
    closed = ""


class Rooms:
    """What the watch asks of a replica."""

    def __init__(self) -> None:
        self.touched = True
        self.offers = Offers()

    def in_touch(self) -> bool:
        return self.touched


async def test_a_node_that_was_cut_off_offers_nothing_when_contact_comes_back(tmp_path: Path) -> None:
    store, clock, rooms, told = await Store.open(tmp_path), Clock(), Rooms(), list[Any]()
    watch = downtime.Watch(cast(Replica, rooms), store, clock, SAFE, lambda: told.append(clock.at))
    running = asyncio.ensure_future(watch.run())
    await clock.round()
    assert await store.read(lambda tx: downtime.long_away(tx, clock.wall_ms(), SAFE)) == ""
    clock.at += SAFE - 1.0
    watch.peer(True)
    assert not told
    await clock.round()
    rooms.touched = False
    await clock.round()
    clock.at += SAFE + 1.0
    watch.peer(False)
    assert not told
    watch.peer(True)
    assert told == [clock.at]
    assert "cut off for too long" in rooms.offers.closed
    clock.wake()
    await running
    assert "days" in await store.read(lambda tx: downtime.long_away(tx, clock.wall_ms(), SAFE))
    await store.close()


async def test_a_node_that_begins_anew_keeps_its_ring_and_nothing_else(tmp_path: Path) -> None:
    ballot = Ballot(1, "p")
    old, other = Uid("1" * 32), NodeRef(Uid("2" * 32), "other", 3, "h", 1, 2, 3, 4)

    def fill(tx: Transaction) -> None:
        identity.load(tx, lambda: old)
        identity.put_membership(tx, Membership("f" * 32, 3, 64, founded=True))
        identity.put_position(tx, 7)
        identity.remember(tx, [other])
        downtime.note(tx, NOW)
        tx.put_slot_register(3, SlotRegister(ballot, ballot, Config(1, ballot, (), (old,))))
        tx.put_account(3, "alice", AccountRegister(AccountBallot(1, 1, "p"), AccountBallot(1, 1, "p"), b"v"))
        tx.merge([make_record(), make_record(slot=5)])

    store = await Store.open(tmp_path)
    await store.transact(fill)
    await store.transact(lambda tx: tx.forget_everything())
    assert await store.read(lambda tx: (tx.slots_with_records(), tx.slots_with_accounts(), tx.slot_digest(3, NOW))) == (
        {},
        {},
        0,
    )
    await store.close()
    await begin_anew(NodeConfig(data_dir=tmp_path))
    store = await Store.open(tmp_path)
    found = await store.transact(lambda tx: identity.load(tx, lambda: Uid("3" * 32)))
    assert (found.uid, found.position) == (Uid("3" * 32), -1)
    assert found.membership == Membership("f" * 32, 3, 64, founded=False)
    assert await store.read(identity.remembered) == [other]
    assert await store.read(lambda tx: downtime.long_away(tx, NOW + 99 * DAY_MS, SAFE)) == ""
    assert await store.read(lambda tx: list(tx.slot_registers())) == []
    await store.close()
