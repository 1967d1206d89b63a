"""Draws mutants by a seed, tries each, and keeps what came of it, so that a run that was ended goes on."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec
from tests.mutate.operators import Mutant, mutants
from tests.mutate.rooms import ROOMS, ROOT, Room
from tests.mutate.trial import Trial, Verdict

UNIT_SECONDS = 60.0
"""Seconds of tests (as they took without a change) that one mutant is tried against: those that run its lines, the
quickest first."""
SPARE = 30.0
"""Seconds to begin in, and for what a busy machine delays; a trial may take this and four times what its tests took."""
ENVIRONMENT = {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
"""Sets of strings have one order in every process, so a seed's walk is the same in each."""


@dataclass(frozen=True)
class Seen:
    """Which tests run which lines of a room, and how long they take without a change."""

    seconds: Mapping[str, float]
    lines: Mapping[str, Mapping[str, Sequence[str]]]

    def of(self, mutant: Mutant) -> list[str]:
        """Return the tests that run any line of a mutant, the quickest first."""
        lines = self.lines.get(mutant.path, {})
        tests = {test for line in range(mutant.line, mutant.end + 1) for test in lines.get(str(line), ())}
        if tests == {""}:  # it runs while the module is imported, as constants do: whoever uses the module may see it
            tests = {test for found in lines.values() for test in found}
        chosen: list[str] = []
        left = UNIT_SECONDS
        for test in sorted(tests - {""}, key=lambda name: (self.seconds.get(name, 0.0), name)):
            left -= self.seconds.get(test, 0.0)
            if left < 0.0 and chosen:
                break
            chosen.append(test)
        return chosen


@dataclass(frozen=True)
class Outcome:
    """What came of one mutant."""

    room: str
    state: str
    """Which code and tests it was tried with (`Room.state`)."""
    mutant: Mutant
    verdict: str
    """killed, simulated, timeout, survived, or unchanged."""
    tests: int
    seconds: float

    @property
    def lives(self) -> bool:
        """Nothing saw it."""
        return self.verdict in ("survived", "unchanged")


class Broken(Exception):
    """The tests do not pass as they are, so that nothing can be learnt from their failing; one sentence."""


@dataclass(frozen=True)
class Drawn:
    """A mutant that is to be tried."""

    room: Room
    mutant: Mutant
    source: str


def draw(rooms: Sequence[Room], count: int, seed: int) -> list[Drawn]:
    """Draw so many of all mutants of these rooms, each as likely as any other; all if there are fewer."""
    every = [
        (room, path, mutant.number)
        for room in rooms
        for path in room.files()
        for mutant, _ in mutants(path, (ROOT / path).read_text())
    ]
    chosen = random.Random(seed).sample(every, min(count, len(every)))
    wanted: dict[str, set[int]] = {}
    for _, path, number in chosen:
        wanted.setdefault(path, set()).add(number)
    made = {
        (path, mutant.number): (mutant, make())
        for path, numbers in wanted.items()
        for mutant, make in mutants(path, (ROOT / path).read_text())
        if mutant.number in numbers
    }
    return [Drawn(room, *made[path, number]) for room, path, number in chosen]


def watch(room: Room) -> Seen:
    """Run a room's tests without a change. Raises Broken if they fail."""
    with tempfile.TemporaryDirectory(prefix="coterie-mutate-") as place:
        to = Path(place) / "lines.json"
        of = [f"--lines-of={source}" for source in room.sources]
        command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.mutate.lines", *of, f"--lines-to={to}"]
        command += ["-p", "no:cacheprovider", "-p", "no:randomly", "-m", "not slow", *room.tests]
        done = subprocess.run(command, cwd=ROOT, env=os.environ | ENVIRONMENT, capture_output=True, text=True)
        if done.returncode != 0:
            raise Broken(
                f"the tests of {room.name} fail without any change:\n{done.stdout[-2000:]}{done.stderr[-500:]}"
            )
        return msgspec.json.decode(to.read_bytes(), type=Seen)


class Campaign:
    """Tries mutants in several processes, and writes down what came of each at once."""

    def __init__(self, results: Path, jobs: int, walks: int) -> None:
        self._results = results
        self._jobs = jobs
        self._walks = walks
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._over = False

    def known(self) -> dict[tuple[str, str], Outcome]:
        """Return what earlier runs have found out, by state and change; nothing if there was none."""
        if not self._results.exists():
            return {}
        lines = self._results.read_bytes().splitlines()
        found = []
        for line in lines:
            try:
                found.append(msgspec.json.decode(line, type=Outcome))
            except msgspec.DecodeError:  # the run was ended while it wrote
                continue
        return {(outcome.state, str(outcome.mutant)): outcome for outcome in found}

    def run(self, drawn: Sequence[Drawn], seen: Mapping[str, Seen]) -> Iterator[Outcome]:
        """Try each; return what came of it, in the order in which they end."""
        known = self.known()
        states = {room.name: room.state() for room in {one.room.name: one.room for one in drawn}.values()}
        with ThreadPoolExecutor(self._jobs) as pool:
            futures: list[Future[Outcome]] = []
            try:
                for one in drawn:
                    state = states[one.room.name]
                    if (before := known.get((state, str(one.mutant)))) is not None:
                        yield before
                    else:
                        futures.append(pool.submit(self._try, one, state, seen[one.room.name]))
                for future in as_completed(futures):
                    outcome = future.result()
                    with self._results.open("ab") as file:
                        file.write(msgspec.json.encode(outcome) + b"\n")
                    yield outcome
            finally:
                self._end()
                for future in futures:
                    future.cancel()

    def _try(self, one: Drawn, state: str, seen: Seen) -> Outcome:
        tests = seen.of(one.mutant)
        files = sorted({test.partition("::")[0] for test in tests})
        walks = self._walks if one.room.simulated else 0
        trial = Trial(one.mutant.path, one.source, files, tests, walks)
        limit = SPARE + 4 * (sum(seen.seconds.get(test, 0.0) for test in tests) + walks)
        begun = time.monotonic()
        verdict = self._process(trial, limit)
        return Outcome(one.room.name, state, one.mutant, verdict, len(tests), round(time.monotonic() - begun, 1))

    def _process(self, trial: Trial, limit: float) -> str:
        with self._lock:
            if self._over:
                return "ended"
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.mutate.trial"],
                cwd=ROOT,
                env=os.environ | ENVIRONMENT,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            self._running.add(process)
        try:
            process.communicate(json.dumps(asdict(trial)).encode(), timeout=limit)
        except subprocess.TimeoutExpired:
            return "timeout"
        finally:
            _kill(process)
            with self._lock:
                self._running.discard(process)
        try:
            return Verdict(process.returncode).name.lower()
        except ValueError:  # it ended otherwise: a change that ends the interpreter does not go unseen
            return "killed"

    def _end(self) -> None:
        with self._lock:
            self._over = True
            for process in self._running:
                _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a trial and whatever it started: it has a session of its own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def rooms_of(names: Sequence[str]) -> list[Room]:
    """Return the rooms of these names, all without one."""
    return [room for room in ROOMS if not names or room.name in names]
