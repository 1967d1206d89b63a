"""People who use a ring of the tests: by the library, and at a terminal with the real command."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.cluster.harness import Ring

from coterie_client.client import Client
from coterie_client.connection import Connection
from coterie_client.session import Session, register, save_session
from coterie_client.settings import Settings
from coterie_protocol.client_api import Kdf

PASSWORD = "correct horse battery staple"
CHEAP = Kdf(memory=19 * 1024, passes=2, lanes=1)


@dataclass
class Person:
    """Somebody with an account, by the library."""

    settings: Settings
    session: Session

    @property
    def name(self) -> str:
        return self.session.name

    @contextlib.asynccontextmanager
    async def online(self, *, receive: bool = False, patience: float = 30.0) -> AsyncIterator[Client]:
        async with Client.open(self.settings, self.session, receive=receive, patience=patience) as client:
            yield client


async def person(ring: Ring, directory: Path, name: str) -> Person:
    """Register somebody."""
    settings = Settings(directory / f"home-{name}", ring.servers)
    settings.make_home()
    async with Connection(settings.servers, patience=30.0) as connection:
        session = await register(connection, name, PASSWORD, parameters=CHEAP)
    save_session(settings.session_file, session)
    return Person(settings, session)


async def two_people(ring: Ring, tmp_path: Path) -> tuple[Person, Person]:
    """Start a ring, and register alice and bob."""
    ring.start()
    await ring.ready()
    return await person(ring, tmp_path, "alice"), await person(ring, tmp_path, "bob")


async def read_all(reader: Person, count: int, seconds: float) -> list[str]:
    """Receive until `count` messages were shown, then until nothing more waits; return all texts in order."""
    texts: list[str] = []
    async with asyncio.timeout(seconds), reader.online(receive=True) as client:
        client.mailbox.start()
        while True:
            batch = await client.mailbox.next_batch()
            texts += [message.text or "" for message in batch.messages]
            client.mailbox.done(batch)
            if batch.drained and len(texts) >= count:
                assert await client.archiver.flush(seconds)
                return texts


class Inbox:
    """Somebody who receives as long as the block lasts."""

    def __init__(self, reader: Person) -> None:
        self._reader = reader
        self._more = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.texts: list[str] = []
        self.gateway = ""

    async def __aenter__(self) -> Inbox:
        self._task = asyncio.create_task(self._run())
        await self.reach(0, 15.0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        async with self._reader.online(receive=True, patience=60.0) as client:
            client.mailbox.start()
            while True:
                batch = await client.mailbox.next_batch()
                self.texts += [message.text or "" for message in batch.messages]
                client.mailbox.done(batch)
                self.gateway = client.connection.url
                self._more.set()

    async def reach(self, count: int, seconds: float) -> None:
        """Wait until so many messages were shown and, at first, until the mailbox is drained."""
        assert self._task is not None
        async with asyncio.timeout(seconds):
            while len(self.texts) < count or not self.gateway:
                self._more.clear()
                waiting = asyncio.ensure_future(self._more.wait())
                await asyncio.wait([waiting, self._task], return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                if self._task.done():
                    self._task.result()


@dataclass
class Stream:
    """A steady stream of numbered messages, each noted when it is acknowledged."""

    sender: Client
    to: str
    interval: float = 0.01
    acknowledged: list[tuple[float, str]] = field(default_factory=list)
    _begun: dict[str, float] = field(default_factory=dict)
    _stop: bool = False
    _task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Stream:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop = True
        assert self._task is not None
        await self._task

    async def _run(self) -> None:
        number = 0
        under_way: set[asyncio.Task[Any]] = set()
        while not self._stop:
            text = f"message {number}"
            number += 1
            self._begun[text] = time.monotonic()
            _, task = self.sender.sender.submit(self.to, text)
            under_way.add(task)
            task.add_done_callback(lambda done, text=text: self._done(done, text))  # type: ignore[misc]
            task.add_done_callback(under_way.discard)
            await asyncio.sleep(self.interval)
            await self.sender.sender.room(64)
        if under_way:
            await asyncio.wait(under_way, timeout=30.0)

    def _done(self, task: asyncio.Task[Any], text: str) -> None:
        task.result()
        self.acknowledged.append((time.monotonic(), text))

    async def next_acknowledgement(self, after: float, seconds: float) -> float:
        """Wait for an acknowledgement later than `after`; return how long after."""
        deadline = time.monotonic() + seconds
        while not self.acknowledged or self.acknowledged[-1][0] <= after:
            assert time.monotonic() < deadline, f"no acknowledgement within {seconds} s"
            await asyncio.sleep(0.005)
        return next(at for at, _ in self.acknowledged if at > after) - after

    async def outage(self, since: float, seconds: float) -> float:
        """Return the longest time from `since` on without an acknowledgement: until the next one after it.

        It ends only when something that was begun after `since` is acknowledged: the answers to what was under way may
        have left before. As messages to one person go one after the other, those come first, and end the outage.
        """
        deadline = time.monotonic() + seconds
        looked = 0
        while True:
            for index, (_, text) in enumerate(self.acknowledged[looked:], looked):
                if self._begun[text] > since:
                    times = [since, *(one for one, _ in self.acknowledged[: index + 1] if one > since)]
                    return max(later - earlier for earlier, later in itertools.pairwise(times))
            looked = len(self.acknowledged)
            assert time.monotonic() < deadline, f"nothing sent afterwards was acknowledged within {seconds} s"
            await asyncio.sleep(0.002)

    async def steady(self, count: int, seconds: float) -> None:
        """Wait for `count` more acknowledgements."""
        target = len(self.acknowledged) + count
        deadline = time.monotonic() + seconds
        while len(self.acknowledged) < target:
            assert time.monotonic() < deadline, f"the stream stands still: {target - len(self.acknowledged)} missing"
            await asyncio.sleep(0.01)

    @property
    def texts(self) -> list[str]:
        return [text for _, text in self.acknowledged]


@dataclass
class Shell:
    """Somebody at a terminal: the real `coterie` command with a COTERIE_HOME of its own."""

    home: Path
    servers: Sequence[str]

    @property
    def environment(self) -> dict[str, str]:
        changes = {
            "COTERIE_HOME": str(self.home),
            "COTERIE_SERVERS": ",".join(self.servers),
            "COTERIE_PASSWORD": PASSWORD,
        }
        return {**os.environ, **changes}

    def run(self, *arguments: str, stdin: bytes = b"", code: int = 0, **environment: str) -> str:
        """Run a command, check its exit code and return what it printed (on failure: the error)."""
        done = subprocess.run(
            coterie(*arguments),
            input=stdin,
            capture_output=True,
            env={**self.environment, **environment},
            timeout=60,
            check=False,
        )
        out, error = done.stdout.decode(), done.stderr.decode()
        assert done.returncode == code, f"{arguments}: exit {done.returncode}, expected {code}\n{out}\n{error}"
        assert "Traceback" not in error, error
        if code:
            assert error.strip().count("\n") == 0, f"an error is one line, not: {error}"
        return error if code else out

    def begin(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a command with pipes."""
        pipe = subprocess.PIPE
        return subprocess.Popen(
            coterie(*arguments), stdin=pipe, stdout=pipe, stderr=pipe, env=self.environment, bufsize=0
        )


def coterie(*arguments: str) -> list[str]:
    """Return the command line of `coterie`."""
    return [sys.executable, str(Path(sys.executable).with_name("coterie")), *arguments]
