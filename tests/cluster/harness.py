"""Rings of real node processes on loopback, to be killed, frozen, wiped and restarted.

Nothing here sleeps and hopes: everything waits for something that a node says, with a deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from bench.ports import free_port

from coterie_client.errors import ClientError
from coterie_client.local import admin
from coterie_client.local.place import NodePlace, RingFile, RingPlace
from coterie_client.local.process import last_words, node_command, start_node, stop_nodes
from coterie_protocol.admin import Readiness, RingReport

T = TypeVar("T")
QUICK = {"COTERIE_NODE_BCRYPT_COST": "4"}
"""Settings of test rings: a cheaper password hash; nothing else differs from what people run."""


def _beside(ask: Callable[[str], T], url: str) -> T:
    """Ask as a command does, which has no event loop yet, where the test may run in one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(ask, url).result()


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

    @property
    def places(self) -> list[NodePlace]:
        """Return where nodes are and where spare ones would be."""
        return self._places

    @property
    def token(self) -> str:
        """Return the admin token."""
        return self.place.token_file.read_text().strip()

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
                return _beside(admin.ring_report, node.place.admin_url)
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


def post(url: str, token: str, body: object = None) -> int:
    """POST to an admin port with its token; return the status, 0 when nobody answers."""
    import urllib.request

    request = urllib.request.Request(
        url,
        None if body is None else json.dumps(body).encode(),
        {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        method="POST",
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=3) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except OSError:
        return 0


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
