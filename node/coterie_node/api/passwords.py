"""bcrypt in threads of its own: it takes a fifth of a second a hash, releases the GIL, and must never hold up the loop.

Few threads, and one short queue a caller names (who asks, for one): the queues are served in turn, so that a flood in
one of them costs another one turn at most. All together are bounded. When they are full, the longest gives a place up:
whoever came to it last, or the newcomer itself, hears BUSY with the time after which its turn could come.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import bcrypt

from coterie_protocol.errors import CoterieError, ErrorCode

T = TypeVar("T")
Turn = asyncio.Future[None]

FIRST_GUESS_SECONDS = 0.25
"""How long a hash takes, until some have been measured."""


class PasswordPool:
    """Hashes and checks base64(auth key): 44 bytes, within bcrypt's 72. `cost` is bcrypt's, a power of two.

    `queue` is how many may wait for a thread, all queues together.
    """

    def __init__(self, cost: int = 12, threads: int | None = None, queue: int = 64) -> None:
        self._cost = cost
        self._threads = threads or max(1, min(4, (os.cpu_count() or 1) - 1))
        self._most = queue
        self._running = 0
        self._waiting = 0
        self._queues: dict[str, deque[Turn]] = {}
        """Those that wait, the queue whose turn is next first."""
        self._seconds = FIRST_GUESS_SECONDS
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="bcrypt")

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
        loop = asyncio.get_running_loop()
        await self._turn(queue)
        begun = loop.time()
        try:
            return await loop.run_in_executor(self._pool, work)
        finally:
            self._seconds += 0.2 * (loop.time() - begun - self._seconds)
            self._next()

    async def _turn(self, queue: str) -> None:
        """Wait for a thread. Raises BUSY."""
        if self._running < self._threads:
            self._running += 1
            return
        if self._waiting >= self._most:
            self._make_room(queue)
        turn: Turn = asyncio.get_running_loop().create_future()
        self._queues.setdefault(queue, deque()).append(turn)
        self._waiting += 1
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._next()  # The thread was ours already.
            else:
                self._forget(queue, turn)
            raise

    def _make_room(self, queue: str) -> None:
        """Send the last of the longest queue away. Raises BUSY when that would be who asks."""
        longest = max(self._queues, key=lambda name: len(self._queues[name]))
        if len(self._queues[longest]) <= len(self._queues.get(queue, ())) + 1:
            raise self._busy(queue)
        last = self._queues[longest][-1]
        error = self._busy(longest)
        self._forget(longest, last)
        last.set_exception(error)

    def _next(self) -> None:
        """Give a thread that is free to the next one."""
        if not self._queues:
            self._running -= 1
            return
        queue = next(iter(self._queues))
        turns = self._queues.pop(queue)
        turn = turns.popleft()
        self._waiting -= 1
        if turns:
            self._queues[queue] = turns
        turn.set_result(None)

    def _forget(self, queue: str, turn: Turn) -> None:
        turns = self._queues[queue]
        turns.remove(turn)
        self._waiting -= 1
        if not turns:
            del self._queues[queue]

    def _busy(self, queue: str) -> CoterieError:
        turns = len(self._queues.get(queue, ())) + 1
        ahead = sum(min(len(some), turns) for some in self._queues.values())
        wait = max(1, round(1000 * self._seconds * max(ahead, 1) / self._threads))
        return CoterieError(f"too many logins at once; try again in {wait} ms", code=ErrorCode.BUSY, value=wait)
