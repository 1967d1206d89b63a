"""Checksums: a damaged record counts as not held, a damaged register abstains (rule 15)."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.store.making import make_record, moved, row

from coterie_node.runtime.ports import FIRST, NO_LIMIT_MS
from coterie_node.store.counters import Contents
from coterie_node.store.errors import RegisterDamaged, StoreDamaged
from coterie_node.store.store import DATABASE_NAME, Store
from coterie_protocol.records import State
from coterie_protocol.registers import AccountBallot, AccountRegister, Ballot, Config, SlotRegister

RECORD = make_record(body=b"precious")
OTHER = make_record(body=b"sound", stored_at=RECORD.stored_at + 1)
EPOCH = 3
SLOT_REGISTER = SlotRegister(Ballot(40, "p"), Ballot(40, "p"), Config(EPOCH, Ballot(1, "p"), (), ()))
ACCOUNT = AccountRegister(AccountBallot(EPOCH, 500, "p"), AccountBallot(EPOCH, 500, "p"), b"value")

Damage = Callable[[str], None]


@pytest.fixture
def damage(tmp_path: Path) -> Damage:
    def run(sql: str) -> None:
        connection = sqlite3.connect(tmp_path / DATABASE_NAME, timeout=10)
        with connection:
            assert connection.execute(sql).rowcount == 1
        connection.close()

    return run


@pytest.fixture
async def held(tmp_path: Path) -> AsyncIterator[Store]:
    store = await Store.open(tmp_path)
    await store.transact(lambda tx: tx.merge([RECORD, OTHER]))
    await store.transact(lambda tx: tx.put_slot_register(3, SLOT_REGISTER))
    await store.transact(lambda tx: tx.put_account(3, "alice", ACCOUNT))
    yield store
    await store.close()


def _body(what: str) -> str:
    return f"UPDATE records SET {what} WHERE body = CAST('precious' AS BLOB)"


@pytest.mark.parametrize(
    "change",
    [
        "body = CAST('Precious' AS BLOB)",
        "sender = 'mallory'",
        "sender = CAST(x'ff6f62' AS TEXT)",
        "stored_at = stored_at + 1",
        "digest = zeroblob(16)",
        "body = 'text'",
        "state = 2",
    ],
)
async def test_a_damaged_record_is_not_held_and_repair_brings_it_back(held: Store, damage: Damage, change: str) -> None:
    reported = asyncio.Event()
    held.watchers.damage.append(lambda _: reported.set())
    sound = await held.read(lambda tx: tx.slot_digest(3, NO_LIMIT_MS))
    damage(_body(change))
    assert await held.read(lambda tx: tx.record(RECORD.key)) is None
    assert await held.read(lambda tx: tx.pending(3, "alice", FIRST, 1, 1)) == [OTHER]
    await asyncio.wait_for(reported.wait(), 10)
    assert held.contents() == Contents({3: 1}, {3: 1}, {3: 1}, {})
    assert await held.read(lambda tx: tx.record_count(3)) == 1
    assert await held.read(lambda tx: len(tx.versions(3, None, FIRST, 10, NO_LIMIT_MS))) == 1
    assert await held.read(lambda tx: tx.mailbox_size(3, "alice")) == (1, row(OTHER))
    assert await held.read(lambda tx: tx.slot_digest(3, NO_LIMIT_MS)) not in (0, sound)
    assert await held.transact(lambda tx: tx.merge([RECORD])) == [RECORD]
    assert await held.read(lambda tx: tx.record(RECORD.key)) == RECORD
    assert await held.read(lambda tx: tx.slot_digest(3, NO_LIMIT_MS)) == sound


async def test_a_damaged_record_among_many_is_not_held(held: Store, damage: Damage) -> None:
    reported = asyncio.Event()
    held.watchers.damage.append(lambda _: reported.set())
    damage(_body("sender = 'mallory'"))
    keys = [OTHER.key, RECORD.key, OTHER.key]
    assert await held.read(lambda tx: tx.records(keys)) == [OTHER, None, OTHER]
    await asyncio.wait_for(reported.wait(), 10)
    assert await held.read(lambda tx: tx.record_count(3)) == 1


async def test_inserting_onto_a_damaged_record_replaces_it(held: Store, damage: Damage) -> None:
    damage(_body("body = zeroblob(8)"))
    assert await held.transact(lambda tx: tx.insert(RECORD)) is None
    assert await held.read(lambda tx: tx.record(RECORD.key)) == RECORD
    assert await held.read(lambda tx: tx.record_count(3)) == 2


async def test_a_damaged_record_is_kept_aside(held: Store, damage: Damage, tmp_path: Path) -> None:
    damage(_body("body = CAST('Precious' AS BLOB)"))
    assert await held.transact(lambda tx: tx.pending(3, "alice", FIRST, 10, 1_000)) == [OTHER]
    connection = sqlite3.connect(tmp_path / DATABASE_NAME)
    assert connection.execute("SELECT id, body FROM damaged_records").fetchall() == [(RECORD.id, b"Precious")]
    connection.close()


async def test_a_further_version_replaces_a_damaged_one(held: Store, damage: Damage) -> None:
    damage(_body("body = zeroblob(8)"))
    archived = moved(RECORD, State.ARCHIVED, b"sealed")
    assert await held.transact(lambda tx: tx.merge([archived])) == [archived]
    assert await held.read(lambda tx: tx.record(RECORD.key)) == archived


async def test_a_damaged_configuration_abstains_until_it_is_written_above_the_mark(held: Store, damage: Damage) -> None:
    reported = asyncio.Event()
    held.watchers.damage.append(lambda _: reported.set())
    damage("UPDATE slot_registers SET register = x'c0' WHERE slot = 3")
    with pytest.raises(RegisterDamaged) as caught:
        await held.read(lambda tx: tx.slot_register(3))
    floor = caught.value.floor
    assert isinstance(floor, Ballot)
    assert floor > Ballot(500, "\U0010fffe")
    with pytest.raises(RegisterDamaged):
        await held.transact(lambda tx: tx.slot_register(3))
    await asyncio.wait_for(reported.wait(), 10)
    assert await held.read(lambda tx: list(tx.slot_registers())) == []
    healed = SlotRegister(Ballot(floor.counter + 1, "q"), Ballot(floor.counter + 1, "q"), SLOT_REGISTER.config)
    await held.transact(lambda tx: tx.put_slot_register(3, healed))
    assert await held.read(lambda tx: tx.slot_register(3)) == healed
    assert held.healthy


async def test_a_damaged_account_abstains_and_no_list_passes_over_it(held: Store, damage: Damage) -> None:
    damage("UPDATE accounts SET register = register || x'00' WHERE name = 'alice'")
    with pytest.raises(RegisterDamaged) as caught:
        await held.read(lambda tx: tx.account(3, "alice"))
    floor = caught.value.floor
    assert isinstance(floor, AccountBallot)
    assert floor > ACCOUNT.promised
    assert floor.epoch == EPOCH
    with pytest.raises(RegisterDamaged):
        await held.read(lambda tx: tx.accounts(3, "", 10))
    await held.transact(lambda tx: tx.put_account(3, "alice", ACCOUNT))
    assert await held.read(lambda tx: tx.account(3, "alice")) == ACCOUNT
    assert await held.read(lambda tx: tx.account_count(3)) == 1


async def test_a_register_in_another_ones_place_is_damaged(held: Store, damage: Damage) -> None:
    damage("UPDATE slot_registers SET slot = 4 WHERE slot = 3")
    with pytest.raises(RegisterDamaged):
        await held.read(lambda tx: tx.slot_register(4))


async def test_damaged_registers_are_listed_once_found_until_they_are_written_again(
    held: Store, damage: Damage, tmp_path: Path
) -> None:
    assert await held.read(lambda tx: tx.damaged_registers([3])) == []
    damage("UPDATE accounts SET register = register || x'00' WHERE name = 'alice'")
    damage("UPDATE slot_registers SET register = x'c0' WHERE slot = 3")
    assert await held.read(lambda tx: tx.damaged_registers()) == []
    assert await held.read(lambda tx: tx.damaged_registers([3])) == [(3, None), (3, "alice")]
    await held.transact(lambda tx: tx.put_account(3, "alice", ACCOUNT))
    assert await held.read(lambda tx: tx.damaged_registers()) == [(3, None)]
    await held.close()
    again = await Store.open(tmp_path)
    await again.read(lambda tx: tx.slot_registers())
    assert await again.read(lambda tx: tx.damaged_registers()) == [(3, None)]
    await again.transact(lambda tx: tx.put_slot_register(3, SLOT_REGISTER))
    assert await again.read(lambda tx: tx.damaged_registers()) == []
    await again.close()


async def test_a_scrub_finds_damage_that_nobody_asks_for(held: Store, damage: Damage) -> None:
    reported = asyncio.Event()
    held.watchers.damage.append(lambda _: reported.set())
    damage(_body("body = CAST('Precious' AS BLOB)"))
    assert await held.read(lambda tx: tx.record_count(3)) == 2
    after, rounds = 0, 0
    while not rounds or after:
        after = await held.read(lambda tx, after=after: tx.scrub(after, 1))  # type: ignore[misc]
        rounds += 1
    assert rounds == 3
    await asyncio.wait_for(reported.wait(), 10)
    assert await held.read(lambda tx: tx.record_count(3)) == 1
    assert await held.read(lambda tx: tx.record(OTHER.key)) == OTHER


async def test_a_store_that_was_found_broken_confirms_nothing_more(tmp_path: Path) -> None:
    """Some writes would still go well, upon what a broken index says."""
    store = await Store.open(tmp_path)
    await store.transact(lambda tx: tx.merge([RECORD, OTHER]))

    with pytest.raises(StoreDamaged):
        await store.transact(raise_malformed)
    for work in (store.transact(lambda tx: tx.put_meta("a", b"b")), store.read(lambda tx: tx.meta("a"))):
        with pytest.raises(StoreDamaged):
            await work
    assert not store.healthy
    await store.close()


def raise_malformed(tx: Any) -> None:
    error = sqlite3.DatabaseError("database disk image is malformed")
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    raise error
