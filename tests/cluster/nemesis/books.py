"""The books of a run: what was sent, acknowledged and shown, what people complain of, and how fast they may go on."""

from __future__ import annotations

import asyncio
import time

from tests.cluster.nemesis.availability import Availability
from tests.history.events import History
from tests.history.mailboxes import Mailboxes

TICK = 0.02
"""Seconds between two rounds of letting people send: what goes together travels together."""
MOST_COMPLAINTS = 200


class Pace:
    """Lets people send at a rate that someone sets, and no more in all than `wanted`."""

    def __init__(self, wanted: int) -> None:
        self.rate = 100.0
        """Messages a second."""
        self._left = wanted
        self._credit = 0.0
        self._queue: asyncio.Queue[asyncio.Future[bool]] = asyncio.Queue()
        self.over = asyncio.Event()
        """Set when nobody gets a turn any more."""

    async def next(self) -> bool:
        """Wait for the turn to send a message; False when it is over."""
        if self.over.is_set():
            return False
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait(turn)
        return await turn

    async def run(self) -> None:
        """Give turns until all are given."""
        before = time.monotonic()
        while self._left > 0 and not self.over.is_set():
            await asyncio.sleep(TICK)
            now = time.monotonic()
            self._credit = min(self._credit + self.rate * (now - before), self.rate)
            before = now
            while self._credit >= 1.0 and self._left > 0 and not self._queue.empty():
                turn = self._queue.get_nowait()
                if not turn.done():
                    turn.set_result(True)
                    self._credit -= 1.0
                    self._left -= 1
        self.stop()

    def more(self, count: int) -> None:
        """Allow so many more."""
        self._left += count

    @property
    def left(self) -> int:
        """Return how many turns are still to be given."""
        return self._left

    def stop(self) -> None:
        """Send everybody home."""
        self.over.set()
        while not self._queue.empty():
            turn = self._queue.get_nowait()
            if not turn.done():
                turn.set_result(False)


class Books:
    """Everything that is noted."""

    def __init__(self, wanted: int) -> None:
        self.availability = Availability()
        self.boxes = Mailboxes()
        self.history = History()
        """Of names and sessions only."""
        self.pace = Pace(wanted)
        self.accounts_change = asyncio.Event()
        """Cleared while names and sessions should stay as they are."""
        self.accounts_change.set()
        self.complaints: list[str] = []
        """Violations that the checkers do not see."""
        self.notes: list[str] = []
        """What was strange without being a violation."""

    def sent(self, sender: str, to: str, message: bytes, number: int) -> None:
        self.boxes.sent(sender, to, message.hex(), number)

    def acknowledged(self, sender: str, to: str, number: int) -> None:
        self.boxes.acknowledged(sender, to, number)

    def refused(self, sender: str, to: str, number: int, why: str) -> None:
        """A ring that is used as it should be refuses nothing."""
        self.boxes.refused(sender, to, number)
        self.complain(f"number {number} from {sender!r} to {to!r} was refused: {why}")

    def shown(self, recipient: str, sender: str, message: bytes, text: str) -> None:
        number = int(text) if text.isdigit() else -1
        self.boxes.shown(recipient, sender, message.hex(), number)

    def complain(self, text: str) -> None:
        if len(self.complaints) < MOST_COMPLAINTS:
            self.complaints.append(text)

    def note(self, text: str) -> None:
        if len(self.notes) < MOST_COMPLAINTS:
            self.notes.append(text)
