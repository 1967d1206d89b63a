"""What the commands' parsers and runs share."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coterie_client.settings import Settings

Run = Callable[[argparse.Namespace], int | Awaitable[int]]
FOLLOW_PATIENCE = 600.0
"""Seconds for which a command that follows looks for a server before it gives up."""


def add_command(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    run: Run,
    *,
    summary: str,
    example: str,
    online: bool = True,
    lists: bool = False,
    details: str = "",
) -> argparse.ArgumentParser:
    """Add a command with the options that it shares with others: `online` ones reach a server, `lists` have --json."""
    parser = subparsers.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.{' ' + details if details else ''}",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("--home", metavar="DIR", help="the user's data (COTERIE_HOME)")
    if online:
        parser.add_argument("--servers", metavar="URLS", help="comma-separated addresses (COTERIE_SERVERS)")
        parser.add_argument("--ca", metavar="FILE", help="authorities for wss:// servers, PEM (COTERIE_CA)")
        parser.add_argument("--insecure", action="store_true", help="allow ws:// to other machines")
    if lists:
        parser.add_argument("--json", action="store_true", help="one JSON object a line")
    return parser


def settings_of(options: argparse.Namespace) -> Settings:
    """Return the settings that a command's options ask for."""
    from coterie_client.settings import load_settings

    flags = {key: getattr(options, key, None) for key in ("home", "servers", "ca", "insecure")}
    return load_settings(flags)


def user_name_of(text: str) -> str:
    """Normalise a user name; raises UsageError."""
    from coterie_client.errors import UsageError
    from coterie_protocol.errors import BadName
    from coterie_protocol.identifiers import user_name

    try:
        return user_name(text)
    except BadName as error:
        raise UsageError(f"{error.detail}; check the name") from None


def seconds(text: str) -> float:
    """Read a number of seconds, zero or more."""
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds")
    return value


def positive(text: str) -> int:
    """Read a whole number above zero."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number above zero")
    return value
