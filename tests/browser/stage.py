"""`python -m tests.browser.stage`: the admin port of one node in a ring of as many as you like, in one process.

The page, the API and the nodes' rooms are the real ones; links and disks are memory (see memory_ring). People write all
the time. Lines on standard input are obeyed: `kill NAME`, `start NAME`, `quit`; the end of the input is none.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import random
import signal
import sys
import warnings
from collections.abc import Sequence

import structlog
import uvloop
from tests.browser.memory_ring import MemoryNode, MemoryRing

from coterie_node.api.admin import admin_app
from coterie_node.assembly.node import ADMIN_LIMITS
from coterie_node.config.settings import Address
from coterie_node.http.listening import ListenError, Port

WRITING = 0.5
"""Seconds between two lots of messages."""
BULK = 500
"""Bytes a second that a node hands over: a hand-over takes half a minute then, and can be watched."""
RESTLESS = 8.0
"""Seconds between a death and a return, and the next death."""


async def play(
    names: Sequence[str],
    *,
    port: int = 0,
    down: int = 0,
    restless: bool = False,
    messages: float = 20.0,
    bulk: int = BULK,
    seed: int = 1,
) -> None:
    """Serve until SIGTERM, SIGINT or `quit`. Raises ListenError."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, over.set)
    async with MemoryRing(names, seed, bulk=bulk) as ring, contextlib.AsyncExitStack() as stack:
        first = ring.nodes[0]
        assert first.view is not None
        server = Port(admin_app(first.view, None), Address("127.0.0.1", port), "the stage", "--port", ADMIN_LIMITS)
        bound = await server.start()
        stack.push_async_callback(server.close)
        for node in _spread(ring.nodes[1:], down):
            await ring.kill(node)
        print(f"http://127.0.0.1:{bound}/", flush=True)
        async with asyncio.TaskGroup() as tasks:
            work = [tasks.create_task(_write(ring, messages)), tasks.create_task(_obey(ring, over))]
            if restless:
                work.append(tasks.create_task(_come_and_go(ring)))
            await over.wait()
            for one in work:
                one.cancel()


def _spread(nodes: Sequence[MemoryNode], count: int) -> list[MemoryNode]:
    """Pick so many nodes, as far from each other as can be."""
    return [nodes[(2 * index + 1) * len(nodes) // (2 * count)] for index in range(count)]


async def _write(ring: MemoryRing, messages: float) -> None:
    while True:
        await asyncio.sleep(WRITING)
        await ring.write(round(messages * WRITING))


async def _come_and_go(ring: MemoryRing) -> None:
    rng = random.Random(0)
    while True:
        node = rng.choice(ring.nodes[1:])
        if node.tasks is None:
            continue
        await ring.kill(node)
        await asyncio.sleep(RESTLESS)
        await ring.start(node)
        await asyncio.sleep(RESTLESS)


async def _obey(ring: MemoryRing, over: asyncio.Event) -> None:
    """Do what is typed."""
    reader = asyncio.StreamReader()
    try:
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    except (ValueError, OSError):  # Standard input is a file, or closed.
        return
    while line := (await reader.readline()).decode():
        word, _, name = line.strip().partition(" ")
        if word == "quit":
            over.set()
        elif word in ("kill", "start") and (node := ring.named(name)) and (node.tasks is None) == (word == "start"):
            await (ring.kill if word == "kill" else ring.start)(node)
        else:
            print(f"cannot {line.strip()!r}: say kill NAME of one that runs, start NAME, or quit", file=sys.stderr)


def names_of(nodes: int, given: Sequence[str] = ()) -> list[str]:
    """Return names as pods have them, in no order round the ring, after those that are given."""
    numbers = list(range(nodes))
    random.Random(nodes).shuffle(numbers)
    return [*given, *(f"main-{number}" for number in numbers)][:nodes]


def main() -> int:
    """Run the command; 0 done, 1 the port is taken."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.browser.stage",
        description=__doc__,
        epilog="example: python -m tests.browser.stage --nodes 300 --port 7402 --down 2",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--nodes", type=int, default=50, help="how many (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="of loopback; 0 takes a free one (default)")
    parser.add_argument("--name", action="append", default=[], help="the name of the first node, the second, ...")
    parser.add_argument("--down", type=int, default=0, help="nodes that are dead from the beginning")
    parser.add_argument("--restless", action="store_true", help="nodes die and return all the time")
    parser.add_argument("--messages", type=float, default=20.0, help="written a second (default: %(default)s)")
    parser.add_argument("--bulk", type=int, default=BULK, help="bytes handed over a second (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of all chance (default: %(default)s)")
    given = parser.parse_args()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
    )
    # A node that is killed while it compares with another leaves a read that was made and never begun.
    warnings.filterwarnings("ignore", message="coroutine .* was never awaited", category=RuntimeWarning)
    names = names_of(given.nodes, given.name)
    try:
        uvloop.run(
            play(
                names,
                port=given.port,
                down=given.down,
                restless=given.restless,
                messages=given.messages,
                bulk=given.bulk,
                seed=given.seed,
            )
        )
    except ListenError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
