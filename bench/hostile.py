"""`python -m bench.hostile`: what honest accounts notice of one hostile account that does each flood at full speed.

A ring of three real nodes; honest pairs chat at a steady pace all the while. Each flood comes from one account, on
several connections, in a process of its own. Beside it stands the same chat while an *honest* account sends at full
speed: with 128 messages under way, and waiting as it is told. Milliseconds from Send to the recipient; `ratio` is of
the two p99, one measured right after the other.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import aiohttp
from tests.cluster.harness import Ring

from .cores import LOAD, SERVER, on_core
from .floods import FLOODS
from .honest import Noticed, Speaker, busy, chat, pairs

MEBIBYTE = 1024 * 1024
HONEST = "before "
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


def row(noticed: Noticed, memory: float) -> Row:
    """Sum up."""
    times = sorted(noticed.arrived) or [float("nan")]
    p50, p99, worst = (times[min(len(times) - 1, int(len(times) * share))] * 1000 for share in (0.5, 0.99, 1.0))
    return Row(p50, p99, worst, len(noticed.stored), len(noticed.refused), noticed.lost, memory)


@contextlib.asynccontextmanager
async def flooding(kind: str, attacker: Speaker, victim: str, urls: Sequence[str]) -> AsyncIterator[None]:
    """Run a flood beside the block, which begins once it is under way."""
    command = [sys.executable, "-m", "bench.floods", kind, attacker.name, attacker.token.hex(), attacker.auth, victim]
    process = await asyncio.create_subprocess_exec(*command, *urls, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(20.0):
            if not await process.stdout.readline():
                raise RuntimeError(f"the flood {kind!r} did not begin")
        yield
        if process.returncode is not None:
            raise RuntimeError(f"the flood {kind!r} ended by itself with {process.returncode}")
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def measure(
    urls: Sequence[str], pids: Sequence[int], floods: Sequence[str], count: int, per_second: float, seconds: float
) -> dict[str, Row]:
    """Measure nobody else, then each flood with an honest account at full speed before it.

    So what else the machine does meets both.
    """
    rows: dict[str, Row] = {}
    memory = Memory(pids)
    watching = asyncio.create_task(memory.watch())
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as http, pairs(http, urls, "honest", count) as accounts:

        async def look() -> Row:
            memory.take()
            return row(await chat(accounts, per_second, seconds), memory.take())

        async def beside_honest(number: int) -> Row:
            load = asyncio.create_task(busy(http, urls, f"busy{number}"))
            try:
                return await look()
            finally:
                load.cancel()
                await asyncio.gather(load, return_exceptions=True)

        await chat(accounts, per_second, 1.0)  # Caches, links, files.
        rows["nobody"] = await look()
        for number, kind in enumerate(floods):
            rows[f"{HONEST}{kind}"] = await beside_honest(number)
            attacker = await Speaker.connect(http, urls[0], f"mallory{number}")
            await attacker.register()
            await attacker.close()
            async with flooding(kind, attacker, accounts[0][0].name, urls):
                rows[kind] = await look()
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
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each flood is measured")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args()
    floods = options.only or FLOODS
    with tempfile.TemporaryDirectory(prefix="coterie-bench-", dir=Path.cwd()) as directory:
        ring = Ring(Path(directory) / "ring", 3, ENVIRONMENT)
        try:
            with on_core(SERVER):
                ring.start()
            asyncio.run(ring.ready())
            urls, pids = [node.url for node in ring.nodes], [node.pid for node in ring.nodes]
            with on_core(LOAD):
                rows = asyncio.run(measure(urls, pids, floods, options.pairs, options.rate, options.seconds))
        finally:
            ring.stop()
    if options.json:
        print(json.dumps({kind: asdict(one) for kind, one in rows.items()}))
        return
    print(f"{'beside':17}{'p50 ms':>8}{'p99 ms':>8}{'worst':>8}{'honest p99':>12}{'ratio':>7}", end="")
    print(f"{'refused':>9}{'lost':>6}{'MiB':>6}")
    for kind, one in rows.items():
        if kind.startswith(HONEST):
            continue
        beside = rows.get(f"{HONEST}{kind}")
        compared = f"{beside.p99:12.0f}{one.p99 / beside.p99:7.2f}" if beside else " " * 19
        print(f"{kind:17}{one.p50:8.0f}{one.p99:8.0f}{one.worst:8.0f}{compared}", end="")
        print(f"{one.refused:9}{one.lost:6}{one.memory:6.0f}")


if __name__ == "__main__":
    main()
