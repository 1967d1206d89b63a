"""An index that disagrees with its table, as a cut log leaves it: what it says must neither be written nor handed on.

An entry whose row is gone names a row number that the next new record gets. Whatever is then written "over" the lost
record goes into that innocent one, with a checksum that fits, in a state that wins on every other node.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import pytest
from tests.unit.store.making import behind_the_back_of, make_record, moved

from coterie_node.runtime.ports import FIRST, NO_LIMIT_MS
from coterie_node.store.connections import malformed
from coterie_node.store.damage import NOTE_NAME
from coterie_node.store.digests import pack_buckets
from coterie_node.store.errors import StoreDamaged, StoreError
from coterie_node.store.fsck.inspection import Severity, inspect
from coterie_node.store.fsck.repair import begin_anew, repair
from coterie_node.store.store import DATABASE_NAME, Store
from coterie_node.store.tx import Transaction
from coterie_protocol.records import Record, State, key_hash, version_of

LOST = make_record(slot=470, owner="erin", body=b"for erin")
INNOCENT = make_record(slot=874, owner="alice", body=b"for alice")


@pytest.fixture
async def broken(tmp_path: Path) -> AsyncIterator[Store]:
    """Open a store whose index says that LOST is where INNOCENT is."""
    store = await Store.open(tmp_path)
    await store.transact(lambda tx: tx.merge([LOST]))
    await store.close()
    behind_the_back_of("records_by_key", tmp_path / DATABASE_NAME, "DELETE FROM records")
    store = await Store.open(tmp_path)
    assert await store.transact(lambda tx: tx.merge([INNOCENT])) == [INNOCENT]
    assert await store.read(lambda tx: tx.record(INNOCENT.key)) == INNOCENT
    yield store
    await store.close()


def innocent(store: Store) -> list[tuple[str, int, bytes]]:
    """Return what is in the table, whatever its indexes say."""
    with closing(sqlite3.connect(store.directory / DATABASE_NAME)) as connection:
        return connection.execute("SELECT owner, state, body FROM records NOT INDEXED").fetchall()


@pytest.mark.parametrize(
    "write",
    [
        lambda tx: tx.merge([moved(LOST, State.ARCHIVED, b"erin's archive")]),
        lambda tx: tx.merge([LOST]),
        lambda tx: tx.insert(LOST),
        lambda tx: tx.insert_many([make_record(slot=470), LOST, make_record(slot=470)]),
        lambda tx: tx.give_up([version_of(LOST)]),
        lambda tx: tx.put_aside((LOST.slot, _hash(LOST))),
        lambda tx: tx.record(LOST.key),
    ],
    ids=["further state", "merge", "insert", "insert many", "give up", "put aside", "read"],
)
async def test_no_write_goes_into_another_record(broken: Store, write: Callable[[Transaction], object]) -> None:
    with pytest.raises(StoreDamaged):
        await broken.transact(write)
    with pytest.raises(StoreDamaged):
        await broken.transact(lambda tx: tx.merge([make_record()]))
    assert not broken.healthy
    assert innocent(broken) == [("alice", State.PENDING, b"for alice")]


async def test_a_reader_who_meets_it_has_the_store_stopped(broken: Store) -> None:
    """What is found to fail its checksum there is put aside by the writer: it must not take the innocent record."""
    assert await broken.read(lambda tx: tx.record(LOST.key)) is None
    with pytest.raises(StoreDamaged):
        await broken.transact(lambda tx: tx.merge([make_record()]))
    assert innocent(broken) == [("alice", State.PENDING, b"for alice")]


async def test_a_record_whose_row_is_damaged_is_no_broken_index(tmp_path: Path) -> None:
    """Its names do not give its hash either, but the hash in the row is the one that was looked for."""
    store = await Store.open(tmp_path)
    await store.transact(lambda tx: tx.merge([LOST]))
    with closing(sqlite3.connect(tmp_path / DATABASE_NAME, isolation_level=None)) as connection:
        connection.execute("UPDATE records SET sender = 'mallory'")
    archived = moved(LOST, State.ARCHIVED, b"erin's archive")
    await store.transact(lambda tx: tx.merge([archived]))
    assert await store.transact(lambda tx: tx.record(LOST.key)) is None
    assert await store.transact(lambda tx: tx.merge([archived])) == [archived]
    assert await store.read(lambda tx: tx.record(LOST.key)) == archived
    assert store.healthy
    await store.close()


# --- what readers find ---


async def test_a_reader_who_meets_a_malformed_page_stops_the_writer(tmp_path: Path) -> None:
    """It had gone on confirming for five seconds while every comparison failed."""
    store = await Store.open(tmp_path)
    await store.transact(lambda tx: tx.merge([moved(INNOCENT, State.DELETED)]))
    await store.close()
    scribble(tmp_path / DATABASE_NAME, "records_tombstones")
    store = await Store.open(tmp_path)
    told: list[object] = []
    store.watchers.health.append(told.append)
    with pytest.raises(StoreDamaged):
        await store.read(lambda tx: tx.tombstones_before(874, NO_LIMIT_MS, 10))
    with pytest.raises(StoreDamaged):
        await store.transact(lambda tx: tx.put_meta("a", b"b"))
    with pytest.raises(StoreDamaged):
        await store.read(lambda tx: tx.pending(874, "alice", FIRST, 10, 1000))
    assert not store.healthy
    assert [type(one) for one in told] == [StoreDamaged]
    await store.close()


@pytest.mark.parametrize("index", ["records_by_key", "records_pending", "records_archive"])
async def test_an_index_that_cannot_be_counted_keeps_the_store_from_opening(tmp_path: Path, index: str) -> None:
    store = await Store.open(tmp_path)
    await store.transact(lambda tx: tx.merge([INNOCENT]))
    await store.close()
    scribble(tmp_path / DATABASE_NAME, index)
    with pytest.raises(StoreDamaged):
        await Store.open(tmp_path)


def scribble(database: Path, index: str) -> None:
    """Overwrite the root page of an index."""
    with closing(sqlite3.connect(database)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (index,)).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with open(database, "r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)


async def test_a_reader_that_the_disk_fails_makes_the_node_unready_until_a_write_goes_well(tmp_path: Path) -> None:
    store = await Store.open(tmp_path)
    told: list[object] = []
    store.watchers.health.append(told.append)

    def failing(_: Transaction) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_READ
        raise error

    with pytest.raises(StoreError):
        await store.read(failing)
    await store.transact(lambda tx: tx.put_meta("a", b"b"))
    assert [one is None for one in told] == [False, True]
    assert store.healthy
    await store.close()


def _hash(record: Record) -> bytes:
    return key_hash(record.key)


@pytest.mark.parametrize(
    ("index", "state"),
    [
        ("records_pending", State.PENDING),
        ("records_archive", State.ARCHIVED),
        ("records_tombstones", State.EXPIRED),
        ("records_tombstones", State.DELETED),
    ],
)
async def test_a_slot_that_is_compared_has_its_indexes_compared_with_its_rows(
    tmp_path: Path, index: str, state: State
) -> None:
    """What an index leaves out is never shown to its recipient, and never missed either."""
    store = await Store.open(tmp_path)
    records = [make_record(slot=874, owner=owner) for owner in ("alice", "carol")]
    if state != State.PENDING:
        records = [moved(record, state) for record in records]
    await store.transact(lambda tx: tx.merge(records))
    assert await store.read(lambda tx: tx.slot_digest(874, NO_LIMIT_MS)) != 0
    await store.close()
    behind_the_back_of(index, tmp_path / DATABASE_NAME, "DELETE FROM records WHERE owner = 'alice'")
    store = await Store.open(tmp_path)
    with pytest.raises(StoreDamaged):
        await store.read(lambda tx: tx.slot_digest(874, NO_LIMIT_MS))
    await store.close()


# --- what comes after ---


async def test_a_store_that_was_found_broken_stays_so_until_it_is_repaired(broken: Store) -> None:
    """A node that was started again went on confirming until it met the damage again."""
    with pytest.raises(StoreDamaged):
        await broken.transact(lambda tx: tx.merge([LOST]))
    await broken.close()
    with pytest.raises(StoreDamaged, match="belongs to another record"):
        await Store.open(broken.directory)
    found = inspect(broken.directory / DATABASE_NAME, quietly)
    assert found.fatal
    begin_anew(found, None, quietly)
    again = await Store.open(broken.directory)
    assert again.healthy
    await again.close()


async def test_one_that_turns_out_to_be_whole_may_go_on(tmp_path: Path) -> None:
    """Memory or a cable was to blame."""
    store = await Store.open(tmp_path)
    await store.transact(lambda tx: tx.merge([INNOCENT]))

    def raise_malformed(_: Transaction) -> None:
        raise malformed("database disk image is malformed")

    with pytest.raises(StoreDamaged):
        await store.transact(raise_malformed)
    await store.close()
    with pytest.raises(StoreDamaged):
        await Store.open(tmp_path)
    found = inspect(tmp_path / DATABASE_NAME, quietly)
    assert [finding.severity for finding in found.findings] == [Severity.REPAIRABLE]
    assert len(repair(found, quietly).done) == 1
    assert inspect(tmp_path / DATABASE_NAME, quietly).whole
    store = await Store.open(tmp_path)
    assert await store.read(lambda tx: tx.record(INNOCENT.key)) == INNOCENT
    await store.close()


async def test_another_database_in_its_place_is_not_meant(tmp_path: Path) -> None:
    (tmp_path / NOTE_NAME).write_text("malformed")
    for _ in range(2):
        store = await Store.open(tmp_path)
        await store.close()


def quietly(what: str, done: int, total: int) -> None:
    """Say nothing of progress."""


# --- what memory has, and the disk has not ---


async def test_a_scrub_notices_records_that_are_gone_although_nobody_deleted_them(tmp_path: Path) -> None:
    """Digests in memory went on saying that all was there, so no comparison missed what a disk had lost."""
    store = await Store.open(tmp_path)
    others = [make_record(slot=874, owner="carol") for _ in range(20)]
    await store.transact(lambda tx: tx.merge([INNOCENT, *others]))
    with_it = await store.read(lambda tx: tx.slot_digest(874, NO_LIMIT_MS))
    with closing(sqlite3.connect(tmp_path / DATABASE_NAME, isolation_level=None)) as connection:
        assert connection.execute("DELETE FROM records WHERE owner = 'alice'").rowcount == 1
    assert await store.read(lambda tx: tx.slot_digest(874, NO_LIMIT_MS)) == with_it

    told: list[str] = []
    store.watchers.damage.append(told.append)
    await store.read(lambda tx: tx.scrub(0, 100))
    without = await store.read(lambda tx: tx.slot_digest(874, NO_LIMIT_MS))
    await store.transact(lambda tx: tx.put_meta("a", b"b"))
    assert len(told) == 1
    assert await store.transact(lambda tx: tx.merge([INNOCENT])) == [INNOCENT]
    assert await store.read(lambda tx: tx.slot_digest(874, NO_LIMIT_MS)) == with_it != without
    await store.read(lambda tx: tx.scrub(0, 100))
    await store.transact(lambda tx: tx.put_meta("a", b"c"))
    assert len(told) == 1
    await store.close()


async def test_counting_anew_beside_a_busy_writer_finds_nothing_wrong(tmp_path: Path) -> None:
    store = await Store.open(tmp_path)
    told: list[str] = []
    store.watchers.damage.append(told.append)
    records = [make_record(slot=number % 3) for number in range(600)]
    await store.transact(lambda tx: tx.merge(records[:300]))
    for slot in range(3):
        await store.read(lambda tx, slot=slot: tx.slot_digest(slot, NO_LIMIT_MS))  # type: ignore[misc]

    async def write() -> None:
        for number, record in enumerate(records):
            await store.transact(lambda tx, record=record: tx.merge([record]))  # type: ignore[misc]
            if number % 2:
                await store.transact(lambda tx, record=record: tx.merge([moved(record, State.DELETED)]))  # type: ignore[misc]
            if number % 5 == 0:
                await store.transact(lambda tx, record=record: tx.give_up([version_of(record)]))  # type: ignore[misc]

    writing = asyncio.create_task(write())
    while not writing.done():
        await store.read(lambda tx: tx.scrub(0, 1000))
    await writing
    assert told == []
    for slot in range(3):
        mine = await store.read(lambda tx, slot=slot: tx.bucket_digests(slot, NO_LIMIT_MS))  # type: ignore[misc]
        assert mine == await store.read(lambda tx, slot=slot: pack_buckets(tx._scan(slot, NO_LIMIT_MS)))  # type: ignore[misc]
    await store.close()
