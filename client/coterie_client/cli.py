"""The `coterie` command: finds the command's module, runs it, and turns what goes wrong into one line and an exit code.

A command module has `add_commands(subparsers)`, which adds its parsers, each with the default
`run: Callable[[Namespace], int | Awaitable[int]]`. Only the module of the command that is run is imported, and it in
turn imports what is slow (asyncio, aiohttp, cryptography) when it runs: starting is fast.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NoReturn, cast

from coterie_protocol.errors import CoterieError

from . import __version__, interrupts
from .errors import BadUserName, ClientError, ExitCode, NoSuchUser, translate
from .output import note
from .streams import Screen, guard

MODULES = {
    "coterie_client.local.commands": ("up", "down", "ring"),
    "coterie_client.commands.account": ("register", "login", "logout", "whoami"),
    "coterie_client.commands.send": ("send",),
    "coterie_client.commands.receive": ("receive",),
    "coterie_client.commands.chat": ("chat",),
    "coterie_client.commands.history": ("history",),
    "coterie_client.commands.contacts": ("contacts",),
    "coterie_client.commands.presence": ("presence",),
}
"""Command modules and the commands that each of them adds, in the order of --help."""

OF_COMMANDS = ("--home", "--servers", "--ca", "--insecure", "--json", "--dir")
"""Options that many commands have, and that none has before its name."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Make a parser that wants options in full: the beginning of one may mean another in the next release."""
        super().__init__(*arguments, **{"allow_abbrev": False, **options})

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse what is left over here, where it is known what the command takes, and not in the parser above."""
        options, left = super().parse_known_args(args, namespace)
        if left:
            self._refuse(left)
        return options, left

    def _refuse(self, left: Sequence[str]) -> NoReturn:
        if (option := next((argument for argument in left if argument[:1] == "-"), None)) is not None:
            self.error(f"there is no option {option}")
        text = any(action.dest == "text" for action in self._actions)
        self.error(f"{' '.join(left)!r} is one argument too many{'; a TEXT of several words goes in quotes' * text}")

    def error(self, message: str) -> NoReturn:
        """Exit with 2."""
        # A value that an option does not take has nothing to do with dashes.
        of_value = "goes after the command" in message or (
            message.startswith("argument ") and "expected" not in message
        )
        dashes = (
            "" if of_value or " -" not in f" {message}" else "; what begins with a dash and is no option goes after --"
        )
        self.exit(2, f"{self.prog}: {message.replace(chr(10), ' ')}{dashes}; see: {self.prog} --help\n")

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        """Take -- for the value in --option=--; argparse takes it away and gives the option an empty list."""
        if action.option_strings and action.nargs is None and arg_strings == ["--"]:
            return self._get_value(action, "--")
        return super()._get_values(action, arg_strings)


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """Build the parser, with every command or with the one that is going to run."""
    parser = Parser(
        prog="coterie",
        description="Chat through a ring of equal nodes.",
        epilog="example:\n  coterie up --detach && coterie register alice && coterie send alice 'a note to myself'\n\n"
        "exit codes: 0 done, 1 failed, 2 usage, 3 not logged in or refused, 4 no such user, 5 unavailable, "
        "7 session taken over elsewhere, 8 kept but not stored yet, 9 stored but not delivered in time, 130 Ctrl-C",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"coterie {__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for module, commands in MODULES.items():
        if command is None or command in commands:
            importlib.import_module(module).add_commands(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    os.umask(0o077)  # all that is made here, and by the nodes of `up`, is its owner's alone
    with guard():
        code = _ended(lambda: _run(arguments))
        lost = cast(Screen, sys.stdout).lost
        if code == ExitCode.DONE and lost is not None and not isinstance(lost, BrokenPipeError):
            code = _failed(lost)  # argparse does not ask whether its help could be written
    return code


def _ended(run: Callable[[], int]) -> int:
    """Run; return the exit code, also of what went wrong."""
    try:
        return run()
    except BrokenPipeError:
        return ExitCode.DONE
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except Exception as error:
        if interrupts.pressed():
            return ExitCode.INTERRUPTED
        if os.environ.get("COTERIE_DEBUG"):
            import traceback

            traceback.print_exc()
        return _failed(error)


def _run(arguments: Sequence[str]) -> int:
    known = {name for names in MODULES.values() for name in names}
    command = arguments[0] if arguments and arguments[0] in known else None
    try:
        parser = build_parser(command)
        if command is None and arguments and arguments[0].split("=")[0] in OF_COMMANDS:
            parser.error(f"{arguments[0].split('=')[0]} goes after the command, as in: coterie whoami --home DIR")
        options = parser.parse_args(arguments)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else ExitCode.USAGE
    try:
        result = options.run(options)
        if inspect.iscoroutine(result):
            import asyncio

            return asyncio.run(_cancellable(result))
        return int(result)
    except (BadUserName, NoSuchUser) as error:
        from .commands.common import without_alias

        raise without_alias(options, error) from None


async def _cancellable(command: Coroutine[Any, Any, int]) -> int:
    """Run the command; Ctrl-C cancels it, so that what it has opened is closed."""
    import asyncio

    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def cancel() -> None:
        loop.call_soon_threadsafe(task.cancel)  # type: ignore[union-attr]  # there is a current task

    with interrupts.gently(cancel):
        try:
            code = int(await command)
        except asyncio.CancelledError:
            code = ExitCode.INTERRUPTED
        return ExitCode.INTERRUPTED if interrupts.pressed() else code


def _failed(error: Exception) -> int:
    failure = _described(error)
    note(f"coterie: {failure}")
    return failure.exit_code


def _described(error: Exception) -> ClientError:
    match error:
        case ClientError():
            return error
        case CoterieError():
            return translate(error)
        case OSError(strerror=str(reason)):
            return ClientError(f"the system refused: {reason}{f' ({error.filename})' if error.filename else ''}")
        case _:
            return ClientError(
                f"a fault in this program ({type(error).__name__}: {error}); "
                "please report it with what COTERIE_DEBUG=1 shows"
            )
