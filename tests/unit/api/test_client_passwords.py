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
    hashed = await pool.hash(KEY)
    assert hashed != await pool.hash(KEY)
    assert await pool.check(KEY, hashed)
    assert not await pool.check(base64.b64encode(b"l" * 32), hashed)
    pool.close()


async def test_a_full_queue_is_busy_and_says_for_how_long() -> None:
    pool = PasswordPool(4, threads=1, queue=2)
    first = asyncio.gather(pool.hash(KEY), pool.hash(KEY))
    await asyncio.sleep(0)
    with pytest.raises(CoterieError) as caught:
        await pool.hash(KEY)
    assert caught.value.wire_code is ErrorCode.BUSY
    assert caught.value.value > 0
    await first
    assert await pool.hash(KEY)
    pool.close()
