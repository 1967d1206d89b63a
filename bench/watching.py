"""`python -m bench.watching`: what it costs the nodes to be watched, in CPU seconds for the same work.

A real ring does the same again and again: so many messages at a steady pace, or nothing. Every other time each node is
scraped as Prometheus does it, and whatever `--open` names (the ring page's events, say) is held open and read. Each
watched turn has an unwatched one beside it, so that what else the machine does meets both, and is compared with that.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import uvloop

from .cores import LOAD, SERVER, on_core
from .load import Connection, connect_all, send_paced
from .ring import running_ring
from .threads import spent

CLIENTS = 32
ACCEPT = "application/openmetrics-text;version=1.0.0;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
"""What Prometheus sends; and it keeps its connections."""
WARM = 2.0
"""Seconds of work before anything is measured."""


@dataclass(frozen=True)
class Watched:
    """CPU seconds of one node, for each turn, and how much the watchers got."""

    without: list[float]
    watched: list[float]
    scrapes: int
    """How often any node was scraped, in all turns together."""
    read: int
    """Bytes that came from what was held open."""

    @property
    def ratio(self) -> float:
        """Return how much more CPU time a watched turn took than the one beside it, the median: 1.0 is nothing."""
        return statistics.median(one / two for one, two in zip(self.watched, self.without, strict=True))


class Watchers:
    """Scrapes and open pages: started and stopped with each watched turn."""

    def __init__(self, session: aiohttp.ClientSession, urls: Sequence[str], every: float, paths: Sequence[str]) -> None:
        self._session = session
        self._urls = urls
        self._every = every
        self._paths = paths
        self.scrapes = 0
        self.read = 0

    @contextlib.asynccontextmanager
    async def watching(self) -> Any:
        """Watch as long as the block lasts. Raises what a watcher raised: one that stopped would measure nothing."""
        jobs = [self._open(url + path) for url in self._urls for path in self._paths]
        if self._every:
            jobs += [self._scrape(url) for url in self._urls]
        tasks = [asyncio.create_task(job) for job in jobs]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            for end in await asyncio.gather(*tasks, return_exceptions=True):
                if not isinstance(end, asyncio.CancelledError):
                    raise end or RuntimeError("a node ended what was to be held open")

    async def _scrape(self, url: str) -> None:
        await asyncio.sleep(random.uniform(0, self._every))  # Prometheus spreads its targets.
        while True:
            begun = time.monotonic()
            async with self._session.get(f"{url}/metrics", headers={"Accept": ACCEPT}) as response:
                response.raise_for_status()
                await response.read()
            self.scrapes += 1
            await asyncio.sleep(self._every - (time.monotonic() - begun))

    async def _open(self, url: str) -> None:
        async with self._session.get(url, timeout=aiohttp.ClientTimeout()) as response:
            response.raise_for_status()
            async for chunk in response.content.iter_any():
                self.read += len(chunk)


def main() -> None:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.watching",
        description=__doc__,
        epilog="example: python -m bench.watching --rate 2000 --open /api/v1/events",
    )
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--rate", type=int, default=1000, help="messages a second of all clients; 0: an idle ring")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long a turn takes")
    parser.add_argument("--rounds", type=int, default=25, help="pairs of turns; the median is printed")
    parser.add_argument("--scrape-every", type=float, default=1.0, metavar="SECONDS", help="0: not at all")
    parser.add_argument(
        "--open", action="append", default=[], metavar="PATH", help="hold this open on each node; may be given again"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object: CPU seconds of every turn")
    options = parser.parse_args()
    if wrong := [path for path in options.open if not path.startswith("/")]:
        parser.error(f"--open {wrong[0]}: a path begins with /, as /api/v1/events does")
    with tempfile.TemporaryDirectory(prefix="coterie-bench-", dir=Path.cwd()) as directory:
        with on_core(SERVER):
            ring = contextlib.ExitStack()
            urls, pids = ring.enter_context(running_ring(Path(directory) / "ring", options.nodes, None))
        with ring, on_core(LOAD):
            found = uvloop.run(_measure(options, urls, pids))
    if options.json:
        print(json.dumps({**vars(found), "ratio": found.ratio}))
        return
    _print(options, found)


async def _measure(options: argparse.Namespace, urls: list[str], pids: list[int]) -> Watched:
    without: list[float] = []
    watched: list[float] = []
    names = [f"bench-{i}" for i in range(CLIENTS)]
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        connections = await connect_all(session, urls, names)
        watchers = Watchers(session, [admin_url(url) for url in urls], options.scrape_every, options.open)
        await _work(connections, names, options.rate, WARM)
        for number in range(2 * options.rounds):
            # Which of a pair comes first alternates too: what grows over time (the store) favours neither.
            watch = number % 4 in (1, 2)
            begun = spent(pids)
            async with watchers.watching() if watch else contextlib.nullcontext():
                await _work(connections, names, options.rate, options.seconds)
            took = spent(pids).since(begun)
            (watched if watch else without).append((took.loops + took.others) / len(pids))
    return Watched(without, watched, watchers.scrapes, watchers.read)


async def _work(connections: Sequence[Connection], names: Sequence[str], rate: int, seconds: float) -> None:
    if not rate:
        await asyncio.sleep(seconds)
        return
    interval = len(connections) / rate
    await asyncio.gather(*(send_paced(one, names, interval, round(seconds / interval)) for one in connections))


def admin_url(client_url: str) -> str:
    """Return the admin address of a node of a local ring: its ports follow each other."""
    host, _, port = client_url.removeprefix("ws://").rpartition(":")
    return f"http://{host}:{int(port) + 2}"


def _print(options: argparse.Namespace, found: Watched) -> None:
    work = f"{options.rate} messages/s" if options.rate else "no messages"
    print(
        f"{options.nodes} nodes on core {SERVER}, {work}, {options.rounds} turns of {options.seconds:g} s each; "
        f"scraped {found.scrapes} times, {found.read} bytes read of what was held open\n"
    )
    print(f"{'':20}{'CPU s of a node':>18}{'best':>9}{'worst':>9}{'of a core':>12}")
    for label, seconds in (("not watched", found.without), ("watched", found.watched)):
        median = statistics.median(seconds)
        print(f"{label:20}{median:18.3f}{min(seconds):9.3f}{max(seconds):9.3f}{median / options.seconds:12.2%}")
    print(f"\nwatched/not watched, the median of the pairs: {found.ratio:.3f}")


if __name__ == "__main__":
    main()
