"""What only so many may do at once: the others wait in queues, which are served in turn.

One queue a caller names (who asks, for one), so that a flood in one of them costs another one turn at most. All
together are bounded. When they are full, the longest gives a place up: whoever came to it last, or the newcomer itself,
hears BUSY with the time after which its turn could come. Free of sockets and clocks.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable

from coterie_protocol.errors import CoterieError, ErrorCode

Turn = asyncio.Future[None]


class Queues:
    """Lets `at_once` in at the same time, and `most` wait, all queues together.

    `what` is for the refusal; `seconds` is how long one takes, until some have been measured by `now()`.
    """

    def __init__(self, at_once: int, most: int, what: str, seconds: float, now: Callable[[], float]) -> None:
        self._at_once = at_once
        self._most = most
        self._what = what
        self._seconds = seconds
        self._now = now
        self.running = 0
        """Who is in ..."""
        self.waiting = 0
        """... and who waits."""
        self._queues: dict[str, deque[Turn]] = {}
        """Those that wait, the queue whose turn is next first."""

    @contextlib.asynccontextmanager
    async def turn(self, queue: str) -> AsyncIterator[None]:
        """Be in for the block, once it is one's turn. Raises BUSY."""
        await self._turn(queue)
        begun = self._now()
        try:
            yield
        finally:
            self._seconds += 0.2 * (self._now() - begun - self._seconds)
            self._next()

    async def _turn(self, queue: str) -> None:
        if self.running < self._at_once:
            self.running += 1
            return
        if self.waiting >= self._most:
            self._make_room(queue)
        turn: Turn = asyncio.get_running_loop().create_future()
        self._queues.setdefault(queue, deque()).append(turn)
        self.waiting += 1
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._next()  # The place was ours already.
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
        """Give a place that is free to the next one."""
        if not self._queues:
            self.running -= 1
            return
        queue = next(iter(self._queues))
        turns = self._queues.pop(queue)
        turn = turns.popleft()
        self.waiting -= 1
        if turns:
            self._queues[queue] = turns
        turn.set_result(None)

    def _forget(self, queue: str, turn: Turn) -> None:
        turns = self._queues[queue]
        turns.remove(turn)
        self.waiting -= 1
        if not turns:
            del self._queues[queue]

    def _busy(self, queue: str) -> CoterieError:
        turns = len(self._queues.get(queue, ())) + 1
        ahead = sum(min(len(some), turns) for some in self._queues.values())
        wait = max(1, round(1000 * self._seconds * max(ahead, 1) / self._at_once))
        return CoterieError(f"too many {self._what} at once; try again in {wait} ms", code=ErrorCode.BUSY, value=wait)
