"""The bcrypt pool."""

from __future__ import annotations

import asyncio
import base64

import pytest

from coterie_node.api.passwords import PasswordPool
from coterie_protocol.errors import CoterieError, ErrorCode

KEY = base64.b64encode(b"k" * 32)


async def test_it_hashes_and_checks() -> None:
    pool = PasswordPool(4)
    hashed = await pool.hash(KEY, "ann")
    assert hashed != await pool.hash(KEY, "ann")
    assert await pool.check(KEY, hashed, "ann")
    assert not await pool.check(base64.b64encode(b"l" * 32), hashed, "ann")
    pool.close()


async def test_a_full_queue_is_busy_and_says_for_how_long() -> None:
    pool = PasswordPool(4, threads=1, queue=1)
    first = asyncio.gather(pool.hash(KEY, "ann"), pool.hash(KEY, "ann"))
    await asyncio.sleep(0)
    with pytest.raises(CoterieError) as caught:
        await pool.hash(KEY, "ann")
    assert caught.value.wire_code is ErrorCode.BUSY
    assert caught.value.value > 0
    await first
    assert await pool.hash(KEY, "ann")
    pool.close()


async def test_a_flood_of_one_source_costs_another_one_turn() -> None:
    pool = PasswordPool(6, threads=1, queue=64)
    order: list[str] = []

    async def hashed(queue: str) -> None:
        await pool.hash(KEY, queue)
        order.append(queue)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(20):
            tasks.create_task(hashed("flood"))
        await asyncio.sleep(0)
        tasks.create_task(hashed("ann"))
        tasks.create_task(hashed("bob"))
        tasks.create_task(hashed("bob"))
    assert order.index("ann") <= 3
    assert [at for at, one in enumerate(order) if one == "bob"][1] <= 6
    pool.close()


async def test_a_flood_that_fills_all_queues_gives_places_up() -> None:
    pool = PasswordPool(6, threads=1, queue=10)
    flood = [asyncio.create_task(pool.hash(KEY, "flood")) for _ in range(11)]
    await asyncio.sleep(0)
    others = [asyncio.create_task(pool.hash(KEY, f"source {number}")) for number in range(5)]
    await asyncio.sleep(0)
    assert pool.queues.waiting == 10
    results = await asyncio.gather(*flood, *others, return_exceptions=True)
    assert not [one for one in results[11:] if isinstance(one, BaseException)]
    refused = [one for one in results[:11] if isinstance(one, CoterieError)]
    assert len(refused) == 5
    assert all(one.wire_code is ErrorCode.BUSY and one.value > 0 for one in refused)
    assert (pool.queues.waiting, pool.queues.running) == (0, 0)
    pool.close()


async def test_who_goes_away_leaves_no_place_taken() -> None:
    pool = PasswordPool(6, threads=1, queue=4)
    first, gone, last = (asyncio.create_task(pool.hash(KEY, name)) for name in ("a", "b", "c"))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(first, last)
    assert gone.cancelled()
    granted = [asyncio.create_task(pool.hash(KEY, name)) for name in ("a", "b")]
    await granted[0]
    granted[1].cancel()  # It may have its turn just now.
    await asyncio.gather(*granted, return_exceptions=True)
    assert (pool.queues.waiting, pool.queues.running, pool.queues._queues) == (0, 0, {})
    pool.close()
