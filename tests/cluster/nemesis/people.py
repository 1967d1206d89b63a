"""The bulk of the load: people who keep the library's rules, but whose history is in memory.

They use the library's `Connection`, `Mailbox`, `HoldBack` and `Archiver`; only SQLite and the outbox are left out: they
cost more than everything else of a message together. A conversation (one sender, one recipient) has one message under
way at a time, as `coterie_client.sender` has it, and repeats it under its id until it is acknowledged.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import os
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, cast

from tests.cluster.nemesis.books import Books

from coterie_client.archiver import Archiver
from coterie_client.connection import Connection
from coterie_client.envelope import Content, Problem, open_body, seal
from coterie_client.errors import ClientError, NotLoggedIn, SessionTaken
from coterie_client.history import Message
from coterie_client.mailbox import Mailbox
from coterie_client.predecessors import Predecessors, Sent
from coterie_client.session import Session
from coterie_protocol.client_api import Kdf, MailItem, Page, PageReply, Register, SessionGranted, Stored
from coterie_protocol.errors import CoterieError, ErrorCode
from coterie_protocol.identifiers import message_id

if TYPE_CHECKING:
    from coterie_client.history import History
    from coterie_client.sender import Sender

PAGE = 500
FOR_EVER = 1e7
"""Seconds of patience: the nemesis, not the person, decides when it is over."""


class Memory:
    """What `coterie_client.history.History` does for a mailbox, in memory."""

    def __init__(self) -> None:
        self._seq = itertools.count(1)
        self.known: set[tuple[str, bytes]] = set()
        self._unshown: dict[int, Message] = {}
        self._waiting: set[tuple[str, bytes]] = set()
        self._last: dict[str, tuple[int, int]] = {}

    def save(self, items: Iterable[MailItem]) -> list[Message]:
        """Give back what is new."""
        new: list[Message] = []
        for item in items:
            key = item.sender, item.id
            if key in self.known:
                continue
            self.known.add(key)
            message = _message(next(self._seq), item)
            self._unshown[message.seq] = message
            self._waiting.add(key)
            new.append(message)
        return new

    def unshown(self) -> list[Message]:
        return list(self._unshown.values())

    def mark_shown(self, messages: Iterable[Message]) -> None:
        for message in messages:
            self._unshown.pop(message.seq, None)
            self._waiting.discard((message.sender, message.id))
            at = message.epoch, message.counter
            self._last[message.sender] = max(at, self._last.get(message.sender, (0, 0)))

    def was_shown(self, sender: str, message: bytes) -> bool:
        key = sender, message
        return key in self.known and key not in self._waiting

    def last_shown(self, sender: str) -> tuple[int, int]:
        return self._last.get(sender, (0, 0))

    def mark_archived(self, keys: Iterable[tuple[str, bytes]]) -> None:
        """Nobody asks."""


def _message(seq: int, item: MailItem) -> Message:
    content = open_body(item.body)
    if isinstance(content, Problem):
        content = Content(item.epoch, 0, b"", 0, f"unreadable: {content}", "")
    return Message(
        seq, item.sender, item.id, item.sender, content.epoch, content.counter, content.prev, item.stored_at,
        content.text, b"", "delivered", archived=False,
    )  # fmt: skip


class _NoOutbox:
    """What a mailbox asks of `coterie_client.sender.Sender`."""

    def resend(self) -> None:
        """There are no leftovers: conversations see to themselves."""

    def take_over(self, items: Iterable[MailItem]) -> None:
        """There are no own copies."""
        assert not list(items)


async def register_lean(connection: Connection, name: str) -> Session:
    """Make an account whose password nobody knows."""
    auth = base64.b64encode(os.urandom(32)).decode()
    granted = await connection.call(
        Register(name, Kdf(8, 1, 1), auth, b"", b"", os.urandom(16)), patience=60.0, name=name
    )
    assert isinstance(granted, SessionGranted)
    assert connection.welcome is not None
    session = Session(name, connection.welcome.ring_uid, granted.epoch, base64.b64encode(granted.token).decode())
    connection.adopt(session)
    return session


class Person:
    """Somebody who sends to others and receives."""

    def __init__(self, name: str, books: Books, servers: Sequence[str]) -> None:
        self.name = name
        self._books = books
        self._servers = servers
        self.connection: Connection
        self.mailbox: Mailbox
        self.archiver: Archiver
        self.session: Session
        self._memory: Memory
        self._receiving: asyncio.Task[None] | None = None
        self._drained = asyncio.Event()

    async def start(self) -> None:
        """Register, connect for ever, receive."""
        async with Connection(self._servers, patience=60.0) as first:
            self.session = await register_lean(first, self.name)
        self.connection = Connection(self._servers, session=self.session, patience=FOR_EVER)
        await self.connection.start()
        self._memory = Memory()
        memory = cast("History", self._memory)
        self.archiver = Archiver(self.connection, memory)
        self.mailbox = Mailbox(self.connection, memory, self.archiver, cast("Sender", _NoOutbox()))
        self._receiving = asyncio.create_task(self._receive(), name=f"{self.name} receives")

    async def stop(self) -> None:
        """Disconnect."""
        if self._receiving is not None:
            self._receiving.cancel()
            await asyncio.gather(self._receiving, return_exceptions=True)
            await self.mailbox.close()
            await self.connection.close()

    async def _receive(self) -> None:
        self.mailbox.start()
        while True:
            try:
                batch = await self.mailbox.next_batch()
            except ClientError as error:
                self._books.complain(f"{self.name} can receive no longer: {error!r}")
                return
            for message in batch.messages:
                self._books.shown(self.name, message.sender, message.id, message.text or "")
            self.mailbox.done(batch)
            if batch.drained:
                self._drained.set()

    async def drained(self) -> None:
        """Ask for everything that waits, and return when it has been shown."""
        self._drained.clear()
        self.mailbox._subscribe()
        await self._drained.wait()

    async def archived(self) -> tuple[int, int]:
        """Page through the archive; return how many of the messages that were saved here it has, and how many were."""
        await self.archiver.flush(FOR_EVER)
        known, found = self._memory.known, 0
        before = b""
        while True:
            try:
                page = await self.connection.call(Page(before, PAGE))
            except ClientError:
                continue
            assert isinstance(page, PageReply)
            found += sum((item.sender, item.id) in known for item in page.items)
            before = page.next
            if not before:
                return found, len(known)


class Conversation:
    """One person's messages to another."""

    def __init__(self, sender: Person, to: str, books: Books) -> None:
        self._sender = sender
        self.to = to
        self._books = books
        self._line = books.availability.conversation()
        self._predecessors = Predecessors(sender.connection)
        self._number = 0
        self._previous = b""

    async def run(self) -> None:
        """Send whenever the pace allows it, until the pace says that it is enough."""
        while await self._books.pace.next():
            if not await self._one():
                return

    async def _one(self) -> bool:
        sender, books, number = self._sender, self._books, self._number
        now = time.time_ns() // 1_000_000
        identity = message_id(now, os.urandom(10))
        body = seal(Content(sender.session.epoch, number + 1, self._previous, now, str(number), self.to))
        began, kinds = time.monotonic(), books.availability.sending()
        books.sent(sender.name, self.to, identity, number)
        while True:
            try:
                reply = await self._predecessors.send(self.to, Sent(identity, body))
                assert isinstance(reply, Stored)
            except CoterieError as error:
                if error.wire_code is not ErrorCode.DUPLICATE_ID:
                    books.refused(sender.name, self.to, number, error.detail)
                    return False
            except (SessionTaken, NotLoggedIn) as error:
                books.complain(f"{sender.name} has lost the session, which nobody took: {error}")
                return False
            except ClientError:
                continue
            break
        books.acknowledged(sender.name, self.to, number)
        books.availability.acknowledged(self._line, began, kinds)
        self._number, self._previous = number + 1, identity
        return True
