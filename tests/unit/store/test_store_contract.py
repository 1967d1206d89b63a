"""What replication and chat may rely on, of the SQLite store and of the simulation's one alike."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

import pytest
from tests.unit.store.making import cursor_of, make_record, moved, random_record, row

from coterie_node.runtime.ports import FIRST, NO_LIMIT_MS, Store, Tx
from coterie_protocol.identifiers import Uid
from coterie_protocol.records import Record, RecordKey, State, Version, key_hash, record_digest, version_of
from coterie_protocol.registers import (
    ACCOUNT_ZERO,
    AccountBallot,
    AccountRegister,
    Ballot,
    Config,
    SlotRegister,
)
from coterie_protocol.weight import weight_of_record

BALLOT = Ballot(4, "p")
CONFIG = Config(1, Ballot(1, "p"), (), (Uid("a" * 32), Uid("b" * 32)))
MANY = 1_000_000


def merging(records: Sequence[Record]) -> Callable[[Tx], list[Record]]:
    return lambda tx: tx.merge(records)


def promising(register: SlotRegister) -> Callable[[Tx], None]:
    return lambda tx: tx.put_slot_register(1, register)


def pending_after(after: tuple[int, bytes]) -> Callable[[Tx], list[Record]]:
    return lambda tx: tx.pending(3, "alice", after, 7, MANY)


def versions_after(after: tuple[int, bytes]) -> Callable[[Tx], list[Version]]:
    return lambda tx: tx.versions(3, None, after, 64, NO_LIMIT_MS)


async def test_meta_is_set_replaced_and_removed(any_store: Store) -> None:
    await any_store.transact(lambda tx: tx.put_meta("uid", b"1"))
    await any_store.transact(lambda tx: tx.put_meta("uid", b"2"))
    assert await any_store.read(lambda tx: tx.meta("uid")) == b"2"
    await any_store.transact(lambda tx: tx.put_meta("uid", None))
    assert await any_store.read(lambda tx: tx.meta("uid")) is None


async def test_many_records_are_read_as_one_by_one(any_store: Store) -> None:
    rng = random.Random(5)
    records = [random_record(rng) for _ in range(200)]
    await any_store.transact(lambda tx: tx.merge(records))
    keys = [record.key for record in records] + [make_record().key]

    def read(tx: Tx) -> tuple[list[Record | None], list[Record | None]]:
        return tx.records(keys), [tx.record(key) for key in keys]

    together, alone = await any_store.read(read)
    assert together == alone
    assert together[-1] is None
    assert await any_store.read(lambda tx: tx.records([])) == []


async def test_registers_come_back_as_they_were_written(any_store: Store) -> None:
    slot = SlotRegister(BALLOT, Ballot(2, "q"), CONFIG)
    account = AccountRegister(AccountBallot(1, 7, "p"), AccountBallot(1, 6, "p"), b"value")

    def write(tx: Tx) -> None:
        tx.put_slot_register(9, slot)
        tx.put_slot_register(2, SlotRegister(BALLOT, Ballot(0, ""), None))
        tx.put_account(9, "zoë", account)

    await any_store.transact(write)
    assert await any_store.read(lambda tx: tx.slot_register(9)) == slot
    assert await any_store.read(lambda tx: tx.slot_register(1)) is None
    assert [number for number, _ in await any_store.read(lambda tx: list(tx.slot_registers()))] == [2, 9]
    assert await any_store.read(lambda tx: tx.account(9, "zoë")) == account
    assert await any_store.read(lambda tx: tx.account(9, "nobody")) is None


async def test_the_mark_is_never_below_a_promise(any_store: Store) -> None:
    assert await any_store.read(lambda tx: tx.mark()) == 0
    for counter in (3, 70, 5, 200):
        promise = SlotRegister(Ballot(counter, "p"), Ballot(0, ""), None)
        await any_store.transact(promising(promise))
    assert await any_store.read(lambda tx: tx.mark()) >= 200
    account = AccountRegister(AccountBallot(2, 900, "p"), ACCOUNT_ZERO, None)
    await any_store.transact(lambda tx: tx.put_account(1, "a", account))
    assert await any_store.read(lambda tx: tx.mark()) >= 900


async def test_accounts_are_listed_counted_and_dropped(any_store: Store) -> None:
    promise = AccountRegister(AccountBallot(1, 1, "p"), ACCOUNT_ZERO, None)
    valued = AccountRegister(AccountBallot(1, 1, "p"), AccountBallot(1, 1, "p"), b"v")

    def write(tx: Tx) -> None:
        for name in ("b", "a", "c"):
            tx.put_account(1, name, promise)
        tx.put_account(1, "b", valued)
        tx.put_account(1, "c", valued)
        tx.put_account(2, "d", valued)
        assert tx.account_count(1) == 2

    await any_store.transact(write)
    assert [name for name, _ in await any_store.read(lambda tx: tx.accounts(1, "", 2))] == ["a", "b"]
    assert await any_store.read(lambda tx: tx.accounts(1, "b", 2)) == [("c", valued)]
    assert await any_store.read(lambda tx: tx.slots_with_accounts()) == {1: 2, 2: 1}
    assert await any_store.transact(lambda tx: tx.drop_accounts(1)) == 2
    assert await any_store.read(lambda tx: tx.accounts(1, "", 9)) == []
    assert await any_store.read(lambda tx: tx.slots_with_accounts()) == {2: 1}


async def test_insert_answers_what_is_held(any_store: Store) -> None:
    record = make_record(body=b"one")
    assert await any_store.transact(lambda tx: tx.insert(record)) is None
    other = make_record(id=record.id, body=b"two")
    assert await any_store.transact(lambda tx: tx.insert(other)) == record
    assert await any_store.read(lambda tx: tx.record(record.key)) == record
    third = make_record()
    answers = await any_store.transact(lambda tx: tx.insert_many([third, other, third]))
    assert answers == [None, record, third]


async def test_merge_keeps_the_greater_version_and_says_what_changed(any_store: Store) -> None:
    record, other = make_record(), make_record()
    archived = moved(record, State.ARCHIVED, b"sealed")
    assert await any_store.transact(lambda tx: tx.merge([record, other])) == [record, other]
    assert await any_store.transact(lambda tx: tx.merge([record])) == []
    assert await any_store.transact(lambda tx: tx.merge([archived, other])) == [archived]
    assert await any_store.transact(lambda tx: tx.merge([record])) == []
    assert await any_store.read(lambda tx: tx.record(record.key)) == archived
    unheard = moved(make_record(), State.DELETED)
    assert await any_store.transact(lambda tx: tx.merge([unheard])) == [unheard]


async def test_of_two_versions_with_one_state_the_greater_digest_wins(any_store: Store) -> None:
    record = make_record()
    versions = [moved(record, State.ARCHIVED, bytes((byte,))) for byte in range(8)]
    greatest = max(versions, key=record_digest)
    for version in versions:
        await any_store.transact(merging([version]))
    assert await any_store.read(lambda tx: tx.record(record.key)) == greatest


async def test_pending_is_paged_in_the_order_of_storing(any_store: Store) -> None:
    records = [make_record(stored_at=1_000 + number // 3, body=b"x" * 10) for number in range(20)]
    noise = [make_record(owner="bob"), make_record(slot=4), moved(make_record(), State.ARCHIVED, b"a")]
    await any_store.transact(lambda tx: tx.merge(records + noise))
    expected = sorted(records, key=cursor_of)
    seen: list[Record] = []
    after = FIRST
    while page := await any_store.read(pending_after(after)):
        assert len(page) <= 7
        seen += page
        after = cursor_of(page[-1])
    assert seen == expected
    assert (
        await any_store.read(lambda tx: tx.pending(3, "alice", FIRST, 100, 3 * weight_of_record(records[0]) + 5))
        == expected[:3]
    )
    assert await any_store.read(lambda tx: tx.pending(3, "alice", FIRST, 100, 1)) == expected[:1]


async def test_the_archive_is_paged_newest_first_without_attachments(any_store: Store) -> None:
    records = [moved(make_record(stored_at=1_000 + number), State.ARCHIVED, b"sealed") for number in range(9)]
    part = moved(make_record(part=1), State.ARCHIVED, b"part")
    await any_store.transact(lambda tx: tx.merge([*records, part, make_record()]))
    expected = sorted(records, key=cursor_of, reverse=True)
    first = await any_store.read(lambda tx: tx.archive_page(3, "alice", None, 4, MANY))
    assert first == expected[:4]
    rest = await any_store.read(lambda tx: tx.archive_page(3, "alice", cursor_of(first[-1]), 100, MANY))
    assert rest == expected[4:]


async def test_mailbox_size_follows_every_change(any_store: Store) -> None:
    records = [make_record(body=b"x" * size) for size in (1, 10, 100)]

    def insert_and_ask(tx: Tx) -> tuple[int, int]:
        tx.insert_many(records)
        return tx.mailbox_size(3, "alice")

    assert await any_store.read(lambda tx: tx.mailbox_size(3, "alice")) == (0, 0)
    assert await any_store.transact(insert_and_ask) == (3, sum(map(row, records)))
    assert await any_store.read(lambda tx: tx.mailbox_size(3, "alice")) == (3, sum(map(row, records)))
    await any_store.transact(lambda tx: tx.merge([moved(records[1], State.ARCHIVED, b"s")]))
    assert await any_store.read(lambda tx: tx.mailbox_size(3, "alice")) == (2, row(records[0]) + row(records[2]))
    await any_store.transact(lambda tx: tx.give_up([version_of(records[2])]))
    assert await any_store.read(lambda tx: tx.mailbox_size(3, "alice")) == (1, row(records[0]))
    assert await any_store.read(lambda tx: tx.mailbox_size(3, "nobody")) == (0, 0)


async def test_archive_size_follows_every_change_and_counts_attachments(any_store: Store) -> None:
    records = [make_record(body=b"x" * size, part=part) for part, size in enumerate((1, 10, 100))]
    archived = [moved(record, State.ARCHIVED, b"s" * (record.part + 1)) for record in records]

    def merge_and_ask(tx: Tx) -> tuple[int, int]:
        tx.merge(archived[:2])
        return tx.archive_size(3, "alice")

    await any_store.transact(lambda tx: tx.merge(records))
    assert await any_store.read(lambda tx: tx.archive_size(3, "alice")) == (0, 0)
    assert await any_store.transact(merge_and_ask) == (2, sum(map(row, archived[:2])))
    await any_store.transact(lambda tx: tx.merge([archived[2], moved(make_record(owner="bob"), State.ARCHIVED, b"s")]))
    assert await any_store.read(lambda tx: tx.archive_size(3, "alice")) == (3, sum(map(row, archived)))
    assert await any_store.read(lambda tx: tx.mailbox_size(3, "alice")) == (0, 0)
    await any_store.transact(lambda tx: tx.merge([moved(archived[0], State.DELETED)]))
    await any_store.transact(lambda tx: tx.give_up([version_of(archived[1])]))
    assert await any_store.read(lambda tx: tx.archive_size(3, "alice")) == (1, row(archived[2]))


async def test_versions_are_paged_by_bucket_and_key_hash(any_store: Store) -> None:
    records = [make_record(stored_at=1_000 + number) for number in range(300)]
    await any_store.transact(lambda tx: tx.merge(records))
    by_hash = sorted(records, key=lambda record: key_hash(record.key))
    seen = []
    after = FIRST
    while page := await any_store.read(versions_after(after)):
        seen += page
        last = key_hash(page[-1].key)
        after = (last[0], last)
    assert seen == [version_of(record) for record in by_hash]
    buckets = [key_hash(record.key)[0] for record in by_hash]
    wanted = list(dict.fromkeys((buckets[8], buckets[240], buckets[36], buckets[-1])))
    some = [version_of(record) for record in by_hash if key_hash(record.key)[0] in wanted]
    assert await any_store.read(lambda tx: tx.versions(3, wanted, FIRST, 1000, NO_LIMIT_MS)) == some
    half = key_hash(some[len(some) // 2].key)
    later = [version for version in some if key_hash(version.key) > half]
    assert await any_store.read(lambda tx: tx.versions(3, wanted, (half[0], half), 1000, NO_LIMIT_MS)) == later
    settled = await any_store.read(lambda tx: tx.versions(3, None, FIRST, 1000, 1_010))
    assert {version.stored_at for version in settled} == set(range(1_000, 1_010))
    from_bucket = await any_store.read(lambda tx: tx.versions(3, None, (100, b""), 1000, NO_LIMIT_MS))
    assert from_bucket == [version_of(record) for record in by_hash if key_hash(record.key)[0] >= 100]


async def test_digests_tell_equal_from_different(any_store: Store) -> None:
    def digest(tx: Tx, slot: int = 3, before: int = NO_LIMIT_MS) -> int:
        return tx.slot_digest(slot, before)

    record = make_record(stored_at=2_000)
    assert await any_store.read(digest) == 0
    assert await any_store.read(lambda tx: tx.bucket_digests(3, NO_LIMIT_MS)) == bytes(2048)
    await any_store.transact(lambda tx: tx.insert(record))
    pending = await any_store.read(digest)
    assert pending != 0
    assert await any_store.read(lambda tx: tx.slot_digest(3, 2_000)) == 0
    assert await any_store.read(lambda tx: tx.slot_digest(3, 2_001)) == pending
    buckets = await any_store.read(lambda tx: tx.bucket_digests(3, NO_LIMIT_MS))
    bucket = key_hash(record.key)[0]
    assert buckets[8 * bucket : 8 * bucket + 8] != bytes(8)
    assert not any(buckets[: 8 * bucket] + buckets[8 * bucket + 8 :])
    await any_store.transact(lambda tx: tx.merge([moved(record, State.ARCHIVED)]))
    assert await any_store.read(digest) not in (0, pending)
    await any_store.transact(lambda tx: tx.give_up([version_of(moved(record, State.ARCHIVED))]))
    assert await any_store.read(digest) == 0


async def test_give_up_takes_exactly_the_versions(any_store: Store) -> None:
    kept, gone = make_record(), make_record()
    changed = moved(kept, State.ARCHIVED, b"s")
    await any_store.transact(lambda tx: tx.merge([kept, gone, changed]))
    versions = [version_of(kept), version_of(gone), version_of(make_record())]
    assert await any_store.transact(lambda tx: tx.give_up(versions)) == 1
    assert await any_store.read(lambda tx: tx.record(kept.key)) == changed
    assert await any_store.read(lambda tx: tx.record(gone.key)) is None
    assert await any_store.read(lambda tx: tx.record_count(3)) == 1
    assert await any_store.read(lambda tx: tx.slots_with_records()) == {3: 1}


async def test_what_raises_leaves_no_write_and_takes_no_other_with_it(any_store: Store) -> None:
    class RefusedError(Exception):
        pass

    def refuse_late(tx: Tx) -> None:
        tx.put_meta("late", b"1")
        tx.insert(make_record())
        raise RefusedError

    def refuse_early(tx: Tx) -> None:
        raise RefusedError

    jobs = [
        any_store.transact(lambda tx: tx.put_meta("a", b"1")),
        any_store.transact(refuse_late),
        any_store.transact(refuse_early),
        any_store.transact(lambda tx: tx.put_meta("b", b"1")),
        any_store.transact(refuse_late),
        any_store.transact(lambda tx: (tx.meta("a"), tx.meta("b"), tx.meta("late"), tx.record_count(3))),
    ]
    results = await asyncio.gather(*jobs, return_exceptions=True)
    assert [type(result) for result in results[1:5]] == [RefusedError, RefusedError, type(None), RefusedError]
    assert results[5] == (b"1", b"1", None, 0)
    assert await any_store.read(lambda tx: (tx.meta("late"), tx.slots_with_records())) == (None, {})


async def test_functions_run_in_the_order_of_their_calls(any_store: Store) -> None:
    def adding(number: int) -> Callable[[Tx], bytes]:
        def add(tx: Tx) -> bytes:
            value = (tx.meta("seen") or b"") + bytes((number,))
            tx.put_meta("seen", value)
            return value

        return add

    results = await asyncio.gather(*(any_store.transact(adding(number)) for number in range(100)))
    assert results == [bytes(range(number + 1)) for number in range(100)]


@pytest.mark.parametrize("seed", range(3))
async def test_merging_in_any_order_ends_in_the_same_state(any_store: Store, seed: int) -> None:
    rng = random.Random(seed)
    records = [random_record(rng) for _ in range(400)]
    best: dict[RecordKey, Record] = {}
    for record in records:
        rival = best.get(record.key)
        if rival is None or (record.state, record_digest(record)) > (rival.state, record_digest(rival)):
            best[record.key] = record
    while records:
        size = rng.randrange(1, 60)
        part, records = records[:size], records[size:]
        await any_store.transact(merging(part))

    def everything(tx: Tx) -> dict[RecordKey, Record | None]:
        return {
            version.key: tx.record(version.key)
            for slot in range(3)
            for version in tx.versions(slot, None, FIRST, MANY, NO_LIMIT_MS)
        }

    assert await any_store.read(everything) == best


async def test_what_is_pending_for_too_long_is_found_whoever_owns_it(any_store: Store) -> None:
    old = [make_record(owner=owner, stored_at=1_000 + at) for owner in ("zoë", "alice", "bob") for at in range(3)]
    others = [
        make_record(stored_at=1_003),
        make_record(slot=4, stored_at=1),
        moved(make_record(stored_at=1), State.ARCHIVED, b"s"),
    ]
    await any_store.transact(lambda tx: tx.merge(old + others))
    found = await any_store.read(lambda tx: tx.pending_before(3, 1_003, MANY))
    assert sorted(record.id for record in found) == sorted(record.id for record in old)
    assert await any_store.read(lambda tx: len(tx.pending_before(3, 1_003, 4))) == 4
    assert await any_store.read(lambda tx: tx.pending_before(5, 1_003, 4)) == []
    assert await any_store.read(lambda tx: tx.pending_before(3, 1_000, 4)) == []


async def test_a_mailbox_is_counted_without_what_is_too_old(any_store: Store) -> None:
    records = [make_record(stored_at=1_000 + at, body=b"x" * 10) for at in range(5)]

    def insert_and_ask(tx: Tx) -> tuple[int, int]:
        tx.insert_many(records)
        return tx.mailbox_size(3, "alice", 1_002)

    assert await any_store.transact(insert_and_ask) == (3, sum(map(row, records[:3])))
    assert await any_store.read(lambda tx: tx.mailbox_size(3, "alice", 1_004)) == (1, row(records[0]))
    assert await any_store.read(lambda tx: tx.mailbox_size(3, "alice")) == (5, sum(map(row, records)))
    assert await any_store.read(lambda tx: tx.mailbox_size(3, "bob", 1_000)) == (0, 0)


async def test_tombstones_are_found_by_the_time_of_their_change(any_store: Store) -> None:
    gone = [
        moved(make_record(changed_at=at), state, later_ms=5) for at, state in ((30, State.DELETED), (10, State.EXPIRED))
    ]
    kept = [
        make_record(changed_at=1),
        moved(make_record(changed_at=1), State.ARCHIVED, b"s"),
        moved(make_record(changed_at=50), State.DELETED),
    ]
    await any_store.transact(lambda tx: tx.merge([*gone, *kept]))
    assert await any_store.read(lambda tx: tx.tombstones_before(3, 36, MANY)) == [
        version_of(gone[1]),
        version_of(gone[0]),
    ]
    assert await any_store.read(lambda tx: tx.tombstones_before(3, 36, 1)) == [version_of(gone[1])]
    assert await any_store.read(lambda tx: tx.tombstones_before(3, 15, MANY)) == []
    assert await any_store.transact(lambda tx: tx.give_up([version_of(one) for one in gone])) == 2
    assert await any_store.read(lambda tx: tx.tombstones_before(3, 36, MANY)) == []
