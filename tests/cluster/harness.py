"""Rings of real node processes on loopback, to be killed, frozen, wiped and restarted; and people who use them.

Nothing here sleeps and hopes: everything waits for something that a node says, with a deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.ports import free_port

from coterie_client.client import Client
from coterie_client.connection import Connection
from coterie_client.errors import ClientError
from coterie_client.local import admin
from coterie_client.local.place import NodePlace, RingFile, RingPlace
from coterie_client.local.process import last_words, node_command, start_node, stop_nodes
from coterie_client.session import Session, register, save_session
from coterie_client.settings import Settings
from coterie_protocol.admin import Readiness, RingReport
from coterie_protocol.client_api import Kdf

PASSWORD = "correct horse battery staple"
CHEAP = Kdf(memory=19 * 1024, passes=2, lanes=1)
QUICK = {"COTERIE_NODE_BCRYPT_COST": "4"}
"""Settings of test rings: a cheaper password hash; nothing else differs from what people run."""


class Node:
    """One node process."""

    def __init__(self, place: NodePlace, command: Callable[[], list[str]], environment: dict[str, str]) -> None:
        self.place = place
        self._command = command
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self.interpreter: list[str] = []
        """What the interpreter is told before the program, to run it under a profiler."""

    @property
    def name(self) -> str:
        return self.place.name

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.place.client_port}"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, *arguments: str) -> None:
        assert not self.running
        program, *rest = self._command()
        with changed_environment(self._environment):
            self._process = start_node(self.place, [program, *self.interpreter, *rest, *arguments], detach=False)

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, as a power cut would."""
        self.signal(signal.SIGKILL)
        self.wait(5.0)

    def terminate(self) -> int:
        """SIGTERM; return the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(12.0)

    def wait(self, seconds: float) -> int:
        assert self._process is not None
        return self._process.wait(seconds)

    def freeze(self) -> None:
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def wipe(self) -> None:
        """Delete the data of a node that does not run."""
        assert not self.running
        shutil.rmtree(self.place.data)

    async def until(self, what: Callable[[Readiness], bool], seconds: float) -> Readiness:
        """Wait until what the node says of its readiness fulfils something; return it."""
        deadline = time.monotonic() + seconds
        seen: object = None
        while time.monotonic() < deadline:
            assert self.running, f"{self.name} has stopped: {self.last_words}"
            try:
                seen = found = await asyncio.to_thread(admin.readiness, self.place.admin_url)
            except ClientError as error:
                seen = error
            else:
                if what(found):
                    return found
            await asyncio.sleep(0.05)
        raise AssertionError(f"{self.name}, not within {seconds} s; last: {seen}")

    async def logs(self, what: str, seconds: float) -> None:
        """Wait until the node's log holds something."""
        deadline = time.monotonic() + seconds
        while what not in self.place.log.read_text(errors="replace"):
            assert time.monotonic() < deadline, f"{self.name} has not logged {what!r}"
            await asyncio.sleep(0.05)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def last_words(self) -> str:
        return last_words(self.place.log)


class Ring:
    """Several nodes, and what they say of themselves."""

    def __init__(
        self, directory: Path, nodes: int = 5, environment: dict[str, str] | None = None, spare: int = 3
    ) -> None:
        """`spare`: how many nodes may be added later."""
        self.place = RingPlace(directory)
        self.place.make()
        self._file = RingFile(nodes + spare, 3, free_port(nodes + spare))
        self._environment = {**QUICK, **(environment or {})}
        self._places = self.place.nodes(self._file)
        self.nodes: list[Node] = []
        for _ in range(nodes):
            self.add()

    def add(self) -> Node:
        """Add a node that never ran."""
        at = self._places[len(self.nodes)]

        def command() -> list[str]:
            return node_command(at, [node.place for node in self.nodes], self._file, self.place.token_file)

        node = Node(at, command, self._environment)
        self.nodes.append(node)
        return node

    def start(self) -> None:
        for node in self.nodes:
            if not node.running:
                node.start()

    def stop(self) -> None:
        running = [node for node in self.nodes if node.running]
        stop_nodes([node.place for node in running])
        for node in running:
            node.wait(5.0)

    @property
    def live(self) -> list[Node]:
        return [node for node in self.nodes if node.running]

    @property
    def servers(self) -> tuple[str, ...]:
        return tuple(node.url for node in self.nodes)

    def report(self) -> RingReport:
        """Return what the first node that answers says of the ring; raises ClientError."""
        error: ClientError | None = None
        for node in self.live:
            try:
                return admin.ring_report(node.place.admin_url)
            except ClientError as this:
                error = this
        raise error or ClientError("no node runs")

    async def until(
        self, what: Callable[[RingReport], bool], seconds: float = 30.0, interval: float = 0.05
    ) -> RingReport:
        """Wait until the ring's report fulfils something; return it. Raises AssertionError with the last one.

        Each look costs the nodes some milliseconds: where that would matter, look less often.
        """
        deadline = time.monotonic() + seconds
        seen: object = None
        while time.monotonic() < deadline:
            try:
                report = await asyncio.to_thread(self.report)
            except ClientError as error:
                seen = error
            else:
                seen = report
                if what(report):
                    return report
            await asyncio.sleep(interval)
        raise AssertionError(f"not within {seconds} s; last: {seen}")

    async def ready(self, seconds: float = 30.0) -> RingReport:
        """Wait until every live node is ready and everything is served and replicated."""
        for node in self.live:
            await node.until(lambda found: found.ready, seconds)
        return await self.until(whole(len(self.live)), seconds)

    async def acting_node(self, slot: int) -> Node:
        """Return the live node that acts for a slot."""
        for node in self.live:
            reports = await asyncio.to_thread(get_json, f"{node.place.admin_url}/api/v1/slots")
            uid = (await asyncio.to_thread(get_json, f"{node.place.admin_url}/api/v1/node"))["uid"]
            if any(report["slot"] == slot and report["acting"] == uid for report in reports):
                return node
        raise AssertionError(f"nobody acts for slot {slot}")


def whole(nodes: int) -> Callable[[RingReport], bool]:
    """Return what says whether so many nodes are ready and nothing is missing anywhere."""

    def check(report: RingReport) -> bool:
        ready = sum(member.state == "ready" for member in report.members)
        missing = report.slots_under_replicated + report.slots_unowned + report.slots_forming
        return ready == nodes == len(report.members) and not missing

    return check


def get_json(url: str) -> Any:
    import urllib.request

    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=3) as response:
        return json.load(response)


@contextlib.contextmanager
def changed_environment(changes: dict[str, str]) -> Any:
    before = {key: os.environ.get(key) for key in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value


# --- People ----------------------------------------------------------------------------------------------------


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
