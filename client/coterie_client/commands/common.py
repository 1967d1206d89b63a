"""What the commands' parsers and runs share."""

from __future__ import annotations

import argparse
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from coterie_protocol.numbers import decimal, whole

if TYPE_CHECKING:
    from coterie_client.errors import BadUserName, ClientError, NoSuchUser
    from coterie_client.settings import Settings

Run = Callable[[argparse.Namespace], int | Awaitable[int]]
FOLLOW_PATIENCE = 600.0
"""Seconds for which a command that follows looks for a server before it gives up."""
MOST_SECONDS = 1e9
MOST_NUMBER = 2**31 - 1
MOST_TEXT = 1024
"""Bytes of a text on the command line that is not a message: an alias, something to search for."""

SERVERS_HELP = (
    "comma-separated addresses, and no others; those in COTERIE_SERVERS are tried first, "
    "then others that the ring has named"
)


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
    free_text: bool = False,
) -> argparse.ArgumentParser:
    """Add a command with the options that it shares with others: `online` ones reach a server, `lists` have --json.

    `free_text`: its arguments may be any text (see take_free_text).
    """
    parser = subparsers.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.{' ' + details if details else ''}",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if free_text:
        take_free_text(parser)
    parser.set_defaults(run=run)
    parser.add_argument("--home", metavar="DIR", help="the user's data (COTERIE_HOME)")
    if online:
        parser.add_argument("--servers", metavar="URLS", help=SERVERS_HELP)
        parser.add_argument("--ca", metavar="FILE", help="authorities for wss:// servers, PEM (COTERIE_CA)")
        parser.add_argument("--insecure", action="store_true", help="allow ws:// to other machines")
    if lists:
        parser.add_argument("--json", action="store_true", help="one JSON object a line")
    return parser


def take_free_text(parser: argparse.ArgumentParser) -> None:
    """Let options stand anywhere among a command's arguments, and refuse -h after the first of these.

    argparse alone gives up an optional argument when an option stands before it, and takes a text that is -h for the
    question for help: the command would end with 0 and nothing done.
    """
    parse = parser.parse_known_args

    def parse_known_args(args: Sequence[str], namespace: argparse.Namespace) -> tuple[argparse.Namespace, list[str]]:
        options, arguments, unknown = _apart(parser, args)
        if unknown:
            parser.error(f"there is no option {unknown[0]}")
        if arguments and (asked := next((option for option in options if option in ("-h", "--help")), None)):
            parser.error(f"{asked} is no text here")
        return parse([*options, *(["--", *arguments] if arguments else [])], namespace)

    parser.parse_known_args = parse_known_args  # type: ignore[method-assign, assignment]


def _apart(parser: argparse.ArgumentParser, args: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """Return the options with their values, the other arguments, and what looks like an option and is none."""
    options: list[str] = []
    arguments: list[str] = []
    unknown: list[str] = []
    waiting = iter(args)
    for argument in waiting:
        if argument == "--":
            arguments += waiting
        elif argument[:1] != "-" or _is_argument(argument):
            arguments.append(argument)
        elif (action := _option(parser, argument.split("=")[0])) is None:
            unknown.append(argument)
        else:
            options.append(argument)
            if action.nargs is None and "=" not in argument and (value := next(waiting, None)) is not None:
                options.append(value)
    return options, arguments, unknown


def _is_argument(argument: str) -> bool:
    """Say whether argparse takes it for an argument though it begins with a dash: one with spaces, or a number."""
    return argument == "-" or " " in argument.split("=")[0] or bool(re.fullmatch(r"-\d+|-\d*\.\d+", argument))


def _option(parser: argparse.ArgumentParser, argument: str) -> argparse.Action | None:
    """Return the option that an argument names."""
    return parser._option_string_actions.get(argument)


def settings_of(options: argparse.Namespace) -> Settings:
    """Return the settings that a command's options ask for."""
    from coterie_client.output import note
    from coterie_client.private import is_readable_by_others
    from coterie_client.settings import check_proxies, load_settings

    flags = {key: getattr(options, key, None) for key in ("home", "servers", "ca", "insecure")}
    settings = load_settings(flags)
    if hasattr(options, "servers"):
        check_proxies(settings.servers)
    if is_readable_by_others(settings.session_file):
        path = settings.session_file
        note(f"coterie: others can read {path}, and so act as you; run: chmod 600 {path}")
    return settings


def tell_wait(sentence: str) -> None:
    """Say what a command waits for (`Connection.on_wait`): on standard error, and once."""
    from coterie_client.output import note

    note(f"coterie: {sentence}")


def user_name_of(text: str) -> str:
    """Normalise a user name; raises BadUserName."""
    from coterie_client.errors import BadUserName
    from coterie_protocol.errors import BadName
    from coterie_protocol.identifiers import user_name

    try:
        return user_name(text)
    except BadName as error:
        raise BadUserName(f"{error.detail}; check the name") from None


def without_alias(options: argparse.Namespace, error: BadUserName | NoSuchUser) -> ClientError:
    """Return an error that tells what to write instead, if the user wrote an alias; the same error if not."""
    import contextlib

    from coterie_client.client import Account
    from coterie_client.errors import ClientError
    from coterie_client.settings import load_settings

    typed: list[str] = getattr(options, "names", None) or [getattr(options, "name", "")]
    try:
        with contextlib.closing(Account.open(load_settings({"home": getattr(options, "home", None)}))) as account:
            aliases = {alias: name for name, alias in account.contacts.aliases().items()}
    except ClientError:
        return error
    found = next(((text, aliases[text]) for text in typed if text in aliases), None)
    if found is None:
        return error
    return type(error)(f"{found[0]!r} is your alias of {found[1]}, and aliases are only shown; write {found[1]}")


def seconds(text: str) -> float:
    """Read a number of seconds, zero or more."""
    try:
        value = decimal(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= MOST_SECONDS:
        limit = f", up to {MOST_SECONDS:.0f}" if value > 0 else ""
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number of seconds (such as 0.5 or 30){limit}")
    return value


def positive(text: str) -> int:
    """Read a whole number above zero."""
    try:
        value = whole(text)
    except ValueError:
        value = 0
    if not 1 <= value <= MOST_NUMBER:
        limit = f", up to {MOST_NUMBER}" if value > 0 else ""
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a whole number above 0{limit}")
    return value


def text_of(text: str, what: str, most: int = MOST_TEXT) -> str:
    """Return a text from the command line; raises UsageError unless it is UTF-8, of at most `most` bytes."""
    from coterie_client.errors import UsageError

    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise UsageError(f"{what} is not UTF-8 text; check the terminal's encoding") from None
    if size > most:
        raise UsageError(f"{what} has {size} bytes and the limit is {most}; choose a shorter one")
    return text
