"""`coterie send`."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from typing import TYPE_CHECKING

from coterie_client import interrupts, terminal
from coterie_client.output import complain, json_line, message_json, note, written
from coterie_protocol.words import counted

from .common import add_command, seconds, settings_of, tell_wait, user_name_of

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
        details="Without TEXT, standard input is sent byte for byte. The id is printed as soon as the message is saved "
        "here, the object of --json at the end. A TEXT that begins with a dash goes after --. Exits with 8 if the "
        "message is kept here but not stored yet (it will be sent; --id makes it harmless to try again all the same), "
        "with 9 if it is stored but not delivered in time.",
        free_text=True,
    )
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("text", metavar="TEXT", nargs="?", help="UTF-8, at most 65,536 bytes")
    parser.add_argument(
        "--id", metavar="ID", help="the message's id, a UUID of your making: what has it already is not sent twice"
    )
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
    from coterie_client.acquaintance import Acquaintance
    from coterie_client.client import Client
    from coterie_client.connection import PATIENCE
    from coterie_client.envelope import check_text
    from coterie_client.errors import ClientError, Kept, NotLoggedIn, SessionTaken, kept

    settings, name = settings_of(options), user_name_of(options.name)
    message_id = None if options.id is None else _id_of(options.id)
    text = check_text(options.text if options.text is not None else _standard_input())
    patience = PATIENCE if options.timeout is None else max(options.timeout, 1.0)
    async with Client.open(settings, wait=False, patience=patience, on_wait=tell_wait) as client:
        outbox = client.account.outbox
        leftovers = Leftovers()
        client.sender.on_failure = leftovers.add
        client.archiver.on_full = complain
        client.sender.resend()
        acquaintance = Acquaintance(client.account)
        strangers = acquaintance.announce([name])
        message, task = client.sender.submit(name, text, known_id=message_id)
        # Whoever does not read the id any more has still asked for the message to be sent.
        _, lost = (0, None) if options.json else written(terminal.lines([message.id_text]))
        try:
            message = await task
            _tell(strangers)
            if options.wait == "delivered":
                message = await client.sender.wait_delivered(message, options.timeout)
        except ClientError as error:
            own = outbox.get(message.id)
            if own is not None and own.state == "sending":
                _tell(strangers)
                earlier = leftovers.join({one.id for one in outbox.sending()} - {message.id})
                if not isinstance(error, SessionTaken | NotLoggedIn):
                    raise Kept(error, earlier) from None
                error.preface(kept(earlier))
            raise
        finally:
            leftovers.tell()
            if options.json and (now := outbox.get(message.id)) is not None:
                me = client.account.session.name
                _, lost = written(json_line(message_json(now, me, acquaintance.true_one(name))))
        await client.sender.finish(GRACE)
        await client.archiver.flush(GRACE)
    if isinstance(lost, BrokenPipeError):
        raise lost
    if lost is not None:
        raise ClientError(
            f"the message {message.id_text} is {message.state}, but this could not be written: "
            f"{lost.strerror} ({lost.filename}); do not send it again"
        )
    return 0


def _tell(sentences: list[str]) -> None:
    for sentence in sentences:
        note(f"coterie: {sentence}")


def _id_of(text: str) -> bytes:
    from coterie_client.errors import UsageError
    from coterie_protocol.identifiers import message_id_of

    try:
        return message_id_of(text)
    except ValueError:
        raise UsageError(f"{text!r} is not a message id; give a UUID, as uuidgen prints it") from None


class Leftovers:
    """Earlier messages that were not sent either: told once for each reason, and not beside an own one that is kept."""

    def __init__(self) -> None:
        self._failed: dict[bytes, tuple[str, str]] = {}
        self._told: set[bytes] = set()

    def add(self, message: Message, error: Exception) -> None:
        """Take one that failed (`Sender.on_failure`)."""
        self._failed[message.id] = (message.peer, str(error))

    def join(self, kept: set[bytes]) -> int:
        """Leave these to the sentence about the message itself; return how many they are."""
        self._told |= kept
        return len(kept)

    def tell(self) -> None:
        """Tell of those that were not told yet."""
        new = {one: why for one, why in self._failed.items() if one not in self._told}
        self._told |= new.keys()
        for (peer, reason), count in Counter(new.values()).items():
            which = "an earlier message" if count == 1 else counted(count, "earlier message")
            note(f"coterie: {which} to {peer} {'was' if count == 1 else 'were'} not sent: {reason}")


def _standard_input() -> bytes:
    from coterie_client.errors import UsageError
    from coterie_protocol.client_api import MAX_TEXT_BYTES

    if sys.stdin.isatty():
        note("coterie: type the message, and end it with Ctrl-D on a line of its own")
    with interrupts.raising():
        data = sys.stdin.buffer.read(MAX_TEXT_BYTES + 1)
    if len(data) > MAX_TEXT_BYTES:
        raise UsageError(f"the message is larger than the limit of {MAX_TEXT_BYTES} bytes; send it in several parts")
    return data
