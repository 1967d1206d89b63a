"""bcrypt in threads of its own: it takes a fifth of a second a hash, releases the GIL, and must never hold up the loop.

Few threads and a short queue: beyond it callers hear BUSY with the time after which their turn could come.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import bcrypt

from coterie_protocol.errors import CoterieError, ErrorCode

T = TypeVar("T")

FIRST_GUESS_SECONDS = 0.25
"""How long a hash takes, until some have been measured."""


class PasswordPool:
    """Hashes and checks base64(auth key): 44 bytes, within bcrypt's 72. `cost` is bcrypt's, a power of two."""

    def __init__(self, cost: int = 12, threads: int | None = None, queue: int = 64) -> None:
        self._cost = cost
        self._threads = threads or max(1, min(4, (os.cpu_count() or 1) - 1))
        self._queue = queue
        self._under_way = 0
        self._seconds = FIRST_GUESS_SECONDS
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="bcrypt")

    async def hash(self, password: bytes) -> bytes:
        """Hash with a new salt. Raises BUSY."""
        return await self._run(lambda: bcrypt.hashpw(password, bcrypt.gensalt(self._cost)))

    async def check(self, password: bytes, hashed: bytes) -> bool:
        """Check against a hash. Raises BUSY."""
        return await self._run(lambda: bcrypt.checkpw(password, hashed))

    def close(self) -> None:
        """Take nothing more; what is under way ends by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _run(self, work: Callable[[], T]) -> T:
        if self._under_way >= self._queue:
            wait = round(1000 * self._seconds * self._under_way / self._threads)
            raise CoterieError(f"too many logins at once; try again in {wait} ms", code=ErrorCode.BUSY, value=wait)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        self._under_way += 1
        waited = max(1.0, self._under_way / self._threads)
        try:
            return await loop.run_in_executor(self._pool, work)
        finally:
            self._under_way -= 1
            self._seconds += 0.2 * ((loop.time() - begun) / waited - self._seconds)
