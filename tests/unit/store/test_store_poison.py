"""A poisoned item among good ones: a function in a commit turn, a record in a call. The others keep their results."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.unit.store.making import BASE_MS, make_record, moved

from coterie_node.runtime import ports
from coterie_node.runtime.ports import NO_LIMIT_MS, Tx
from coterie_node.store.errors import Unstorable
from coterie_node.store.store import Store
from coterie_protocol.bounds import MAX_COUNT
from coterie_protocol.identifiers import Uid
from coterie_protocol.records import Record, State
from coterie_protocol.registers import AccountBallot, AccountRegister, Ballot, Config, SlotRegister
from coterie_protocol.weight import weight_of_row

POISONS: list[dict[str, Any]] = [
    {"part": 1 << 63},
    {"part": -1},
    {"size": 1 << 64},
    {"epoch": 1 << 63},
    {"stored_at": 1 << 70},
    {"changed_at": -(1 << 63)},
    {"slot": 1 << 63},
    {"state": 4},
    {"owner": "\ud800"},
    {"sender": "a\udfff"},
    {"owner": "x" * 65},
    {"stored_at": 1 << 62},
    {"body": bytes(256 * 1024 + 1)},
]


async def _turn(store: Store, *functions: Callable[[Any], Any]) -> list[Any]:
    """Run functions in one turn of the writer; return their results and errors."""
    entered, let_go = threading.Event(), threading.Event()

    def occupy(_: object) -> None:
        entered.set()
        assert let_go.wait(10)

    first = asyncio.ensure_future(store.transact(occupy))
    await asyncio.to_thread(entered.wait, 10)
    waiting = [asyncio.ensure_future(store.transact(function)) for function in functions]
    await asyncio.sleep(0)
    let_go.set()
    await first
    return await asyncio.gather(*waiting, return_exceptions=True)


@pytest.mark.parametrize("poison", POISONS, ids=lambda poison: f"{next(iter(poison))}")
async def test_a_record_that_cannot_be_stored_is_refused_before_anything_is_written(
    any_store: ports.Store, poison: dict[str, Any]
) -> None:
    bad = make_record(**poison)
    for write in (
        lambda tx: tx.merge([make_record(), bad, make_record()]),
        lambda tx: tx.insert_many([make_record(), bad, make_record()]),
    ):
        with pytest.raises(Unstorable) as raised:
            await any_store.transact(write)
        assert raised.value.record is bad
    assert await any_store.read(lambda tx: tx.record_count(3)) == 0
    await any_store.transact(lambda tx: tx.merge([make_record()]))
    assert await any_store.read(lambda tx: tx.record_count(3)) == 1


async def test_records_that_cannot_be_stored_cost_a_commit_turn_nothing_but_themselves(store: Store) -> None:
    def insert(record: Record) -> Callable[[Tx], Any]:
        return lambda tx: tx.insert(record)

    ran = 0

    def counted(tx: Tx) -> None:
        nonlocal ran
        ran += 1
        tx.insert(make_record())

    results = await _turn(store, *[counted, insert(make_record(part=1 << 63))] * 20)
    assert [type(result) for result in results] == [type(None), Unstorable] * 20
    assert ran == 20, "no good function ran a second time"
    assert store.stats.commits == 2  # The one that occupied the writer, and all the others.


async def test_functions_that_fail_after_they_wrote_cost_the_others_one_more_run_and_one_fsync(store: Store) -> None:
    ran = 0

    def good(tx: Tx) -> None:
        nonlocal ran
        ran += 1
        tx.insert(make_record())

    def bad(tx: Tx) -> None:
        tx.insert(make_record(owner="mallory"))
        tx.put_account(3, "mallory", AccountRegister(AccountBallot(1, 1, "n"), AccountBallot(1, 1, "n"), b"x"))
        raise ZeroDivisionError

    results = await _turn(store, *[good, bad] * 20)
    assert [type(result) for result in results] == [type(None), ZeroDivisionError] * 20
    assert ran <= 40
    assert store.stats.commits == 2
    counted, accounts, mail, digest = await store.read(
        lambda tx: (
            tx.record_count(3),
            tx.account_count(3),
            tx.mailbox_size(3, "mallory"),
            tx.slot_digest(3, NO_LIMIT_MS),
        )
    )
    assert (counted, accounts, mail) == (20, 0, (0, 0)), "what is counted in memory is what is on disk"
    listed = await store.read(lambda tx: tx.versions(3, None, ports.FIRST, 100, NO_LIMIT_MS))
    assert len(listed) == 20
    directory = store.directory
    await store.close()
    again = await Store.open(directory)
    assert await again.read(lambda tx: (tx.record_count(3), tx.slot_digest(3, NO_LIMIT_MS))) == (20, digest)
    await again.close()


async def test_a_function_that_fails_takes_back_what_it_changed_of_others(store: Store) -> None:
    held = make_record()
    await store.transact(lambda tx: tx.insert(held))

    def bad(tx: Tx) -> None:
        tx.merge([moved(held, State.DELETED)])
        raise ZeroDivisionError

    results = await _turn(store, lambda tx: tx.insert(make_record()), bad, lambda tx: tx.record(held.key))
    assert isinstance(results[1], ZeroDivisionError)
    assert results[2] == held
    (records, size), count = await store.read(lambda tx: (tx.mailbox_size(3, "alice"), tx.record_count(3)))
    assert (records, size, count) == (2, 2 * weight_of_row("alice", "bob", 0, 5), 2)


async def test_a_ballot_at_the_end_of_all_numbers_harms_no_register(store: Store) -> None:
    most = Ballot(MAX_COUNT - 1, "n")
    register = SlotRegister(most, most, Config(1, most, (), (Uid("n"),)))
    await store.transact(lambda tx: tx.put_slot_register(3, register))
    assert await store.read(lambda tx: tx.slot_register(3)) == register
    assert await store.read(lambda tx: tx.mark()) == MAX_COUNT - 1


async def test_a_row_that_no_release_should_have_written_counts_as_damaged_and_hides_no_other(store: Store) -> None:
    """An older release took values that this one refuses: reading one must not make its neighbours unreadable."""
    good = [make_record(stored_at=BASE_MS), make_record(stored_at=BASE_MS + 2)]
    odd = make_record(stored_at=BASE_MS + 1)
    await store.transact(lambda tx: tx.merge([*good, odd]))
    directory = store.directory
    await store.close()
    with closing(sqlite3.connect(directory / "coterie.db", isolation_level=None)) as connection:
        connection.execute("UPDATE records SET epoch = -5 WHERE stored_at = ?", (odd.stored_at,))
    again = await Store.open(directory)
    with capture_logs() as logs:
        assert await again.read(lambda tx: tx.pending(3, "alice", ports.FIRST, 10, 1 << 20)) == good
        await again.transact(lambda tx: tx.put_meta("after", b"1"))
        await again.transact(lambda tx: tx.put_meta("after", b"2"))
    assert any("put aside" in entry["event"] for entry in logs)
    assert await again.read(lambda tx: tx.record_count(3)) == 2
    await again.close()
