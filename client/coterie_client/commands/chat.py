"""`coterie chat`: a conversation line by line, on a terminal or through pipes."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from typing import TYPE_CHECKING

from coterie_client.output import clean, complain, dim, has_color, message_line, note, out

from .common import FOLLOW_PATIENCE, add_command, settings_of, user_name_of

if TYPE_CHECKING:
    import asyncio

    from coterie_client.client import Client
    from coterie_client.errors import ClientError
    from coterie_client.history import Message

LAST_LINES = 20
MOST_UNDER_WAY = 256
"""Lines of a piped standard input that may be under way at once."""


def add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    parser = add_command(
        subparsers,
        "chat",
        chat,
        summary="talk with somebody, line by line",
        example="coterie chat bob",
        details="Every line is a message. … is being sent, ✓ stored, ✓✓ delivered. Ctrl-D ends it.",
    )
    parser.add_argument("name", metavar="NAME")


async def chat(options: argparse.Namespace) -> int:
    """Run `coterie chat`."""
    from coterie_client.client import Client
    from coterie_client.connection import PATIENCE
    from coterie_client.errors import translate
    from coterie_protocol.client_api import Lookup
    from coterie_protocol.errors import CoterieError

    settings, name = settings_of(options), user_name_of(options.name)
    async with Client.open(settings, receive=True, patience=FOLLOW_PATIENCE) as client:
        try:
            await client.connection.call(Lookup(name), patience=PATIENCE, name=name)
        except CoterieError as error:
            raise translate(error, name) from None
        await client.catch_up()
        return await Conversation(client, name).run()


class Conversation:
    """One conversation on standard input and output."""

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self._name = name
        self._me = client.account.session.name
        self._aliases = client.account.contacts.aliases()
        self._prompt = "> " if sys.stdin.isatty() and sys.stdout.isatty() else ""
        self._typed: set[bytes] = set()
        self._code = 0

    async def run(self) -> int:
        """Talk until standard input ends or the session does; return the exit code."""
        import asyncio

        sender, mailbox = self._client.sender, self._client.mailbox
        for message in self._client.account.history.page(self._name, limit=LAST_LINES, shown_only=True) or []:
            out(dim(message_line(message, self._aliases), sys.stdout) + "\n")
        out(self._prompt)
        sender.on_change = self._on_change
        sender.on_failure = self._on_failure
        self._client.archiver.on_full = complain
        mailbox.start()
        outbox = self._client.account.outbox
        tasks: list[asyncio.Task[None]] = [
            asyncio.create_task(self._type()),
            asyncio.create_task(self._listen()),
        ]
        states = asyncio.create_task(sender.refresh(outbox.undelivered(200, self._name)))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for other in (*tasks, states):
                other.cancel()
            await asyncio.gather(*tasks, states, return_exceptions=True)
        return self._code

    async def _listen(self) -> None:
        mailbox = self._client.mailbox
        while True:
            batch = await mailbox.next_batch()
            here = [message for message in batch.messages if message.peer == self._name]
            for message in here:
                self._print(message_line(message, self._aliases, date=False))
            elsewhere = Counter(message.peer for message in batch.messages if message.peer != self._name)
            for peer, count in elsewhere.items():
                what = "a message" if count == 1 else f"{count} messages"
                self._print(f"[{peer} has sent you {what}: coterie chat {peer}]")
            mailbox.done(batch, here)
            if batch.drained:
                self._client.drained()

    async def _type(self) -> None:
        from coterie_client.connection import PATIENCE
        from coterie_client.errors import UsageError
        from coterie_client.lines import standard_input_lines

        sender = self._client.sender
        async for line in standard_input_lines():
            if self._prompt:
                # The terminal has echoed what was typed; the message's own line replaces it once it is stored.
                out("\x1b[1A\r\x1b[K" + self._prompt if has_color(sys.stdout) else self._prompt)
            if not line.strip():
                continue
            await sender.room(MOST_UNDER_WAY)
            try:
                message, task = sender.submit(self._name, line.decode(errors="surrogateescape"), patience=PATIENCE)
            except UsageError as error:
                self._complain(error)
                continue
            self._typed.add(message.id)
            task.add_done_callback(lambda task, message=message: self._sent(message, task))  # type: ignore[misc]
        left = await sender.finish(PATIENCE + 1.0)
        await self._client.archiver.flush(5.0)
        if left:
            note(f"coterie: {left} messages are not sent yet; they are kept, and the next command here sends them")

    def _sent(self, message: Message, task: asyncio.Task[Message]) -> None:
        from coterie_client.errors import ClientError

        if not task.cancelled() and isinstance(error := task.exception(), ClientError):
            self._on_failure(message, error)

    def _on_change(self, message: Message) -> None:
        if message.peer != self._name:
            return
        line = message_line(message, self._aliases, date=False)
        if message.state == "stored":
            self._print(line)
        elif self._prompt and message.id in self._typed:
            self._print(dim(line.split("\n", 1)[0][:60], sys.stdout))

    def _on_failure(self, message: Message, error: ClientError) -> None:
        from coterie_client.errors import Unavailable

        kept = "; it is kept and sent later" if isinstance(error, Unavailable) else ""
        self._complain(error, f"not sent: {clean(message.text or '')[:40]!r}{kept}: ")

    def _complain(self, error: ClientError, before: str = "") -> None:
        self._code = self._code or int(error.exit_code)
        if self._prompt:
            out("\r\x1b[K" if has_color(sys.stdout) else "\n")
        note(f"coterie: {before}{error}")
        out(self._prompt)

    def _print(self, line: str) -> None:
        erase = "\r\x1b[K" if self._prompt and has_color(sys.stdout) else ""
        out(f"{erase}{line}\n{self._prompt}")
