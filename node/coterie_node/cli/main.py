"""`coterie-node`: reads the settings, runs a node until it is told to stop, and says in one line what went wrong."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from typing import TYPE_CHECKING

import structlog
import uvloop

from ..assembly.node import Ending, Node, begin_anew, without_founding
from ..bootstrap.identity import WrongRing
from ..config.settings import ConfigError, NodeConfig, unknown_variables
from ..http.listening import ListenError
from ..logs import output
from ..peer.errors import Unreachable
from ..store.errors import StoreError
from ..version import VERSION
from . import arguments as cli_args
from . import check
from . import recover as recovering

if TYPE_CHECKING:
    from collections.abc import Sequence

FAILED = 1
USAGE = 2
log = structlog.get_logger()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; return its exit code: 0 done, 1 failed, 2 usage."""
    parser = cli_args.make_parser()
    parser.add_argument("--version", action="version", version=f"coterie-node {VERSION}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    cli_args.add_run(commands)
    shown = cli_args.add_config(commands)
    shown.add_argument("--json", action="store_true", help="one JSON object a line")
    check.add_check(commands)
    recovering.add_recover(commands)
    parsed = parser.parse_args(arguments)
    if parsed.command == "check":
        return check.check(parsed)
    if parsed.command == "recover":
        return recovering.recover(parsed)
    try:
        config, settings = cli_args.effective(parsed)
    except ConfigError as error:
        print(f"coterie-node: {error}", file=sys.stderr)
        return USAGE
    if parsed.command == "config":
        for unknown in unknown_variables():
            print(f"coterie-node: {unknown}", file=sys.stderr)
        if parsed.json:
            for one in settings:
                print(json.dumps({"name": one.name.replace("_", "-"), "value": one.shown, "source": one.source}))
        else:
            print(cli_args.table(settings))
        return 0
    return run(config)


def run(config: NodeConfig) -> int:
    """Run a node until SIGTERM or SIGINT."""
    output.set_up(config.log_level, config.log_format, sys.stderr)
    for one in unknown_variables():
        log.warning("a variable does nothing", what=one)
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            try:
                ending = uvloop.run(_serve(config))
                if ending is Ending.OUTLIVED:
                    asyncio.run(begin_anew(config))
            except (ConfigError, StoreError, ListenError, WrongRing, Unreachable, OSError) as error:
                print(f"coterie-node: {error}", file=sys.stderr, flush=True)
                return FAILED
            if ending is None:
                return 0
            config = without_founding(config)
            if ending is Ending.GAVE_UP:
                _forget(config)
    return 0


async def _serve(config: NodeConfig) -> Ending | None:
    """Run one node until it is told to stop; otherwise return why another is to start in its place."""
    node = Node(config)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    told = asyncio.ensure_future(stop.wait())
    starting = asyncio.ensure_future(_run(node))
    try:
        await asyncio.wait([told, starting], return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
        else:
            log.info("stopping")
    finally:
        for task in (told, starting):
            task.cancel()
        await asyncio.gather(told, starting, return_exceptions=True)
        await node.stop()
    if stop.is_set():
        return None
    if node.damage is not None:
        raise node.damage
    return node.ending


async def _run(node: Node) -> None:
    """Start a node and wait until it wants to stop. (A stop, or damage, may come at any moment of the start.)

    Raises StoreError, ListenError, WrongRing, Unreachable.
    """
    starting = asyncio.ensure_future(node.start())
    stopped = asyncio.ensure_future(node.stopped.wait())
    try:
        await asyncio.wait([starting, stopped], return_when=asyncio.FIRST_COMPLETED)
        if node.damage is not None:
            return
        await starting
        await stopped
    finally:
        for task in (starting, stopped):
            task.cancel()
        await asyncio.gather(starting, stopped, return_exceptions=True)


def _forget(config: NodeConfig) -> None:
    """Empty the store of a node that gave its ring up: it held nothing, and returns as a new node."""
    for suffix in ("", "-wal", "-shm"):
        (config.data_dir / f"coterie.db{suffix}").unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
