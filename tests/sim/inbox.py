"""A recipient's device under a mailbox that is at its most inconvenient, and still keeps the protocol.

The client library's own `Mailbox`, with its files, on virtual time; the ring is scripted: mail comes in any order, more
than once, in any pieces; a drain brings all that is pending when it is asked for, somehow; what is archived goes late;
the link breaks, the process dies and starts again on the same files. A sender's message is stored only when the one
before it is, as `coterie_client.sender` sees to.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any, cast

from tests.history.mailboxes import Mailboxes
from tests.sim.loop import sim_loop

from coterie_client.archiver import Archiver
from coterie_client.connection import Connected, Connection, Notice
from coterie_client.database import Database
from coterie_client.envelope import Content, seal
from coterie_client.history import History
from coterie_client.mailbox import Mailbox
from coterie_client.sender import Sender
from coterie_protocol.client_api import Drained, Mail, MailItem

OWNER = "bob"
SENDERS = ("ann", "eve", "zoë")


class Ring:
    """What the device takes for its link, its archiver and its sender."""

    def __init__(self, boxes: Mailboxes) -> None:
        self._rng = sim_loop().rng
        self._boxes = boxes
        self._pending: dict[tuple[str, bytes], MailItem] = {}
        self._last: dict[str, tuple[int, bytes]] = {}
        self._listener: Callable[[Notice], None] | None = None
        self._work: set[asyncio.Task[None]] = set()

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something meanwhile."""
        task = asyncio.ensure_future(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    # --- what the device calls ---

    patience = 60.0
    """Seconds, as a connection's: longer than any drain here takes."""

    def listen(self, listener: Callable[[Notice], None]) -> None:
        """Send notices there."""
        self._listener = listener

    async def call(self, request: object) -> None:
        """Take a Subscribe, and begin to drain."""
        await asyncio.sleep(self._rng.random() * 0.01)
        if self._listener is not None:
            self.begin(self._drain(self._listener, list(self._pending.values())))

    def add(self, copies: Iterable[tuple[str, bytes, int, bytes]]) -> None:
        """Archive, some time later."""
        self.begin(self._archive([(sender, message) for sender, message, _, _ in copies]))

    def break_off(self, reason: str) -> None:
        """Nothing here is pushed without end."""
        raise AssertionError(reason)

    def resend(self) -> None:
        """Nothing is left to send."""

    def take_over(self, own: object) -> None:
        """There are no own copies."""

    # --- what happens ---

    def died(self) -> None:
        """Send nothing to the process of before."""
        self._listener = None

    def relink(self) -> None:
        """Break the link, and make a new one."""
        if self._listener is not None:
            self._listener(Connected())

    def store(self, sender: str) -> None:
        """Acknowledge a sender's next message."""
        number, prev = self._last.get(sender, (0, b""))
        number += 1
        identity = f"{sender}-{number}".encode().ljust(16, b".")
        self._last[sender] = number, identity
        now = int(sim_loop().time() * 1000)
        body = seal(Content(1, number, prev, now, f"{number}", OWNER))
        self._boxes.sent(sender, OWNER, identity.hex(), number)
        self._pending[sender, identity] = MailItem(sender, identity, 0, 0, body, b"", 1, now)
        self._boxes.acknowledged(sender, OWNER, number)

    def push(self) -> None:
        """Send some of what is pending, once more perhaps."""
        if self._pending and self._listener is not None:
            some = self._rng.sample(list(self._pending.values()), self._rng.randint(1, len(self._pending)))
            self._listener(Mail(some))

    async def _drain(self, listener: Callable[[Notice], None], items: list[MailItem]) -> None:
        self._rng.shuffle(items)
        while items:
            await asyncio.sleep(self._rng.choice((0.001, 0.1)) * self._rng.random())
            count = self._rng.randint(1, len(items))
            if self._listener is listener:
                listener(Mail(items[:count]))
            items = items[count - (self._rng.random() < 0.3) if count > 1 else count :]
        if self._listener is listener:
            listener(Drained())

    async def _archive(self, keys: list[tuple[str, bytes]]) -> None:
        await asyncio.sleep(self._rng.choice((0.0, 0.05, 1.0)) * self._rng.random())
        for key in keys:
            self._pending.pop(key, None)


class Device:
    """One process after the other on the same files."""

    def __init__(self, database: Database, ring: Ring, boxes: Mailboxes) -> None:
        self._history = History(database)
        self._ring = ring
        self._boxes = boxes
        self._reader: asyncio.Task[None] | None = None
        self.drained = asyncio.Event()

    def start(self) -> None:
        """Start a process."""
        ring = self._ring
        mailbox = Mailbox(cast(Connection, ring), self._history, cast(Archiver, ring), cast(Sender, ring))
        mailbox.start()
        self._reader = asyncio.ensure_future(self._read(mailbox))

    async def kill(self) -> None:
        """End the process while it waits."""
        assert self._reader is not None
        self._ring.died()
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)

    async def has_drained(self) -> None:
        """Wait until all that waited is shown; raises what ends the device before."""
        assert self._reader is not None
        drained = asyncio.ensure_future(self.drained.wait())
        try:
            await asyncio.wait((drained, self._reader), timeout=60.0, return_when=asyncio.FIRST_COMPLETED)
            if self._reader.done():
                self._reader.result()
            assert drained.done(), "the mailbox is not drained within a minute"
        finally:
            drained.cancel()

    async def _read(self, mailbox: Mailbox) -> None:
        try:
            while True:
                self.drained.clear()
                batch = await mailbox.next_batch()
                for one in batch.messages:
                    self._boxes.shown(OWNER, one.sender, one.id.hex(), one.counter)
                mailbox.done(batch)
                if batch.drained:
                    self.drained.set()
                await asyncio.sleep(0)
        finally:
            await mailbox.close()


async def inbox(steps: int = 60) -> Mailboxes:
    """Send, break and restart; then drain, and raise AssertionError with what is wrong with what was shown."""
    rng = sim_loop().rng
    boxes = Mailboxes()
    with tempfile.TemporaryDirectory() as directory, Database(Path(directory) / "bob.db") as database:
        ring = Ring(boxes)
        device = Device(database, ring, boxes)
        device.start()
        for _ in range(steps):
            what = rng.random()
            if what < 0.5:
                for _ in range(rng.randint(1, 3)):
                    ring.store(rng.choice(SENDERS))
            elif what < 0.8:
                ring.push()
            elif what < 0.9:
                ring.relink()
            else:
                await device.kill()
                device.start()
            await asyncio.sleep(rng.choice((0.0, 0.01, 0.3)) * rng.random())
        await device.kill()
        device.start()
        await device.has_drained()
        await device.kill()
    boxes.drained(OWNER)
    complaints = boxes.complaints()
    assert not complaints, "\n".join(complaints)
    return boxes
