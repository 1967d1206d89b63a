"""`coterie chat`: a conversation, message by message, on a terminal or through pipes."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from coterie_client import terminal
from coterie_client.errors import ExitCode
from coterie_client.output import MARKS, clock, dim, message_line, message_lines
from coterie_protocol.words import counted

from .common import FOLLOW_PATIENCE, add_command, settings_of, tell_wait, user_name_of

if TYPE_CHECKING:
    import asyncio

    from coterie_client.client import Client
    from coterie_client.editor import Console
    from coterie_client.errors import ClientError
    from coterie_client.history import Message
    from coterie_client.terminal import Shown

LAST_LINES = 20
MOST_UNDER_WAY = 256
"""Lines of a piped standard input that may be under way at once."""
MOST_EXCERPT = 40
"""Characters of a message that are repeated where it is said that it was not sent."""
SOON = 1.0
"""Seconds at the end until it is told that messages are still under way."""


def add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    parser = add_command(
        subparsers,
        "chat",
        chat,
        summary="talk with somebody",
        example="coterie chat bob",
        details="Enter sends; Alt-Enter begins another line of the same message, as does a paste of several lines. "
        "… is being sent, ✓ stored, ✓✓ delivered, ✗ expired. A line such as '18:31 you ✓✓ (8 messages)' tells it of "
        "messages further up: eight of them are delivered. Ctrl-D on an empty line ends it. Through pipes, every line "
        "is a message.",
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
    async with Client.open(settings, receive=True, patience=FOLLOW_PATIENCE, on_wait=tell_wait) as client:
        try:
            await client.connection.call(Lookup(name), patience=PATIENCE, name=name)
        except CoterieError as error:
            raise translate(error, name) from None
        await client.catch_up()
        client.connection.on_wait = None  # from here on `Watch` tells
        return await Conversation(client, name).run()


class Conversation:
    """One conversation on standard input and output.

    On a terminal an own message stands above what is typed from the moment it is sent off, its mark changing in place,
    until it is delivered (or others come after it); then it is printed. What is printed is never printed again: a mark
    that comes later is a short line without the text.
    """

    def __init__(self, client: Client, name: str) -> None:
        from coterie_client.acquaintance import Acquaintance
        from coterie_client.editor import console
        from coterie_client.inquiry import Inquiry

        self._client = client
        self._name = name
        self._me = client.account.session.name
        history = client.account.history
        self._last = history.page(name, limit=LAST_LINES, shown_only=True, me=self._me) or []
        self._acquaintance = Acquaintance(client.account)
        self._inquiry = Inquiry(client.connection, client.sender, client.account.outbox, name)
        self._console: Console = console([m.text for m in self._last if m.outgoing and m.text])
        self._pending: dict[bytes, Message] = {}
        """Own messages that stand in the console's tail."""
        self._printed: dict[bytes, str] = {}
        """Own messages that were printed, and the last state that was told of each."""
        self._marked: list[Message] = []
        self._failed: set[bytes] = set()
        self._why = ""
        """Why messages are kept, as it was told last; empty once one could be sent again."""
        self._code = 0

    async def run(self) -> int:
        """Talk until there is no more to send or the session ends; return the exit code."""
        import asyncio

        from coterie_client.watch import Watch

        sender, mailbox = self._client.sender, self._client.mailbox
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = self._loop.create_future()
        for message in self._last:
            if message.outgoing and message.state == "sending":
                self._hold(message)
            else:
                self._print_message(message, faint=True, date=True)
        Watch(self._client.connection, self._console.note)
        self._announce([self._name])
        sender.on_change = self._on_change
        sender.on_failure = self._on_failure
        self._client.archiver.on_full = self._complain
        mailbox.start()
        waiting = [asyncio.create_task(self._type()), asyncio.create_task(self._listen()), self._over]
        states = asyncio.create_task(self._inquiry.run())
        try:
            with contextlib.ExitStack() as stack:
                if self._console.is_terminal:
                    waiting.append(asyncio.create_task(self._edit()))
                    stack.enter_context(self._ending_by_signals())
                done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            for other in (*waiting, states):
                other.cancel()
            await asyncio.gather(*waiting, states, return_exceptions=True)
            self._settle(every=True)
            self._console.leave()
        return self._code

    # --- What is typed ----------------------------------------------------------------------------------------

    async def _edit(self) -> None:
        """Edit; when that is over what was typed is still to be sent, so this does not end before that."""
        await self._console.run()
        self._settle(now=True)
        if self._console.interrupted:
            self._end(ExitCode.INTERRUPTED)
        await self._over

    async def _type(self) -> None:
        from coterie_client.connection import PATIENCE
        from coterie_client.errors import UsageError

        sender = self._client.sender
        async for draft in self._console.drafts():
            text = draft.decode(errors="surrogateescape") if isinstance(draft, bytes) else draft
            if not text.strip():
                continue
            await sender.room(MOST_UNDER_WAY)
            try:
                message, task = sender.submit(self._name, text, patience=PATIENCE)
            except UsageError as error:
                self._code = self._code or int(error.exit_code)
                self._complain(error)
                self._console.reject(text)
                continue
            self._hold(message)
            task.add_done_callback(lambda task, message=message: self._sent(message, task))  # type: ignore[misc]
        left = await sender.finish(SOON) if self._console.is_terminal else 1
        if left and self._console.is_terminal:
            self._console.note(
                f"coterie: {counted(left, 'message')} still under way; Ctrl-C leaves that to the next command"
            )
        left = left and await sender.finish(PATIENCE + 1.0 - SOON)
        await self._client.archiver.flush(5.0)
        if left:
            self._code = self._code or int(ExitCode.KEPT)
            self._console.note(
                f"coterie: {counted(left, 'message')} not sent yet but kept, and the next command here sends that"
            )

    @contextlib.contextmanager
    def _ending_by_signals(self) -> Iterator[None]:
        """End in good order, with the terminal as it was, when the process is asked to end."""
        numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is not signal.SIG_IGN]
        for number in numbers:
            self._loop.add_signal_handler(number, self._end, 128 + number)
        try:
            yield
        finally:
            for number in numbers:
                self._loop.remove_signal_handler(number)

    def _end(self, code: int) -> None:
        self._code = code
        if not self._over.done():
            self._over.set_result(None)

    # --- What comes -------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        mailbox, account = self._client.mailbox, self._client.account
        while True:
            batch = await mailbox.next_batch()
            # What one writes to oneself was seen when it was sent.
            own = {m.seq for m in batch.messages if m.peer == self._me and account.outbox.get(m.id) is not None}
            here = [m for m in batch.messages if m.peer == self._name or m.seq in own]
            new = [m for m in here if m.seq not in own]
            if batch.messages:
                self._settle(now=True)
                self._announce(message.peer for message in batch.messages)
            lines = [self._line(message) for message in new]
            elsewhere = Counter(m.peer for m in batch.messages if m.peer != self._name and m.seq not in own)
            lines += [terminal.lines([self._elsewhere(peer, count)]) for peer, count in elsewhere.items()]
            count, lost = self._console.show(*lines)
            if lost is not None:
                account.history.mark_shown(new[:count])
                raise lost
            mailbox.done(batch, here)
            if batch.drained:
                self._client.drained()

    # --- Own messages -----------------------------------------------------------------------------------------

    def _hold(self, message: Message) -> None:
        """Keep a message that is not stored yet in sight, where there is a place for it."""
        if self._console.room:
            self._pending[message.id] = message
            self._settle()

    def _sent(self, message: Message, task: asyncio.Task[Message]) -> None:
        from coterie_client.errors import ClientError

        if not task.cancelled() and isinstance(error := task.exception(), ClientError):
            self._on_failure(message, error)

    def _on_change(self, message: Message) -> None:
        if message.peer != self._name or message.state == "sending":
            return
        if message.state == "stored":
            self._why = ""
            self._inquiry.stored()
        if message.id in self._pending:
            self._pending[message.id] = message
            self._settle()
        elif message.id not in self._printed:
            self._print_message(message)
        elif self._console.is_terminal and MARKS[message.state] != MARKS[self._printed[message.id]]:
            self._printed[message.id] = message.state
            if not self._marked:
                self._loop.call_soon(self._print_marks)
            self._marked.append(message)

    def _on_failure(self, message: Message, error: ClientError) -> None:
        from coterie_client.errors import Unavailable

        kept = isinstance(error, Unavailable)
        if not kept:
            self._code = self._code or int(error.exit_code)
            if self._pending.pop(message.id, None):
                self._settle()
        if message.id in self._failed:
            return  # it was told, and is tried again and again
        self._failed.add(message.id)
        to = "" if message.peer == self._name else f" to {message.peer}"
        text = message.text or ""
        excerpt = text if len(text) <= MOST_EXCERPT else text[:MOST_EXCERPT] + "…"
        what = str(error)
        if kept:
            why, self._why = "" if error.reason == self._why else f": {error.reason}", error.reason
            what = f"it is kept and sent later{why}"
        self._console.note(f"coterie: not sent{to}: {excerpt!r}; {what}")

    def _settle(self, *, now: bool = False, every: bool = False) -> None:
        """Print own messages: those that are delivered, all that are stored `now`, or really `every` one."""
        settled: list[Message] = []
        for message in list(self._pending.values()):
            crowded = len(self._pending) - len(settled) > self._console.room
            stored = message.state != "sending"
            if every or (stored and (now or crowded or message.state != "stored")):
                settled.append(message)
        for message in settled:
            del self._pending[message.id]
            self._print_message(message)
        self._console.put_tail(
            [message_line(message, self._acquaintance.called, date=False) for message in self._pending.values()]
        )

    # --- Printing ---------------------------------------------------------------------------------------------

    def _line(self, message: Message, *, date: bool = False) -> Shown:
        return message_lines(message, self._acquaintance.called, date=date)

    def _print_message(self, message: Message, *, faint: bool = False, date: bool = False) -> None:
        if message.outgoing:
            self._printed[message.id] = message.state
        line = self._line(message, date=date)
        self._print(dim(line, sys.stdout) if faint else line)

    def _print_marks(self) -> None:
        marked, self._marked = self._marked, []
        for mark in dict.fromkeys(MARKS[message.state] for message in marked):
            times = [clock(message.time) for message in marked if MARKS[message.state] == mark]
            more = f" ({counted(len(times), 'message')})" if len(times) > 1 else ""
            self._print(dim(terminal.lines([f"{times[-1]} you {mark}{more}"]), sys.stdout))

    def _print(self, line: Shown) -> None:
        _, lost = self._console.show(line)
        if lost is not None and not self._over.done():
            self._over.set_exception(lost)

    def _elsewhere(self, peer: str, count: int) -> str:
        what = "a message" if count == 1 else counted(count, "message")
        return f"[{self._acquaintance.called(peer)} has sent you {what}: coterie chat {peer}]"

    def _announce(self, names: Iterable[str]) -> None:
        for sentence in self._acquaintance.announce(names):
            self._console.note(f"coterie: {sentence}")

    def _complain(self, error: Exception) -> None:
        self._console.note(f"coterie: {error}")
