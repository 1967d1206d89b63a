"""Writes archive copies: the acknowledgement of received mail, and the own copies of what was sent.

What is added while a request is under way goes into the next one, so many messages cost few requests. A copy that
cannot be written now stays known as unarchived on this device and pending in the mailbox, so nothing is lost by giving
up: it is offered again later.

A full archive takes no copies, but must not block mail: the messages are saved here, so they are acknowledged without.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from coterie_protocol.client_api import Archive, Discard
from coterie_protocol.errors import CoterieError, ErrorCode
from coterie_protocol.identifiers import message_id_text
from coterie_protocol.weight import FRAME, weight_of_copy

from .errors import ClientError, Unavailable, translate

if TYPE_CHECKING:
    from .connection import Connection
    from .history import History

MOST_ITEMS = 1000
MOST_BYTES = 256 * 1024
Item = tuple[str, bytes, int, bytes]
"""(sender, id, part, archive copy)."""


class Archiver:
    """Batches archive writes of one account over one connection."""

    def __init__(self, connection: Connection, history: History) -> None:
        self._connection = connection
        self._history = history
        self._queue: list[Item] = []
        self._task: asyncio.Task[None] | None = None
        self.failure: ClientError | None = None
        """Why the last write did not succeed; None after one that did."""
        self.refused: ClientError | None = None
        """Which message the ring refused to archive last, and why; the others went on."""
        self.on_full: Callable[[ClientError], None] | None = None
        """Hears once that the archive is full: what comes is acknowledged without a copy."""
        self._full = False

    def add(self, items: Iterable[Item]) -> None:
        """Archive these; they must be saved on this device already."""
        self._queue.extend(items)
        if self._queue and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._run())

    async def flush(self, timeout: float) -> bool:
        """Wait until everything added is archived, for at most `timeout` seconds; say whether it is."""
        task = self._task
        if task is not None:
            await asyncio.wait([task], timeout=timeout)
        return not self._queue

    async def close(self) -> None:
        """Stop; what is not archived yet is offered again by the mailbox."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        most = MOST_ITEMS
        while self._queue:
            batch = _first_batch(self._queue, most)
            try:
                await self._write(batch)
            except Unavailable as error:
                self.failure = error
                await asyncio.sleep(1.0)
                continue
            except CoterieError as error:
                if len(batch) > 1:
                    most = len(batch) // 2  # one of them is refused: which one shows when it is alone
                    continue
                await self._refused(batch[0], error)
            except ClientError as error:
                self.failure = error
                return
            else:
                if self.refused is None:
                    self.failure = None
                self._history.mark_archived((sender, message_id) for sender, message_id, _, _ in batch)
            del self._queue[: len(batch)]
            most = min(MOST_ITEMS, 2 * most)

    async def _refused(self, item: Item, error: CoterieError) -> None:
        """Acknowledge without a copy what the ring will not keep; it is saved here. If that fails too, say so."""
        sender, message_id, part, _ = item
        whose = f"message {message_id_text(message_id)} from {sender}" if sender else message_id_text(message_id)
        self.refused = translate(error)
        self.refused.preface(f"the ring keeps no copy of {whose}")
        self.failure = self.refused
        with contextlib.suppress(CoterieError, Unavailable):
            await self._connection.call(Discard([(sender, message_id, part)]))
            self._history.mark_archived([(sender, message_id)])

    async def _write(self, batch: list[Item]) -> None:
        """Archive a batch; when the archive is full acknowledge it without copies, so that mail goes on."""
        try:
            await self._connection.call(Archive(batch))
        except CoterieError as error:
            if error.wire_code is not ErrorCode.ARCHIVE_FULL:
                raise
            await self._connection.call(Discard([(sender, message_id, part) for sender, message_id, part, _ in batch]))
            if not self._full and self.on_full is not None:
                self.on_full(translate(error))
            self._full = True


def _first_batch(queue: list[Item], most: int = MOST_ITEMS) -> list[Item]:
    size, count = FRAME, 0
    for sender, message_id, _, copy in queue[:most]:
        size += weight_of_copy(sender, message_id, copy)
        if count and size > MOST_BYTES:
            break
        count += 1
    return queue[:count]
