"""Group commit and durability: what is acknowledged is on disk, and one fsync serves many."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests.unit.store.making import make_record, row

from coterie_node.store.errors import StoreClosed, StoreError, Unstorable
from coterie_node.store.store import Store
from coterie_node.store.tx import Transaction
from coterie_node.store.writer import Commit

WRITER = """
import asyncio, sys
from pathlib import Path
from coterie_node.store.store import Store
from tests.unit.store.making import make_record, row

async def main() -> None:
    store = await Store.open(Path(sys.argv[1]))

    async def write() -> None:
        while True:
            record = make_record(body=b"x" * 200)
            await store.transact(lambda tx: tx.insert(record))
            sys.stdout.write(record.id.hex() + "\\n")
            sys.stdout.flush()

    await asyncio.gather(*(write() for _ in range(8)))

asyncio.run(main())
"""


async def test_what_waits_shares_the_next_commit(store: Store) -> None:
    entered, let_go = threading.Event(), threading.Event()

    def occupy(tx: Transaction) -> None:
        tx.put_meta("first", b"1")
        entered.set()
        assert let_go.wait(10)

    first = asyncio.ensure_future(store.transact(occupy))
    await asyncio.to_thread(entered.wait, 10)
    waiting = [asyncio.ensure_future(store.transact(lambda tx: tx.insert(make_record()))) for _ in range(500)]
    await asyncio.sleep(0)
    let_go.set()
    await asyncio.gather(first, *waiting)
    assert store.stats.commits == 2
    assert store.stats.functions == 501
    assert store.stats.records == 500


async def test_a_result_is_given_only_after_the_commit(store: Store, tmp_path: Path) -> None:
    for _ in range(20):
        record = make_record()
        await store.transact(lambda tx, record=record: tx.insert(record))  # type: ignore[misc]
        assert await store.read(lambda tx, record=record: tx.record(record.key)) == record  # type: ignore[misc]


async def test_a_cancelled_caller_disturbs_nobody(store: Store) -> None:
    entered, let_go = threading.Event(), threading.Event()

    def occupy(tx: Transaction) -> None:
        entered.set()
        assert let_go.wait(10)

    first = asyncio.ensure_future(store.transact(occupy))
    await asyncio.to_thread(entered.wait, 10)
    second = asyncio.ensure_future(store.transact(lambda tx: tx.put_meta("second", b"1")))
    await asyncio.sleep(0)
    second.cancel()
    let_go.set()
    await first
    await store.transact(lambda tx: tx.put_meta("third", b"1"))
    assert second.cancelled()


async def test_closing_commits_what_is_queued_and_refuses_what_comes(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "data")
    records = [make_record() for _ in range(50)]
    jobs = [asyncio.ensure_future(store.transact(lambda tx, r=r: tx.insert(r))) for r in records]  # type: ignore[misc]
    await asyncio.sleep(0)
    await store.close()
    assert await asyncio.gather(*jobs) == [None] * 50
    with pytest.raises(StoreClosed):
        await store.transact(lambda tx: tx.meta("uid"))
    with pytest.raises(StoreClosed):
        await store.read(lambda tx: tx.meta("uid"))
    await store.close()
    again = await Store.open(tmp_path / "data")
    assert await again.read(lambda tx: tx.record_count(3)) == 50
    await again.close()


async def test_a_reader_must_not_write(store: Store) -> None:
    with pytest.raises(StoreError, match="must not write"):
        await store.read(lambda tx: tx.put_meta("uid", b"1"))


async def test_a_reader_sees_nothing_that_is_not_committed(store: Store) -> None:
    entered, let_go = threading.Event(), threading.Event()
    before, record = make_record(), make_record()
    await store.transact(lambda tx: tx.insert(before))

    def write(tx: Transaction) -> None:
        tx.insert(record)
        entered.set()
        assert let_go.wait(10)

    def look(tx: Transaction) -> tuple[object, ...]:
        return (
            tx.record(record.key),
            tx.record_count(3),
            tx.mailbox_size(3, "alice"),
            tx.slot_digest(3, 1 << 62),
            tx.slots_with_records(),
        )

    seen = await store.read(look)
    writing = asyncio.ensure_future(store.transact(write))
    await asyncio.to_thread(entered.wait, 10)
    assert await store.read(look) == seen
    let_go.set()
    await writing
    now = await store.read(look)
    assert now[:3] == (record, 2, (2, row(before) + row(record)))
    assert now[3] != seen[3]


async def test_a_value_that_cannot_be_stored_fails_only_its_own_function(store: Store) -> None:
    results = await asyncio.gather(
        store.transact(lambda tx: tx.put_meta("a", b"1")),
        store.transact(lambda tx: tx.insert(make_record(stored_at=1 << 70))),
        store.transact(lambda tx: tx.insert(make_record(sender="\ud800"))),
        store.transact(lambda tx: tx.put_meta("b", b"1")),
        return_exceptions=True,
    )
    assert results[0] is None
    assert results[3] is None
    assert isinstance(results[1], Unstorable)
    assert isinstance(results[2], Unstorable)
    assert store.healthy
    assert await store.read(lambda tx: (tx.meta("a"), tx.meta("b"), tx.record_count(3))) == (b"1", b"1", 0)


async def test_commits_are_reported_with_their_times(store: Store) -> None:
    seen: list[Commit] = []
    store.watchers.committed.append(seen.append)
    await store.transact(lambda tx: tx.merge([make_record() for _ in range(5)]))
    (commit,) = seen
    assert (commit.functions, commit.records) == (1, 5)
    assert 0 < commit.sync_seconds <= commit.seconds


async def test_kill_9_loses_nothing_acknowledged(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join((str(root), *filter(None, sys.path))))
    process = subprocess.Popen(  # noqa: ASYNC220 - it is read line by line
        [sys.executable, "-c", WRITER, str(tmp_path / "data")], stdout=subprocess.PIPE, env=environment, text=True
    )
    assert process.stdout is not None
    acknowledged = [process.stdout.readline() for _ in range(1_000)]
    process.send_signal(signal.SIGKILL)
    acknowledged += process.stdout.readlines()
    process.wait(10)
    process.stdout.close()
    ids = {bytes.fromhex(line) for line in acknowledged if line.endswith("\n")}
    assert len(ids) >= 1_000
    store = await Store.open(tmp_path / "data")
    held = await store.read(lambda tx: {record.id for record in tx.pending(3, "alice", (-1, b""), 1 << 40, 1 << 40)})
    assert ids <= held
    await store.close()
