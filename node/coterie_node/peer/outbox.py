"""What waits to be written to one peer: urgent frames first, bulk in pieces when nothing urgent is there."""

from __future__ import annotations

import asyncio
from collections import deque

from coterie_protocol.frames import join

from .settings import PeerSettings

URGENT_MESSAGE = 1024 * 1024
"""A message of urgent frames closes at this size: the receiver takes up to MAX_PEER_FRAME_BYTES at once."""


class Outbox:
    """Two bounded queues of encoded frames. It belongs to one event loop and one writer."""

    def __init__(self, settings: PeerSettings) -> None:
        self._settings = settings
        self._urgent: list[bytes] = []
        self._urgent_bytes = 0
        self._bulk: deque[bytes] = deque()
        self._bulk_bytes = 0
        self._work: asyncio.Future[None] | None = None
        self._space: deque[asyncio.Future[None]] = deque()
        self._closed = False
        self._finished = False

    def put(self, frame: bytes) -> bool:
        """Queue an urgent frame; False when the peer is too slow: what waits for it has reached the limit."""
        self._urgent.append(frame)
        self._urgent_bytes += len(frame)
        self._wake_writer()
        return self._urgent_bytes <= self._settings.urgent_bytes and len(self._urgent) <= self._settings.urgent_frames

    def put_bulk(self, frame: bytes) -> None:
        """Queue a frame behind everything urgent."""
        self._bulk.append(frame)
        self._bulk_bytes += len(frame)
        self._wake_writer()

    def _wake_writer(self) -> None:
        if (work := self._work) is not None:
            self._work = None
            if not work.done():
                work.set_result(None)

    @property
    def bulk_full(self) -> bool:
        """Say whether no more bulk should be queued just now."""
        return self._bulk_bytes >= self._settings.bulk_bytes

    async def bulk_space(self) -> None:
        """Wait until bulk may be queued, in the order of asking. Returns when the outbox is closed, too."""
        while (self.bulk_full or self._space) and not self._closed:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._space.append(waiter)
            try:
                await waiter
            finally:
                self._give_space(waiter)
            if not self.bulk_full:
                return

    def _give_space(self, leaving: asyncio.Future[None]) -> None:
        if leaving in self._space:
            self._space.remove(leaving)
        self._wake_next()

    def _wake_next(self) -> None:
        if self._space and not self.bulk_full and not self._space[0].done():
            self._space[0].set_result(None)

    async def message(self) -> bytes:
        """Wait for the next message to write; b"" when all is written and nothing more will come.

        Everything urgent that was queued in one turn of the loop goes into one message.
        """
        while True:
            if self._urgent:
                return self._urgent_message()
            if self._bulk:
                return self._bulk_message()
            if self._finished:
                return b""
            self._work = asyncio.get_running_loop().create_future()
            await self._work

    def finish(self) -> None:
        """Let `message` end once everything that waits has been written."""
        self._finished = True
        self._wake_writer()

    def close(self) -> None:
        """Drop everything; nobody waits for space any longer."""
        self._closed = True
        self._urgent.clear()
        self._bulk.clear()
        self._urgent_bytes = self._bulk_bytes = 0
        for waiter in self._space:
            if not waiter.done():
                waiter.set_result(None)

    def _urgent_message(self) -> bytes:
        if self._urgent_bytes <= URGENT_MESSAGE or len(self._urgent) == 1:
            frames, self._urgent = self._urgent, []
            self._urgent_bytes = 0
            return join(frames)
        size = count = 0
        for frame in self._urgent:
            if count and size + len(frame) > URGENT_MESSAGE:
                break
            size += len(frame)
            count += 1
        frames = self._urgent[:count]
        del self._urgent[:count]
        self._urgent_bytes -= size
        return join(frames)

    def _bulk_message(self) -> bytes:
        frames: list[bytes] = []
        size = 0
        while self._bulk and (not frames or size + len(self._bulk[0]) <= self._settings.bulk_chunk):
            frame = self._bulk.popleft()
            frames.append(frame)
            size += len(frame)
        self._bulk_bytes -= size
        self._wake_next()
        return join(frames)
