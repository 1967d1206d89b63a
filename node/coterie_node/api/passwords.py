"""bcrypt in threads of its own: it takes a fifth of a second a hash, releases the GIL, and must never hold up the loop.

Few threads, and short queues of who asks, which are served in turn (`chat.queues`).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import bcrypt

from coterie_node.chat.queues import Queues

T = TypeVar("T")

FIRST_GUESS_SECONDS = 0.25
"""How long a hash takes, until some have been measured."""


class PasswordPool:
    """Hashes and checks base64(auth key): 44 bytes, within bcrypt's 72. `cost` is bcrypt's, a power of two.

    `queue` is how many may wait for a thread, all queues together.
    """

    def __init__(self, cost: int = 12, threads: int | None = None, queue: int = 64) -> None:
        self._cost = cost
        threads = threads or max(1, min(4, (os.cpu_count() or 1) - 1))
        self.queues = Queues(threads, queue, "logins", FIRST_GUESS_SECONDS, lambda: asyncio.get_running_loop().time())
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="bcrypt")

    async def hash(self, password: bytes, queue: str) -> bytes:
        """Hash with a new salt. Raises BUSY."""
        return await self._run(queue, lambda: bcrypt.hashpw(password, bcrypt.gensalt(self._cost)))

    async def check(self, password: bytes, hashed: bytes, queue: str) -> bool:
        """Check against a hash. Raises BUSY."""
        return await self._run(queue, lambda: bcrypt.checkpw(password, hashed))

    def close(self) -> None:
        """Take nothing more; what is under way ends by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _run(self, queue: str, work: Callable[[], T]) -> T:
        async with self.queues.turn(queue):
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
