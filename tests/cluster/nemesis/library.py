"""A few people with the whole library: SQLite history, outbox, own copies, restarts of the client in between."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Sequence
from pathlib import Path

from tests.cluster.harness import Ring
from tests.cluster.nemesis.books import Books
from tests.cluster.people import Person, person

from coterie_client.client import Client
from coterie_client.errors import ClientError, Unavailable
from coterie_client.history import Message

PAUSE = 0.2
"""Seconds between two messages of one person."""
LIFE = 40.0
"""Seconds, on average, until a person's client is closed and started again."""
PATIENCE = 20.0


class Reader:
    """Somebody who writes to the others of the circle and reads what they write."""

    def __init__(self, who: Person, others: Sequence[str], books: Books, dice: random.Random) -> None:
        self._who = who
        self._others = others
        self._books = books
        self._dice = dice
        self._numbers = dict.fromkeys(others, 0)
        self._unacknowledged: dict[bytes, tuple[str, int]] = {}
        self._task: asyncio.Task[None] | None = None
        self._sending = True
        self._client: Client | None = None
        self._drained = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()
        self.lives = 0

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"{self._who.name} lives")

    def send_no_more(self) -> None:
        """Only receive, and send again what has not been stored yet."""
        self._sending = False

    @property
    def name(self) -> str:
        return self._who.name

    async def acknowledged(self) -> None:
        """Wait until all that was sent is acknowledged."""
        await self._settled.wait()

    async def drained(self) -> None:
        """Ask for everything that waits, and return when it has been shown."""
        assert self._client is not None
        self._drained.clear()
        self._client.mailbox._subscribe()
        await self._drained.wait()

    async def stop(self) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            self.lives += 1
            try:
                async with self._who.online(receive=True, patience=PATIENCE) as client:
                    await self._live(client)
            except Unavailable:
                continue
            except ClientError as error:
                self._books.complain(f"{self.name}'s client has failed: {error!r}")
                return

    async def _live(self, client: Client) -> None:
        client.sender.on_change = self._moved
        client.mailbox.start()
        self._client = client
        self._look(client)
        life = self._dice.expovariate(1 / LIFE)
        async with contextlib.AsyncExitStack() as stack:
            sending = asyncio.create_task(self._send(client))
            stack.callback(sending.cancel)
            loop = asyncio.get_running_loop()
            end = loop.time() + life
            # Once nobody sends any more the client stays, so that a drain of the mailbox tells something.
            while loop.time() < end or not self._sending:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(1.0):
                        batch = await client.mailbox.next_batch()
                    for message in batch.messages:
                        self._books.shown(self.name, message.sender, message.id, message.text or "")
                    client.mailbox.done(batch)
                    if batch.drained:
                        self._drained.set()

    async def _send(self, client: Client) -> None:
        while True:
            await asyncio.sleep(PAUSE * 2 * self._dice.random())
            if not self._sending or len(self._unacknowledged) > 50:
                client.sender.resend()
                await asyncio.sleep(1.0)
                self._look(client)
                continue
            to = self._dice.choice(self._others)
            number = self._numbers[to]
            self._numbers[to] += 1
            message, task = client.sender.submit(to, str(number))
            self._books.sent(self.name, to, message.id, number)
            self._unacknowledged[message.id] = (to, number)
            self._settled.clear()
            task.add_done_callback(_seen)

    def _look(self, client: Client) -> None:
        """Look in the outbox for what has got on unnoticed: between two lives, receipts come before anyone listens."""
        for message_id, (to, number) in list(self._unacknowledged.items()):
            message = client.account.outbox.get(message_id)
            if message is not None:
                self._moved(message)
            else:
                self._books.complain(
                    f"number {number} from {self.name!r} to {to!r} was withdrawn, as if it were refused"
                )
                del self._unacknowledged[message_id]

    def _moved(self, message: Message) -> None:
        if message.state in ("stored", "delivered", "read") and message.id in self._unacknowledged:
            to, number = self._unacknowledged.pop(message.id)
            self._books.acknowledged(self.name, to, number)
            if not self._unacknowledged:
                self._settled.set()


def _seen(task: asyncio.Task[Message]) -> None:
    """The outbox keeps what has failed, and `resend` sends it again."""
    if not task.cancelled():
        task.exception()


async def circle(ring: Ring, directory: Path, count: int, books: Books, dice: random.Random) -> list[Reader]:
    """Register people who write to each other."""
    people = [await person(ring, directory, f"reader-{i}") for i in range(count)]
    names = [one.name for one in people]
    return [
        Reader(one, [name for name in names if name != one.name], books, random.Random(dice.random())) for one in people
    ]
