"""`python -m bench.failover`: how long the next acknowledgement takes when a node is killed or frozen.

A client of the library streams to somebody while one node of a real ring of five is hit: the client's gateway, or the
acting owner of the recipient's slot, by kill -9 (its machine answers: the port is closed) or by SIGSTOP (it accepts
connections and says nothing, as behind a broken switch). Each figure is the longest time without an acknowledgement
from the signal on: in practice the time to the next one.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.harness import Node, Ring
from tests.cluster.people import Person, Stream, person

from coterie_client.client import Client
from coterie_protocol.identifiers import DEFAULT_SLOTS, slot_of_name

from .bare import measure_reconnect

RECIPIENTS = 8
"""Enough that for any gateway somebody's slot is owned by another node."""
WARM = 30
"""Acknowledgements before a node is hit."""


@dataclass(frozen=True)
class Blow:
    """One way of hitting a node."""

    label: str
    owner: bool
    """Hit the recipient's acting owner, and let the client stream through another node; else hit its gateway."""
    hit: Callable[[Node], None]
    mend: Callable[[Node], None]


BLOWS = {
    "kill-gateway": Blow("kill -9 of the client's gateway", False, Node.kill, Node.start),
    "kill-owner": Blow("kill -9 of the acting owner", True, Node.kill, Node.start),
    "freeze-owner": Blow("SIGSTOP of the acting owner", True, Node.freeze, Node.thaw),
    "freeze-gateway": Blow("SIGSTOP of the client's gateway", False, Node.freeze, Node.thaw),
}


def main() -> None:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.failover", description=__doc__, epilog="example: python -m bench.failover --rounds 3"
    )
    parser.add_argument("--nodes", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=9, help="how often each blow falls; the median is printed")
    parser.add_argument("--only", choices=BLOWS, action="append", help="only this blow; may be given again")
    parser.add_argument("--json", action="store_true", help="one JSON object: seconds of every round, by blow")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="coterie-bench-", dir=Path.cwd()) as directory:
        found = asyncio.run(_measure(Path(directory), options.nodes, options.rounds, options.only or list(BLOWS)))
    if options.json:
        print(json.dumps(found))
        return
    print(
        f"{options.nodes} nodes, a message each 10 ms, {options.rounds} rounds; seconds to the next acknowledgement\n"
    )
    print(f"{'':55}{'median':>9}{'best':>9}{'worst':>9}")
    labels = {name: blow.label for name, blow in BLOWS.items()} | {
        "bare": "floor: bare TCP, kill -9, reconnect and echo"
    }
    for name, seconds in found.items():
        print(f"{labels[name]:55}{statistics.median(seconds):9.3f}{min(seconds):9.3f}{max(seconds):9.3f}")


async def _measure(directory: Path, nodes: int, rounds: int, blows: list[str]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in (*blows, "bare")}
    ring = Ring(directory / "ring", nodes)
    try:
        ring.start()
        await ring.ready()
        alice = await person(ring, directory, "alice")
        names = [(await person(ring, directory, f"reader{i}")).name for i in range(RECIPIENTS)]
        for _ in range(rounds):
            for name in blows:
                found[name].append(await _round(ring, alice, names, BLOWS[name]))
            found["bare"].append(await measure_reconnect())
    finally:
        ring.stop()
    return found


async def _round(ring: Ring, alice: Person, names: list[str], blow: Blow) -> float:
    async with alice.online(patience=60.0) as client:
        gateway = next(node for node in ring.nodes if node.url == client.connection.url)
        to, owner = await _recipient(ring, names, gateway)
        async with _streaming(client, to) as stream:
            node = owner if blow.owner else gateway
            since = time.monotonic()
            blow.hit(node)
            took = await stream.outage(since, 30.0)
        blow.mend(node)
    await ring.ready()
    return took


async def _recipient(ring: Ring, names: list[str], gateway: Node) -> tuple[str, Node]:
    """Return somebody whose slot another node than the gateway acts for, and that node."""
    for name in names:
        owner = await ring.acting_node(slot_of_name(name, DEFAULT_SLOTS))
        if owner is not gateway:
            return name, owner
    raise RuntimeError("one node acts for everybody")


@contextlib.asynccontextmanager
async def _streaming(client: Client, to: str) -> AsyncIterator[Stream]:
    async with Stream(client, to) as stream:
        await stream.steady(WARM, 10.0)
        yield stream


if __name__ == "__main__":
    main()
