"""The ceiling of the disk: the store alone, committing messages of the same size as they queue up."""

from __future__ import annotations

import asyncio
import os
import random
import time
from functools import partial
from pathlib import Path

from coterie_node.store.store import Store
from coterie_node.store.tx import Transaction
from coterie_protocol.identifiers import DEFAULT_SLOTS, message_id
from coterie_protocol.records import Record, State

from .load import BODY_BYTES
from .measure import Measured, measured


async def measure_commit(directory: Path, writers: int, seconds: float) -> Measured:
    """Let `writers` insert records, one at a time each, and measure until each is fsynced."""
    store = await Store.open(directory)
    latencies: list[float] = []
    begin = time.perf_counter()
    try:
        await asyncio.gather(*(_stream(store, f"bench-{i}", begin + seconds, latencies) for i in range(writers)))
        return measured(latencies, time.perf_counter() - begin)
    finally:
        await store.close()


async def _stream(store: Store, sender: str, end: float, latencies: list[float]) -> None:
    body = os.urandom(BODY_BYTES)
    while (now := time.perf_counter()) < end:
        at = int(time.time() * 1000)
        slot = random.randrange(DEFAULT_SLOTS)
        record = Record(
            slot,
            f"owner-{slot}",
            sender,
            message_id(at, os.urandom(10)),
            0,
            State.PENDING,
            body,
            BODY_BYTES,
            b"",
            1,
            at,
            at,
        )
        await store.transact(partial(_insert, record))
        latencies.append(time.perf_counter() - now)


def _insert(record: Record, tx: Transaction) -> None:
    tx.insert(record)
