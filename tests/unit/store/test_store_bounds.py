"""What waits for a disk that hangs is bounded, and what is refused says so and was not done."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.unit.store.making import make_record

from coterie_node.store import store as store_module
from coterie_node.store import writer as writer_module
from coterie_node.store.errors import StoreBusy
from coterie_node.store.store import Store
from coterie_node.store.tx import Transaction


@contextmanager
def hanging() -> Iterator[threading.Event]:
    """Yield what a function may wait for, and set it at the end whatever comes."""
    free = threading.Event()
    try:
        yield free
    finally:
        free.set()


async def test_writes_that_wait_are_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "MAX_QUEUED", 50)
    began = threading.Event()
    with hanging() as free:

        def hang(_: Transaction) -> None:
            began.set()
            free.wait()

        first = asyncio.ensure_future(store.transact(hang))
        await asyncio.to_thread(began.wait)
        records = [make_record() for _ in range(60)]
        writing = [
            asyncio.ensure_future(store.transact(lambda tx, record=record: tx.insert(record)))  # type: ignore[misc]
            for record in records
        ]
        await asyncio.sleep(0)
        refused = [one for one in writing if one.done()]
        assert refused == writing[50:]
        for one in refused:
            with pytest.raises(StoreBusy, match="50 writes wait for the disk already"):
                one.result()
    await asyncio.gather(first, *writing[:50])
    held = await store.read(lambda tx: [tx.record(record.key) for record in records])
    assert [record is not None for record in held] == [True] * 50 + [False] * 10
    assert store.healthy
    await store.transact(lambda tx: tx.insert(records[-1]))


async def test_reads_that_wait_are_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "MAX_READS", 5)
    with hanging() as free:
        reading = [asyncio.ensure_future(store.read(lambda _: free.wait())) for _ in range(5)]
        await asyncio.sleep(0)
        with pytest.raises(StoreBusy, match="5 reads wait"):
            await store.read(lambda _: None)
    await asyncio.gather(*reading)
    assert await store.read(lambda _: 1) == 1
