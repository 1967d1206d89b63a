"""A full disk and I/O errors: said plainly, nothing acknowledged touched, and the store goes on afterwards."""

from __future__ import annotations

import asyncio
import resource
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.unit.store.making import make_record

from coterie_node.store import writer as writer_module
from coterie_node.store.errors import StoreError
from coterie_node.store.store import Store
from coterie_node.store.tx import Transaction
from coterie_protocol.weight import weight_of_row


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """Let the kernel refuse longer files (RLIMIT_FSIZE), as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def _limit_pages(tx: Transaction, pages: int) -> None:
    tx._connection.execute(f"PRAGMA max_page_count = {pages}")


async def _write(store: Store, count: int = 1, size: int = 2_000) -> list[bytes]:
    records = [make_record(body=bytes(size)) for _ in range(count)]
    await store.transact(lambda tx: tx.insert_many(records))
    return [record.id for record in records]


def _healthy(store: Store) -> bool:
    return store.healthy


async def _held(store: Store) -> set[bytes]:
    return await store.read(lambda tx: {record.id for record in tx.pending(3, "alice", (-1, b""), 1 << 30, 1 << 40)})


async def test_a_full_database_refuses_in_a_plain_sentence_and_goes_on_later(store: Store) -> None:
    changes: list[StoreError | None] = []
    store.watchers.health.append(changes.append)
    acknowledged = set(await _write(store, 20))
    await store.transact(lambda tx: _limit_pages(tx, 60))
    said = ""
    while not said:
        try:
            acknowledged |= set(await _write(store))
        except StoreError as error:
            said = str(error)
    assert said == f"no space left for {store.directory / 'coterie.db'}; free some, and the node goes on by itself"
    assert not _healthy(store)
    assert await _held(store) == acknowledged
    assert await store.read(lambda tx: tx.record_count(3)) == len(acknowledged)
    assert await store.read(lambda tx: tx.mailbox_size(3, "alice")) == (
        len(acknowledged),
        (2_000 + weight_of_row("alice", "bob", 0, 0)) * len(acknowledged),
    )
    await store.transact(lambda tx: _limit_pages(tx, 1_000_000))
    acknowledged |= set(await _write(store, 50))
    assert _healthy(store)
    assert await _held(store) == acknowledged
    assert changes[-1] is None
    assert isinstance(changes[0], StoreError)


async def test_a_file_that_cannot_grow_is_an_error_and_not_the_end(store: Store) -> None:
    acknowledged = set(await _write(store, 20))
    digest = await store.read(lambda tx: tx.slot_digest(3, 1 << 62))
    with files_no_larger_than((store.directory / "coterie.db-wal").stat().st_size):
        results = await asyncio.gather(*(_write(store, 50) for _ in range(5)), return_exceptions=True)
    assert all(isinstance(result, StoreError) for result in results)
    assert not _healthy(store)
    assert await _held(store) == acknowledged
    assert await store.read(lambda tx: tx.slot_digest(3, 1 << 62)) == digest
    acknowledged |= set(await _write(store, 50))
    assert _healthy(store)
    assert await _held(store) == acknowledged


async def test_a_failed_store_finds_out_by_itself_that_it_can_write_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "PROBE_SECONDS", 0.01)
    well = asyncio.Event()
    store.watchers.health.append(lambda failure: well.set() if failure is None else None)
    await _write(store)
    with files_no_larger_than((store.directory / "coterie.db-wal").stat().st_size), pytest.raises(StoreError):
        await _write(store, 50)
    await asyncio.wait_for(well.wait(), 10)
    assert _healthy(store)


async def test_reading_goes_on_while_nothing_can_be_written(store: Store) -> None:
    await _write(store)
    await store.transact(lambda tx: _limit_pages(tx, 1))
    with pytest.raises(StoreError):
        await _write(store, 500)
    assert await store.transact(lambda tx: tx.record_count(3)) == 1
    assert not _healthy(store)


async def test_what_ran_before_the_failure_in_one_batch_fails_with_it(store: Store) -> None:
    """Its result came from a state that never was."""

    def fail(tx: Transaction) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    results = await asyncio.gather(
        store.transact(lambda tx: tx.put_meta("a", b"1")), store.transact(fail), return_exceptions=True
    )
    kept = await store.read(lambda tx: tx.meta("a"))
    assert isinstance(results[1], StoreError)
    assert (kept == b"1") == (results[0] is None)


async def test_a_disk_that_is_full_at_the_opening_says_so(tmp_path: Path) -> None:
    with files_no_larger_than(8_192), pytest.raises(StoreError, match=r"coterie\.db"):
        await Store.open(tmp_path)
    await (await Store.open(tmp_path)).close()
