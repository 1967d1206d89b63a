"""Digests kept on the side equal those computed from what is held, whatever happened before."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

import pytest
from tests.unit.store.making import BASE_MS, random_record, row

from coterie_node.runtime.ports import FIRST, NO_LIMIT_MS
from coterie_node.store.counters import Contents
from coterie_node.store.digests import (
    EMPTY_BUCKETS,
    HORIZON_MS,
    SlotDigest,
    entry_digest,
    pack_buckets,
    slot_digest_of,
)
from coterie_node.store.store import DATABASE_NAME, Store
from coterie_node.store.tx import Transaction
from coterie_protocol.records import BUCKETS, Record, Version, key_hash, version_of

SLOTS = 3
LIMITS = (BASE_MS - 1, BASE_MS + 5_000, BASE_MS + 12_345, BASE_MS + 19_000, NO_LIMIT_MS)


def computed(versions: Sequence[Version], before_ms: int) -> bytes:
    buckets = [0] * BUCKETS
    for version in versions:
        if version.stored_at < before_ms:
            record_hash = key_hash(version.key)
            buckets[record_hash[0]] ^= entry_digest(record_hash, version.state, version.digest)
    return pack_buckets(buckets)


def check(tx: Transaction) -> None:
    for slot in range(SLOTS):
        versions = tx.versions(slot, None, FIRST, 1 << 30, NO_LIMIT_MS)
        for limit in LIMITS:
            expected = computed(versions, limit)
            assert tx.bucket_digests(slot, limit) == expected
            assert tx.slot_digest(slot, limit) == slot_digest_of(expected)
        assert tx.record_count(slot) == len(versions)
        assert tx.slots_with_records().get(slot, 0) == len(versions)
        for owner in ("alice", "bob", "zoë"):
            pending = tx.pending(slot, owner, FIRST, 1 << 30, 1 << 40)
            assert tx.mailbox_size(slot, owner) == (len(pending), sum(map(row, pending)))


def check_contents(store: Store) -> None:
    """Compare what the store says from memory with its rows."""
    with closing(sqlite3.connect(store.directory / DATABASE_NAME)) as connection:

        def count(where: str) -> dict[int, int]:
            return dict(connection.execute(f"SELECT slot, count(*) FROM records WHERE {where} GROUP BY slot"))

        expected = Contents({}, count("1"), count("state = 0"), count("state = 2"))
    assert store.contents() == expected


def change(tx: Transaction, rng: random.Random) -> None:
    records = [random_record(rng, SLOTS) for _ in range(rng.randrange(1, 30))]
    action = rng.randrange(4)
    if action == 0:
        tx.insert_many(records)
    elif action == 1:
        slot = rng.randrange(SLOTS)
        held = tx.versions(slot, None, FIRST, 1 << 30, NO_LIMIT_MS)
        tx.give_up(rng.sample(held, rng.randrange(len(held) + 1)) + [version_of(record) for record in records])
    else:
        tx.merge(records)
    if rng.random() < 0.1:
        raise LookupError


@pytest.mark.parametrize("now_ms", [BASE_MS + 20_000, BASE_MS + 70_000, BASE_MS + 10 * HORIZON_MS])
@pytest.mark.parametrize("seed", range(4))
async def test_they_equal_a_recomputation_after_random_changes(tmp_path: Path, seed: int, now_ms: int) -> None:
    rng = random.Random(seed)
    store = await Store.open(tmp_path, now_ms=lambda: now_ms)
    for step in range(60):
        again = random.Random(rng.random())

        def run(tx: Transaction, source: random.Random = again) -> None:
            change(tx, random.Random(source.getstate()[1][0]))
            check(tx)

        with suppress(LookupError):
            await store.transact(run)
        check_contents(store)
        await store.read(check)
        if step % 20 == 19:
            await store.close()
            store = await Store.open(tmp_path, now_ms=lambda: now_ms)
    await store.close()


async def test_a_slot_that_is_loaded_while_others_write_misses_nothing(store: Store) -> None:
    rng = random.Random(5)
    for _ in range(30):
        slot = rng.randrange(1_000, 1_000_000)
        batches = [[_in_slot(random_record(rng), slot) for _ in range(50)] for _ in range(6)]
        await store.transact(lambda tx: tx.merge(batches[0]))  # noqa: B023
        with store._opened.tally._memory:
            store._opened.tally._digests.clear()
            store._opened.tally._boxes.clear()
        jobs = [store.transact(lambda tx, part=part: tx.merge(part)) for part in batches[1:]]  # type: ignore[misc]
        reads = [store.read(lambda tx: (tx.slot_digest(slot, NO_LIMIT_MS), tx.mailbox_size(slot, "alice")))]  # noqa: B023
        await asyncio.gather(*jobs, *reads)

        def compare(tx: Transaction, slot: int = slot) -> None:
            versions = tx.versions(slot, None, FIRST, 1 << 30, NO_LIMIT_MS)
            assert tx.bucket_digests(slot, NO_LIMIT_MS) == computed(versions, NO_LIMIT_MS)
            assert tx.mailbox_size(slot, "alice")[0] == len(tx.pending(slot, "alice", FIRST, 1 << 30, 1 << 40))

        await store.read(compare)


def _in_slot(record: Record, slot: int) -> Record:
    fields = {name: getattr(record, name) for name in record.__struct_fields__}
    return Record(**{**fields, "slot": slot})


def test_old_seconds_are_forgotten_and_said_to_be() -> None:
    digest = SlotDigest(BASE_MS)
    digest.toggle(1, 11, BASE_MS, BASE_MS)
    digest.toggle(2, 22, BASE_MS + 2 * HORIZON_MS, BASE_MS + 2 * HORIZON_MS)
    assert digest.settled(BASE_MS) is None
    settled = digest.settled(BASE_MS + 2 * HORIZON_MS)
    assert settled is not None
    assert (settled[1], settled[2]) == (11, 0)


def test_the_form_on_the_wire_is_fixed() -> None:
    assert entry_digest(bytes(16), 0, bytes(16)) == 4194959972174826227
    assert slot_digest_of(EMPTY_BUCKETS) == 0
