"""Pairs of people who talk through a ring until standard input says so; runs in a pod of the cluster, by the library.

    python talk.py WORD PAIRS INTERVAL        WORD makes the names unique; INTERVAL is seconds between two messages

Each line on standard output is a JSON object: `{"event": "ready"}` once everybody is registered and the first messages
are through, `{"event": "count", "acknowledged": N, "gap": S}` now and then (S: the longest time so far that a pair
waited for its next acknowledgement), and last `{"event": "end", "pairs": [{"acknowledged": […], "shown": […]}, …]}`.
A line on standard input ends the sending; receiving goes on until all that was acknowledged was shown (30 s at most).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from coterie_client.client import Client
from coterie_client.connection import Connection
from coterie_client.session import Session, register
from coterie_client.settings import Settings, load_settings
from coterie_protocol.client_api import Kdf

PASSWORD = "correct horse battery staple"
CHEAP = Kdf(memory=19 * 1024, passes=2, lanes=1)
PATIENCE = 120.0
LAST_WORDS = 30.0


def tell(event: str, **facts: object) -> None:
    print(json.dumps({"event": event, **facts}), flush=True)


class Pair:
    """One sends numbered messages, the other receives."""

    def __init__(self, servers: Settings, home: Path, word: str, number: int, interval: float) -> None:
        self._names = f"{word}-alice{number}", f"{word}-bob{number}"
        self._settings = [Settings(home / name, servers.servers, insecure=servers.insecure) for name in self._names]
        self._interval = interval
        self._sessions: list[Session] = []
        self._waiting_since = time.monotonic()
        self.acknowledged: list[str] = []
        self.shown: list[str] = []
        self.gap = 0.0
        self.began = asyncio.Event()
        self._more = asyncio.Event()

    async def register(self) -> None:
        for name, settings in zip(self._names, self._settings, strict=True):
            settings.make_home()
            connection = Connection(settings.servers, tls=settings.tls(), patience=PATIENCE)
            async with connection:
                self._sessions.append(await register(connection, name, PASSWORD, parameters=CHEAP))

    async def receive(self) -> None:
        async with Client.open(self._settings[1], self._sessions[1], receive=True, patience=PATIENCE) as client:
            client.mailbox.start()
            while True:
                batch = await client.mailbox.next_batch()
                self.shown += [message.text or "" for message in batch.messages]
                client.mailbox.done(batch)
                self._more.set()

    async def send(self, stop: asyncio.Event) -> None:
        async with Client.open(self._settings[0], self._sessions[0], patience=PATIENCE) as client:
            number = 0
            while not stop.is_set():
                # One after the other, as people write: each is stored before the next is sent.
                text = f"message {number}"
                number += 1
                await client.sender.send(self._names[1], text)
                self._acknowledge(text)
                await asyncio.sleep(self._interval)

    def _acknowledge(self, text: str) -> None:
        now = time.monotonic()
        self.gap = max(self.gap, now - self._waiting_since)
        self._waiting_since = now
        self.acknowledged.append(text)
        self.began.set()

    async def all_shown(self) -> None:
        while len(set(self.shown)) < len(self.acknowledged):
            self._more.clear()
            await self._more.wait()


async def main(word: str, pairs: int, interval: float) -> None:
    settings = load_settings()
    with tempfile.TemporaryDirectory() as home:
        people = [Pair(settings, Path(home), word, number, interval) for number in range(pairs)]
        for pair in people:
            await pair.register()
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()

        def heard() -> None:
            os.read(sys.stdin.fileno(), 1024)
            stop.set()

        loop.add_reader(sys.stdin.fileno(), heard)
        receivers = [asyncio.create_task(pair.receive()) for pair in people]
        senders = [asyncio.create_task(pair.send(stop)) for pair in people]
        counting = asyncio.create_task(count(people))
        watching = [*receivers, counting]
        await first_of(asyncio.gather(*(pair.began.wait() for pair in people)), [*watching, *senders])
        for pair in people:
            pair.gap = 0.0
        tell("ready")
        await first_of(asyncio.gather(*senders), watching)
        with contextlib.suppress(TimeoutError):  # what is missing shows in what is told
            async with asyncio.timeout(LAST_WORDS):
                await first_of(asyncio.gather(*(pair.all_shown() for pair in people)), receivers)
        loop.remove_reader(sys.stdin.fileno())
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
        tell("end", pairs=[{"acknowledged": pair.acknowledged, "shown": pair.shown} for pair in people])


async def first_of(wanted: asyncio.Future[Any], others: list[asyncio.Task[None]]) -> None:
    """Wait for something that is to happen; should one of the others end meanwhile, it has failed."""
    futures: list[asyncio.Future[Any]] = [wanted, *others]
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
    if not wanted.done():
        for task in others:
            if task.done():
                task.result()
        raise RuntimeError("somebody stopped talking or listening")
    await wanted


async def count(people: list[Pair]) -> None:
    while True:
        await asyncio.sleep(0.25)
        tell("count", acknowledged=sum(len(pair.acknowledged) for pair in people), gap=max(pair.gap for pair in people))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
