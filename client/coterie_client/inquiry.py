"""Asking what became of messages that are stored: receipts are best effort, the record's state is the truth.

A receipt is lost when a node restarts, or the connection breaks, between the recipient's archiving and this device. So
a command that lasts asks when it has a new link, and after some silence: less and less often, for whoever is away
stays away for hours.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .connection import Connected

if TYPE_CHECKING:
    from .connection import Connection, Notice
    from .outbox import Outbox
    from .sender import Sender

MOST = 200
"""Messages that are asked for at once, the newest."""
SILENCE = 5.0
"""Seconds after which a receipt counts as missing: then it is asked, and again after twice as long, up to ..."""
SILENCE_MOST = 300.0


class Inquiry:
    """Asks for the messages to one person. `Sender.on_change` hears of what it finds out."""

    def __init__(self, connection: Connection, sender: Sender, outbox: Outbox, peer: str) -> None:
        """Begin to listen for new links; asking begins with `run`."""
        self._sender = sender
        self._outbox = outbox
        self._peer = peer
        self._loop = asyncio.get_running_loop()
        self._pause = SILENCE
        self._due: float | None = self._loop.time()
        """When to ask next (loop time); None while nothing is missing."""
        self._moved = asyncio.Event()
        connection.listen(self._hear)

    def stored(self) -> None:
        """A message has been stored: its receipt is expected."""
        self._ask_within(SILENCE)

    async def run(self) -> None:
        """Ask whenever it is time; runs until it is cancelled."""
        while True:
            await self._until_due()
            self._due = None
            waiting = self._outbox.undelivered(MOST, self._peer)
            if not waiting:
                continue
            pause, self._pause = self._pause, min(2 * self._pause, SILENCE_MOST)
            await self._sender.refresh(waiting)
            self._due = self._sooner(pause)

    async def _until_due(self) -> None:
        while True:
            self._moved.clear()
            try:
                async with asyncio.timeout_at(self._due):
                    await self._moved.wait()
            except TimeoutError:
                return

    def _hear(self, notice: Notice) -> None:
        if isinstance(notice, Connected):
            self._ask_within(0.0)

    def _ask_within(self, seconds: float) -> None:
        self._pause = SILENCE
        self._due = self._sooner(seconds)
        self._moved.set()

    def _sooner(self, seconds: float) -> float:
        due = self._loop.time() + seconds
        return due if self._due is None else min(due, self._due)
