"""`coterie send`."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from coterie_client.output import complain, json_line, message_json, note, out

from .common import add_command, seconds, settings_of, user_name_of

if TYPE_CHECKING:
    from coterie_client.history import Message

GRACE = 1.0
"""Seconds that leftovers for others, and the own copy's archiving, get after the message itself is stored."""


def add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    parser = add_command(
        subparsers,
        "send",
        send,
        summary="send a message and print its id",
        example="coterie send bob 'hello'\n  date | coterie send bob --wait delivered --timeout 60",
        lists=True,
        details="Without TEXT, standard input is sent byte for byte.",
    )
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("text", metavar="TEXT", nargs="?", help="UTF-8, at most 65,536 bytes")
    parser.add_argument(
        "--wait", choices=("stored", "delivered"), default="stored", help="what to wait for (default: stored)"
    )
    parser.add_argument(
        "--timeout",
        type=seconds,
        metavar="S",
        help="seconds to try to store it (default 15), and then to wait until it is delivered (default: no limit)",
    )


async def send(options: argparse.Namespace) -> int:
    """Run `coterie send`."""
    from coterie_client.client import Client
    from coterie_client.connection import PATIENCE
    from coterie_client.envelope import check_text
    from coterie_client.errors import ClientError

    settings, name = settings_of(options), user_name_of(options.name)
    text = check_text(options.text if options.text is not None else _standard_input())
    patience = PATIENCE if options.timeout is None else max(options.timeout, 1.0)
    async with Client.open(settings, wait=False, patience=patience) as client:
        client.sender.on_failure = _tell_leftover
        client.archiver.on_full = complain
        client.sender.resend()
        message, task = client.sender.submit(name, text)
        try:
            message = await task
        except ClientError as error:
            if client.account.outbox.get(message.id) is not None:
                error.preface("the message is not sent yet but kept here, and the next command that connects sends it")
            raise
        if options.wait == "delivered":
            message = await client.sender.wait_delivered(message, options.timeout)
        out(json_line(message_json(message, client.account.session.name)) if options.json else f"{message.id_text}\n")
        await client.sender.finish(GRACE)
        await client.archiver.flush(GRACE)
    return 0


def _tell_leftover(message: Message, error: Exception) -> None:
    note(f"coterie: an earlier message to {message.peer} was not sent: {error}")


def _standard_input() -> bytes:
    from coterie_client.errors import UsageError
    from coterie_protocol.client_api import MAX_TEXT_BYTES

    if sys.stdin.isatty():
        note("coterie: type the message, and end it with Ctrl-D on a line of its own")
    data = sys.stdin.buffer.read(MAX_TEXT_BYTES + 1)
    if len(data) > MAX_TEXT_BYTES:
        raise UsageError(f"the message is larger than the limit of {MAX_TEXT_BYTES} bytes; send it in several parts")
    return data
