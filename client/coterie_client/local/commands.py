"""The command line of `up`, `down` and `ring`. Only argparse is imported here: everything else when a command runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..commands.common import positive

if TYPE_CHECKING:
    from argparse import Namespace, _SubParsersAction

DEFAULT_NODES = 5
DEFAULT_PORT = 7400


def add_commands(subparsers: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the three commands; each sets `run`, a function of the parsed arguments that returns the exit code."""
    _add_up(subparsers)
    _add_down(subparsers)
    _add_ring(subparsers)


def _parser(
    subparsers: _SubParsersAction[argparse.ArgumentParser], name: str, text: str, example: str
) -> argparse.ArgumentParser:
    return subparsers.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _directory(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise argparse.ArgumentTypeError(f"{text} begins with a home directory that does not exist") from None


def _add_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dir",
        type=_directory,
        metavar="DIR",
        help="the ring's directory (default: 'coterie/ring' in your user data folder, whatever COTERIE_HOME is)",
    )


def _add_up(subparsers: _SubParsersAction[argparse.ArgumentParser]) -> None:
    up = _parser(subparsers, "up", "start a ring on this machine, or start it again", "coterie up --nodes 3")
    up.add_argument(
        "--nodes", type=positive, metavar="N", help=f"how many nodes (default: as before, or {DEFAULT_NODES})"
    )
    up.add_argument(
        "--replication-factor",
        type=positive,
        metavar="K",
        help="on how many nodes everything is kept (default: 3, below three nodes 1); fixed when the ring is founded",
    )
    _add_dir(up)
    up.add_argument(
        "--port",
        type=positive,
        metavar="PORT",
        help="the first node's client port; peers are at +1, admin at +2, the next node at +10 "
        f"(default: as before, or {DEFAULT_PORT})",
    )
    up.add_argument("--detach", action="store_true", help="return once accounts can be made; stop with: coterie down")
    up.set_defaults(run=_run_up)


def _add_down(subparsers: _SubParsersAction[argparse.ArgumentParser]) -> None:
    down = _parser(subparsers, "down", "stop a ring on this machine; its data stay", "coterie down")
    _add_dir(down)
    down.add_argument("--purge", action="store_true", help="delete its data too, after asking")
    down.add_argument("--yes", action="store_true", help="with --purge: do not ask")
    down.set_defaults(run=_run_down)


def _add_ring(subparsers: _SubParsersAction[argparse.ArgumentParser]) -> None:
    ring = _parser(subparsers, "ring", "show the ring as a table", "coterie ring --admin http://127.0.0.1:7402")
    ring.add_argument("--admin", metavar="URL", help="a node's admin port (default: any node of the local ring)")
    _add_dir(ring)
    ring.add_argument("--json", action="store_true", help="one JSON object a line for each member")
    ring.set_defaults(run=_run_ring)


def _run_up(args: Namespace) -> int:
    from .up import up

    return up(args.dir, args.nodes, args.replication_factor, args.port, detach=args.detach)


def _run_down(args: Namespace) -> int:
    from .down import down

    return down(args.dir, purge=args.purge, yes=args.yes)


def _run_ring(args: Namespace) -> int:
    from .show import show_ring

    return show_ring(args.admin, args.dir, json=args.json)
