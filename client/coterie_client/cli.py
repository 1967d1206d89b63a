"""The `coterie` command: finds the command's module, runs it, and turns what goes wrong into one line and an exit code.

A command module has `add_commands(subparsers)`, which adds its parsers, each with the default
`run: Callable[[Namespace], int | Awaitable[int]]`. Only the module of the command that is run is imported, and it in
turn imports what is slow (asyncio, aiohttp, cryptography) when it runs: starting is fast.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import inspect
import os
import sys
from collections.abc import Awaitable, Sequence
from typing import NoReturn

from coterie_protocol.errors import CoterieError

from . import __version__
from .errors import ClientError, ExitCode, translate

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


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """Exit with 2."""
        self.exit(2, f"{self.prog}: {message}; see: {self.prog} --help\n")


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """Build the parser, with every command or with the one that is going to run."""
    parser = Parser(
        prog="coterie",
        description="Chat through a ring of equal nodes.",
        epilog="example:\n  coterie up --detach && coterie register alice && coterie send bob 'hello'\n\n"
        "exit codes: 0 done, 1 failed, 2 usage, 3 not logged in or refused, 4 no such user, 5 unavailable, "
        "7 session taken over elsewhere, 130 Ctrl-C",
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
    _prepare_streams()
    try:
        try:
            code = _run(arguments)
            sys.stdout.flush()
        except BrokenPipeError:
            code = ExitCode.DONE
        except KeyboardInterrupt:
            code = ExitCode.INTERRUPTED
        except OSError as error:
            code = _failed(error)
    finally:
        _settle_stdout()
    return code


def _run(arguments: Sequence[str]) -> int:
    known = {name for names in MODULES.values() for name in names}
    command = arguments[0] if arguments and arguments[0] in known else None
    try:
        options = build_parser(command).parse_args(arguments)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else ExitCode.USAGE
    try:
        result = options.run(options)
        if inspect.isawaitable(result):
            import asyncio

            result = asyncio.run(_await(result))
    except (BrokenPipeError, KeyboardInterrupt):
        raise
    except Exception as error:
        if os.environ.get("COTERIE_DEBUG"):
            raise
        return _failed(error)
    return int(result)


def _failed(error: Exception) -> int:
    failure = _described(error)
    print(f"coterie: {failure}", file=sys.stderr)
    return failure.exit_code


async def _await(awaitable: Awaitable[int]) -> int:
    return await awaitable


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


def _prepare_streams() -> None:
    """Speak UTF-8 whatever the locale says, and be silent where a stream is closed."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - open as long as the process
        elif mode == "w" and hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def _settle_stdout() -> None:
    """Keep the interpreter from complaining of a pipe whose reader has gone, or of a full disk, once more."""
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
