"""`python -m bench.hostile`: what honest accounts notice of one hostile account that does each flood at full speed.

A ring of three real nodes; honest pairs chat at a steady pace all the while. Each flood comes from one account, on
several connections, in a process of its own. Beside it stands the same chat while an *honest* account sends at full
speed from such a process: with 128 messages under way, and waiting as it is told. Milliseconds from Send to the
recipient; `ratio` is of the two p99, each over all windows, which are measured in turn; `median` is that of the
windows' own ratios; `cores` is what the nodes used.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import aiohttp
from tests.cluster.harness import Ring

from .cores import LOAD, SERVER, on_core
from .floods import FLOODS, HONEST
from .honest import Noticed, Speaker, chat, pairs

MEBIBYTE = 1024 * 1024
BEFORE = "before "
"""Begins the names of the rows of honest accounts at full speed; the flood follows that each was measured before."""
ENVIRONMENT = {"COTERIE_NODE_LOGINS_PER_ADDRESS": "1000"}


@dataclass(frozen=True)
class Row:
    """What was noticed beside one flood. Milliseconds and MiB."""

    p50: float
    p99: float
    worst: float
    messages: int
    refused: int
    lost: int
    memory: float
    """The largest node's, at its most."""
    cores: float
    """Processors that all nodes together used: what a flood costs, whatever else the machine does."""
    p99s: list[float]
    """Of each window."""


class Memory:
    """The most memory that any of some processes had since the last `take`."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = pids
        self._most = 0

    async def watch(self) -> None:
        """Look ten times a second, until cancelled."""
        while True:
            self._most = max(self._most, *map(resident, self._pids))
            await asyncio.sleep(0.1)

    def take(self) -> float:
        """Return the most since the last time, in MiB."""
        most, self._most = self._most, 0
        return most / MEBIBYTE


def resident(pid: int) -> int:
    """Return how many bytes of a process are in memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def row(noticed: Noticed, memory: float, cores: float, p99s: list[float]) -> Row:
    """Sum up."""
    p50, p99, worst = (at(noticed.arrived, share) for share in (0.5, 0.99, 1.0))
    return Row(p50, p99, worst, len(noticed.stored), len(noticed.refused), noticed.lost, memory, cores, p99s)


def at(seconds: Sequence[float], share: float) -> float:
    """Return a percentile, in milliseconds."""
    times = sorted(seconds) or [float("nan")]
    return times[min(len(times) - 1, int(len(times) * share))] * 1000


class Windows:
    """Some windows of the same load, looked at as one: a moment in which the machine did something else weighs less."""

    def __init__(self) -> None:
        self._noticed = Noticed()
        self._p99s: list[float] = []
        self._memory = self._seconds = self._cpu = 0.0

    def add(self, noticed: Noticed, memory: float, seconds: float, cpu: float) -> None:
        """Take a window: what was noticed, MiB, and how long it and the nodes' processors ran."""
        self._noticed.stored += noticed.stored
        self._noticed.arrived += noticed.arrived
        self._noticed.refused += noticed.refused
        self._noticed.lost += noticed.lost
        self._p99s.append(at(noticed.arrived, 0.99))
        self._memory = max(self._memory, memory)
        self._seconds += seconds
        self._cpu += cpu

    def row(self) -> Row:
        """Sum all up."""
        return row(self._noticed, self._memory, self._cpu / self._seconds, self._p99s)


def cpu_of(pids: Sequence[int]) -> float:
    """Return how many seconds some processes have run on a processor."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


class Flooder:
    """The process that floods: one for all floods, for it takes long to start on a busy machine."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def _tell(self, line: str, expected: str) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line.encode() + b"\n")
        async with asyncio.timeout(20.0):
            if (said := (await self._process.stdout.readline()).strip().decode()) != expected:
                raise RuntimeError(f"the flooding process said {said!r}, not {expected!r}")

    @contextlib.asynccontextmanager
    async def flooding(self, kind: str, attacker: Speaker, victim: str, urls: Sequence[str]) -> AsyncIterator[None]:
        """Run a flood beside the block, which begins once it is under way. Raises RuntimeError if it ends by itself."""
        await self._tell(json.dumps([kind, attacker.name, attacker.token.hex(), attacker.auth, victim, *urls]), "begun")
        try:
            yield
        finally:
            await self._tell("", "ended")


@contextlib.asynccontextmanager
async def flooder() -> AsyncIterator[Flooder]:
    """Start the process that floods, and end it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.floods", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield Flooder(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()  # It ends its flood, and itself.
        await process.wait()


async def measure(
    urls: Sequence[str],
    pids: Sequence[int],
    floods: Sequence[str],
    count: int,
    per_second: float,
    seconds: float,
    rounds: int = 1,
    settle: float = 0.0,
    *,
    compared: bool = True,
) -> dict[str, Row]:
    """Measure nobody else, then each flood, `rounds` times in turn with an honest account at full speed if `compared`.

    So what else the machine does meets both. A flood has run for `settle` seconds before it is looked at.
    """
    nobody = Windows()
    rows: dict[str, Row] = {}
    memory = Memory(pids)
    watching = asyncio.create_task(memory.watch())
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        flooder() as loud,
        aiohttp.ClientSession(connector=connector) as http,
        pairs(http, urls, "honest", count) as accounts,
    ):

        async def look(windows: Windows) -> None:
            memory.take()
            begun, before = time.perf_counter(), cpu_of(pids)
            noticed = await chat(accounts, per_second, seconds)
            windows.add(noticed, memory.take(), time.perf_counter() - begun, cpu_of(pids) - before)

        async def beside(kind: str, name: str, windows: Windows) -> None:
            account = await Speaker.connect(http, urls[0], name)
            await account.register()
            await account.close()
            async with loud.flooding(kind, account, accounts[0][0].name, urls):
                await asyncio.sleep(settle)
                await look(windows)

        await chat(accounts, per_second, 1.0)  # Caches, links, files.
        await look(nobody)
        rows["nobody"] = nobody.row()
        for number, kind in enumerate(floods):
            honest, hostile = Windows(), Windows()
            for turn in range(rounds):
                if compared:
                    await beside(HONEST, f"busy{number}r{turn}", honest)
                await beside(kind, f"mallory{number}r{turn}", hostile)
            if compared:
                rows[f"{BEFORE}{kind}"] = honest.row()
            rows[kind] = hostile.row()
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    return rows


def main() -> None:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.hostile", description=__doc__, epilog="example: python -m bench.hostile --only discards"
    )
    parser.add_argument("--only", choices=FLOODS, action="append", help="only this flood; may be given again")
    parser.add_argument("--pairs", type=int, default=6, help="honest senders, each with a recipient")
    parser.add_argument("--rate", type=float, default=20.0, help="messages a second of each pair")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long a window is")
    parser.add_argument(
        "--rounds", type=int, default=3, help="windows of each flood, and of the honest account between them"
    )
    parser.add_argument("--settle", type=float, default=1.0, help="seconds for which a flood has run before a window")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args()
    floods, loads = options.only or FLOODS, os.getloadavg()
    with tempfile.TemporaryDirectory(prefix="coterie-bench-", dir=Path.cwd()) as directory:
        ring = Ring(Path(directory) / "ring", 3, ENVIRONMENT)
        try:
            with on_core(SERVER):
                ring.start()
            asyncio.run(ring.ready())
            urls, pids = [node.url for node in ring.nodes], [node.pid for node in ring.nodes]
            with on_core(LOAD):
                rows = asyncio.run(
                    measure(
                        urls, pids, floods, options.pairs, options.rate, options.seconds, options.rounds, options.settle
                    )
                )
        finally:
            ring.stop()
    if options.json:
        print(json.dumps({kind: asdict(one) for kind, one in rows.items()}))
        return
    print(f"load {loads[0]:.1f} before, {os.getloadavg()[0]:.1f} after")
    print("\n".join(table(rows)))


def table(rows: Mapping[str, Row]) -> Iterator[str]:
    """Write a line for each flood, beside the honest account that was measured with it."""
    yield (
        f"{'beside':17}{'p50 ms':>8}{'p99 ms':>8}{'worst':>8}{'refused':>9}{'lost':>6}{'MiB':>6}"
        f"{'honest p99':>12}{'ratio':>8}{'median':>8}{'cores':>8}{'honest':>9}"
    )
    for kind, one in rows.items():
        if kind.startswith(BEFORE):
            continue
        line = f"{kind:17}{one.p50:8.0f}{one.p99:8.0f}{one.worst:8.0f}{one.refused:9}{one.lost:6}{one.memory:6.0f}"
        if (honest := rows.get(f"{BEFORE}{kind}")) is not None:
            median = statistics.median(mine / its for mine, its in zip(one.p99s, honest.p99s, strict=True))
            line += f"{honest.p99:12.0f}{one.p99 / honest.p99:8.2f}{median:8.2f}{one.cores:8.2f}{honest.cores:9.2f}"
        yield line


if __name__ == "__main__":
    main()
