"""A run: a ring, people, faults by schedule, and at the end everything that was acknowledged is looked for."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.nemesis import disk, losses, network
from tests.cluster.nemesis.accounts import Actors
from tests.cluster.nemesis.books import Books
from tests.cluster.nemesis.cluster import Cluster
from tests.cluster.nemesis.faults import FAULTS
from tests.cluster.nemesis.library import Reader, circle
from tests.cluster.nemesis.people import Conversation, Person
from tests.cluster.nemesis.report import Report
from tests.cluster.nemesis.schedule import LONG, NEEDS_NETWORK, NEEDS_SHIM, Event, schedule
from tests.cluster.nemesis.siege import Siege
from tests.history.linearize import check_accounts

from coterie_client.errors import ClientError

assert losses  # it adds its faults to FAULTS
PEOPLE = 32
EACH_WRITES_TO = 4
READERS = 3
MEAN_PAUSE = 2.0
"""Seconds between two faults, unless it is said how long the run should take."""
AT_ONCE = 8
"""Faults under way at most."""
MOST_LATE = 60.0
"""Seconds that the schedule makes up for after it had to wait."""
FAULT_SECONDS = 900.0
"""After so long a fault is given up: then the test is at fault, or the ring."""
SETTLE_SECONDS = 240.0
"""How long, after the last fault, everything may take to be acknowledged, and then to be shown."""
SHORT_RUN = 300.0
"""Seconds; a run that is planned to be shorter leaves out what takes long by itself."""
HURRY_SECONDS = 20.0
"""How long what is under way may still take when a run is ended early."""
PROGRESS = 5.0
MOST_TOLD = 10
"""Complaints that are told at once; the report has more."""


@dataclass(frozen=True)
class Options:
    """What is asked for."""

    directory: Path
    messages: int
    faults: int
    seed: int
    nodes: int = 5
    minutes: float | None = None
    careless: bool = False
    only: tuple[str, ...] = ()
    """Kinds of faults; all if it is empty."""


def missing() -> tuple[set[str], list[str]]:
    """Return which kinds of faults this machine does not allow, and why, in sentences."""
    kinds: set[str] = set()
    reasons = []
    if reason := disk.why_not():
        kinds |= NEEDS_SHIM
        reasons.append(f"no {', '.join(sorted(NEEDS_SHIM))}: {reason}")
    if reason := network.why_not():
        kinds |= NEEDS_NETWORK
        reasons.append(f"no {', '.join(sorted(NEEDS_NETWORK))}: {reason}")
    return kinds, reasons


class Run:
    """One run; `await run.go()` once."""

    def __init__(
        self, options: Options, tell: Callable[[str], None] = lambda text: print(text, file=sys.stderr)
    ) -> None:
        self._options = options
        self._tell = tell
        self._pause = options.minutes * 60 / options.faults if options.minutes and options.faults else MEAN_PAUSE
        without, reasons = missing()
        if options.only:
            without |= FAULTS.keys() - set(options.only)
        if self._pause * options.faults < SHORT_RUN:
            without |= LONG
        self.events = schedule(options.seed, options.faults, self._pause, without=without)
        self.books = Books(options.messages)
        self.books.notes += reasons
        self._dice = random.Random(options.seed)
        self._stop = asyncio.Event()
        self._injected: Counter[str] = Counter()
        self._begun = 0.0
        self._faults_over = False
        self._largest_node = 0

    def stop(self) -> None:
        """End it early: what is under way ends, everything is checked and reported."""
        self._stop.set()

    async def go(self) -> Report:
        """Run it all."""
        options = self._options
        # Many threads wait for nodes that do not answer.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(64))
        options.directory.mkdir(parents=True, exist_ok=True)
        library = None if disk.why_not() else await asyncio.to_thread(disk.build, options.directory)
        self.cluster = Cluster(options.directory / "ring", options.nodes, library, careless=options.careless)
        try:
            await self.cluster.begin()
            return await self._inside()
        finally:
            await self.cluster.end()

    async def _inside(self) -> Report:
        options, books, cluster = self._options, self.books, self.cluster
        self.people = [Person(f"person-{i}", books, cluster.servers) for i in range(PEOPLE)]
        for person in self.people:
            await person.start()
        self.readers = await circle(cluster, options.directory, READERS, books, self._dice)
        actors = Actors(cluster.servers, books, random.Random(self._dice.random()))
        self.siege = Siege(cluster, books, self.people)
        conversations = [
            Conversation(person, self.people[(i + step) % PEOPLE].name, books)
            for i, person in enumerate(self.people)
            for step in range(1, EACH_WRITES_TO + 1)
        ]
        self._begun = time.monotonic()
        background = [self._work(self._watch()), self._work(self._progress()), self._work(books.pace.run())]
        talking = [self._work(conversation.run()) for conversation in conversations]
        for reader in self.readers:
            reader.start()
        actors.start()
        try:
            # A fault of the test must not cost the report of an hour.
            await self._guarded(self._besiege())
            await self._guarded(self._until_sent(talking))
            elapsed = time.monotonic() - self._begun
            await self._guarded(actors.stop())
            await self._guarded(self._settle(talking))
        finally:
            self._stop.set()
            for task in (*background, *talking):
                task.cancel()
            await asyncio.gather(*background, *talking, return_exceptions=True)
            for reader in self.readers:
                await reader.stop()
            await asyncio.gather(*(person.stop() for person in self.people))
        if cluster.network.unknown:
            books.note(f"{cluster.network.unknown} connections came from nobody knows where, and were never cut")
        accounts = await asyncio.to_thread(check_accounts, books.history)
        return Report.of(options, books, dict(self._injected), accounts, elapsed, self.siege.wholes, self._largest_node)

    def _work(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something for as long as the run lasts; should it fail, the report says so."""

        return asyncio.create_task(self._guarded(work))

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception:
            self.books.complain(f"a fault of the test: {traceback.format_exc()}")

    # --- The siege ---

    async def _besiege(self) -> None:
        """Let the faults happen; each in its time, or as soon after as not too many are under way."""
        loop = asyncio.get_running_loop()
        tasks: set[asyncio.Task[None]] = set()
        due = loop.time() + 2.0
        for event in self.events:
            due += event.pause
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), max(due - loop.time(), 0.0))
            while len(tasks) >= AT_ONCE and not self._stop.is_set():
                await asyncio.wait(tasks, timeout=0.2, return_when=asyncio.FIRST_COMPLETED)
            if self._stop.is_set():
                break
            due = max(due, loop.time() - MOST_LATE)
            task = asyncio.create_task(self._one(event))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        hurry_at = None
        while tasks:
            await asyncio.wait(tasks, timeout=0.5)
            if self._stop.is_set():
                hurry_at = hurry_at or loop.time() + HURRY_SECONDS
                if loop.time() > hurry_at:
                    for task in tasks:
                        task.cancel()
        self._faults_over = True

    async def _one(self, event: Event) -> None:
        try:
            async with asyncio.timeout(FAULT_SECONDS), self.siege.entered():
                self._injected[event.kind] += 1
                await FAULTS[event.kind](self.siege, event.dice(), event.kind)
        except TimeoutError:
            self.books.complain(f"fault {event.number} ({event.kind}) was not over after {FAULT_SECONDS:.0f} s")
        except Exception:
            self.books.note(f"fault {event.number} ({event.kind}) failed: {traceback.format_exc()}")
        finally:
            self._mend()

    def _mend(self) -> None:
        """Start what no fault has in its hands and does not run, should one have failed half way."""
        for node in self.cluster.nodes[: self.cluster.begun]:
            if not node.running and not self.siege.held(node):
                with contextlib.suppress(ClientError):
                    node.start()

    async def _watch(self) -> None:
        """See that nodes stop only when they are stopped, and how fast people may send."""
        while True:
            await asyncio.sleep(1.0)
            for node in self.cluster.nodes:
                if node.expected and not node.running and not self.siege.held(node):
                    if node.found_damage:
                        self.books.note(
                            f"{node.name} has found its disk damaged and got an empty one: {node.last_words}"
                        )
                        await asyncio.to_thread(node.wipe)
                    else:
                        self.books.complain(f"{node.name} has stopped by itself: {node.last_words}")
                    with contextlib.suppress(ClientError):
                        node.start()
                self._largest_node = max(self._largest_node, _resident(node.pid) if node.running else 0)
            self._set_pace()

    def _set_pace(self) -> None:
        """Let the messages take as long as the faults do."""
        pace = self.books.pace
        if self._faults_over:
            pace.rate = 3000.0
            return
        if pace.left < 500:
            pace.more(500)
        done = sum(self._injected.values())
        elapsed = time.monotonic() - self._begun
        planned = self._pause * len(self.events)
        expected = max(planned, elapsed / done * len(self.events)) if done > 20 else planned
        pace.rate = min(1500.0, max(20.0, 1.1 * pace.left / max(expected - elapsed, 10.0)))

    async def _until_sent(self, talking: list[asyncio.Task[None]]) -> None:
        """Wait, after the last fault, until as much has been sent as was asked for."""
        self._faults_over = True
        over = [asyncio.create_task(event.wait()) for event in (self._stop, self.books.pace.over)]
        await asyncio.wait([*over, asyncio.create_task(_all(talking))], return_when=asyncio.FIRST_COMPLETED)
        for task in over:
            task.cancel()
        self.books.pace.stop()
        for reader in self.readers:
            reader.send_no_more()

    # --- Afterwards ---

    async def _settle(self, talking: list[asyncio.Task[None]]) -> None:
        """Bring everything to rest, and compare what is there with what should be."""
        books = self.books
        self._tell("the last fault is over; waiting until all is acknowledged")
        self._mend()
        if talking:
            _, late = await asyncio.wait(talking, timeout=SETTLE_SECONDS)
            if late:
                books.complain(f"{len(late)} conversations have no answer {SETTLE_SECONDS:.0f} s after the last fault")
        for reader in self.readers:
            await self._within(f"the outbox of {reader.name} did not get empty", reader.acknowledged())
        self._tell("waiting until the ring is whole")
        if said := await self.cluster.whole(SETTLE_SECONDS):
            books.complain(f"the ring is not whole {SETTLE_SECONDS:.0f} s after the last fault: {said}")
        self._tell("waiting until all is shown")
        everybody: list[Person | Reader] = [*self.people, *self.readers]
        await asyncio.gather(*(self._drain(who) for who in everybody))
        self._tell("reading the archives")
        await self._within("the archive was not read", self._archives())

    async def _drain(self, who: Person | Reader) -> None:
        await self._within(f"{who.name} was not shown all that waits", who.drained())
        self.books.boxes.drained(who.name)

    async def _archives(self) -> None:
        """What people have read must still be there for their next device."""
        for person in self.people:
            there, shown = await person.archived()
            if there < shown:
                self.books.complain(f"{person.name} was shown {shown} messages; the archive has {there} of them")

    async def _within(self, complaint: str, work: Coroutine[Any, Any, None]) -> None:
        try:
            async with asyncio.timeout(SETTLE_SECONDS):
                await work
        except TimeoutError:
            self.books.complain(f"{complaint} within {SETTLE_SECONDS:.0f} s")

    # --- Telling ---

    async def _progress(self) -> None:
        told = before = 0
        then = time.monotonic()
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), PROGRESS)
            boxes, now = self.books.boxes, time.monotonic()
            rate = (boxes.acknowledged_count - before) / max(now - then, 0.001)
            before, then = boxes.acknowledged_count, now
            faults = sum(self._injected.values())
            wrong = len(self.books.complaints) + len(boxes.complaints())
            minutes, seconds = divmod(int(now - self._begun), 60)
            self._tell(
                f"{minutes:3}:{seconds:02}  {boxes.acknowledged_count:,} of {self._options.messages:,} acknowledged, "
                f"{boxes.shown_count:,} shown, {rate:,.0f}/s; {faults:,} of {len(self.events):,} faults, "
                f"{self.siege.under_way} under way: {', '.join(self.books.availability.sending()) or 'none'}"
                + (f"; {wrong} COMPLAINTS" if wrong else "")
            )
            for text in [*self.books.complaints, *boxes.complaints()][told : told + MOST_TOLD]:
                self._tell(f"         {text}")
            told = max(told, wrong)
            if self._stop.is_set():
                return


async def _all(tasks: list[asyncio.Task[None]]) -> bool:
    await asyncio.wait(tasks)
    return True


def _resident(pid: int) -> int:
    """Return a process' resident memory in bytes, 0 if it cannot be told."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
    return 0
