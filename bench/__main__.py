"""`python -m bench`: acknowledged messages a second of a ring on one core, beside what the machine could do at best."""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp
import uvloop

from .commit import measure_commit
from .cores import LOAD, SERVER, on_core
from .echo import echo_server, measure_echo
from .load import BODY_BYTES, connect_all, storm
from .measure import Measured, median
from .ring import print_profile, running_ring
from .threads import Spent, spent

Measurement = Callable[[], Coroutine[Any, Any, Measured]]


def main() -> None:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=__doc__,
        epilog="example: python -m bench --rounds 3. See also bench.failover, bench.hostile, bench.rereplicate and"
        " bench.watching, each with --help",
    )
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--in-flight", type=int, default=16, help="messages at a time of a pipelining client")
    parser.add_argument("--rounds", type=int, default=5, help="the median of so many is printed")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long a round takes")
    parser.add_argument("--profile", action="store_true", help="show where the first node spends its time")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="coterie-bench-", dir=Path.cwd()) as directory, ExitStack() as stack:
        profile = Path(directory) / "profile" if options.profile else None
        with on_core(SERVER):
            echo = stack.enter_context(echo_server())
            urls, pids = stack.enter_context(running_ring(Path(directory) / "ring", options.nodes, profile))
        with on_core(LOAD):
            rows, shares = uvloop.run(_measure(options, urls, pids, echo))
        stack.close()
        with on_core(SERVER):
            rows["commit"] = median(
                [
                    uvloop.run(measure_commit(Path(directory) / f"store-{i}", options.clients, options.seconds))
                    for i in range(options.rounds)
                ]
            )
        _print(options, rows, shares)
        if profile is not None:
            print_profile(profile, 30)


async def _measure(
    options: argparse.Namespace, urls: list[str], pids: list[int], echo: str
) -> tuple[dict[str, Measured], Spent]:
    """Measure ring and echo in turn, so that what else the machine does meets both; and what the load cost the ring."""
    names = [f"bench-{i}" for i in range(options.clients)]
    rounds: dict[str, list[Measured]] = {"idle": [], "load": [], "pipelined": [], "echo": []}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        connections = await connect_all(session, urls, names)
        await storm(connections, names, 1, 1.0)  # warm up: caches, links, files
        for _ in range(options.rounds):
            rounds["idle"].append(await storm(connections[:1], names, 1, options.seconds))
            before = spent(pids)
            rounds["load"].append(await storm(connections, names, 1, options.seconds))
            shares = spent(pids).since(before)
            rounds["pipelined"].append(await storm(connections, names, options.in_flight, options.seconds))
            rounds["echo"].append(await measure_echo(session, echo, options.clients, options.seconds))
    return {kind: median(found) for kind, found in rounds.items()}, shares


def _print(options: argparse.Namespace, rows: dict[str, Measured], shares: Spent) -> None:
    if options.json:
        print(json.dumps({kind: vars(found) for kind, found in rows.items()}))
        return
    labels = {
        "load": f"ring, {options.clients} clients, one message at a time each",
        "pipelined": f"ring, {options.clients} clients, {options.in_flight} messages at a time each",
        "idle": "ring, idle but for one client",
        "echo": f"ceiling: aiohttp WebSocket echo, {options.clients} clients",
        "commit": f"ceiling: SQLite group commit alone, {options.clients} writers",
    }
    print(
        f"{options.nodes} nodes on core {SERVER}, load on core {LOAD}, {BODY_BYTES}-byte messages, each fsynced on "
        f"{min(3, options.nodes) // 2 + 1} of {min(3, options.nodes)}\n"
        f"Python {platform.python_version()}, median of {options.rounds} rounds of {options.seconds:g} s\n"
    )
    print(f"{'':55}{'messages/s':>12}{'p50 ms':>10}{'p99 ms':>10}")
    for kind, label in labels.items():
        found = rows[kind]
        print(f"{label:55}{found.rate:12,.0f}{found.p50:10.2f}{found.p99:10.2f}")
    best = rows["load"].rate
    print(f"\nring/echo {best / rows['echo'].rate:.2f}, ring/commit {best / rows['commit'].rate:.2f}")
    print(
        f"Under load the nodes' event loops take {shares.loops / options.seconds:.0%} of their core, "
        f"their other threads (the stores) {shares.others / options.seconds:.0%}"
    )


if __name__ == "__main__":
    main()
