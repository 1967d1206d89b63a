"""Sending: into the outbox on disk first, then to the ring, then the own copy into the archive.

A message goes out as `Keep` (the own copy, pending, so that the next device resends it should this one die) and `Send`
in one WebSocket message; `Archive` of the own copy follows once it is stored. What fails stays in the outbox and is
resent, in order and under the same id, by whoever runs next on this device. A refusal that no repetition can mend (no
such user, mailbox full, too large) takes the message back out, from the outbox and from the own mailbox.

A message goes out only when everything written before it to the same person is stored (or withdrawn). So wherever it
is, the one before it is on a majority of its disks, and a recipient who lacks it knows that it is coming: this is what
"in the sender's order" rests on. Messages to different people do not wait for each other.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from coterie_protocol.client_api import Keep, MailItem, Receipt, States, StatesReply, Stored
from coterie_protocol.errors import CoterieError, ErrorCode
from coterie_protocol.identifiers import message_id
from coterie_protocol.records import OUTGOING

from .envelope import WITHDRAWN, Problem, archive_copy, check_text, open_body
from .errors import ClientError, IdTaken, NotDelivered, Unavailable, translate
from .placing import Places
from .predecessors import Predecessors, Sent

if TYPE_CHECKING:
    from .archiver import Archiver
    from .connection import Connection, Notice
    from .history import History, Message
    from .outbox import Outbox

IN_FLIGHT = 128
"""Messages under way at once; more wait their turn in order."""
STATES_AT_ONCE = 500
POLL = 2.0
"""Seconds between questions for a state while somebody waits for it; receipts are usually faster."""
LOOK_AGAIN = 20.0
"""Seconds until a lasting process tries again what is still in the outbox: it failed, or its process has died."""
_REFUSALS = frozenset(
    {
        ErrorCode.NO_SUCH_USER, ErrorCode.MAILBOX_FULL, ErrorCode.TOO_LARGE, ErrorCode.BAD_NAME,
        ErrorCode.BAD_REQUEST,
    }
)  # fmt: skip


def now_ms() -> int:
    """Return this device's time in Unix milliseconds; a clock before 1970 counts as 1970."""
    return max(time.time_ns() // 1_000_000, 0)


class Sender:
    """Sends the messages of one account over one connection."""

    def __init__(
        self,
        connection: Connection,
        outbox: Outbox,
        archiver: Archiver,
        history: History,
        *,
        epoch: int,
        on_change: Callable[[Message], None] | None = None,
        on_failure: Callable[[Message, ClientError], None] | None = None,
    ) -> None:
        """`on_change` hears of every message whose state has moved on, `on_failure` of leftovers that do not go."""
        self._connection = connection
        self._outbox = outbox
        self._archiver = archiver
        self._epoch = epoch
        self._predecessors = Predecessors(connection)
        self._places = Places(connection, outbox, history, epoch)
        self.on_change = on_change
        self.on_failure = on_failure
        self._window = asyncio.Semaphore(IN_FLIGHT)
        self._under_way: dict[bytes, asyncio.Task[Message]] = {}
        self._stuck: set[bytes] = set()
        """Messages that the ring has refused for no reason of theirs. They stay in the outbox, and others pass them."""
        self._moved = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        self._closed = False
        connection.listen(self._on_notice)

    async def send(self, to: str, text: str, *, patience: float | None = None) -> Message:
        """Send a text and wait until the ring has stored it; `to` is a normalised user name.

        Raises UsageError (empty, too large), NoSuchUser, Unavailable (the message stays in the outbox).
        """
        return await asyncio.shield(self.submit(to, text, patience=patience)[1])

    def submit(
        self, to: str, text: str, *, patience: float | None = None, known_id: bytes | None = None
    ) -> tuple[Message, asyncio.Task[Message]]:
        """Save a text in the outbox and begin to send it; the task gives the stored message or raises as `send`.

        With a `known_id` that the text was given before it is that message, which is not sent twice. Raises UsageError.
        """
        check_text(text)
        now = now_ms()
        is_new = known_id is None or self._outbox.get(known_id) is None
        new_id = known_id or message_id(now, secrets.token_bytes(10))
        message = self._outbox.add(to, text, message_id=new_id, epoch=self._epoch, now=now)
        if is_new:
            self._places.written(message)
        return message, self._begin(message, patience)

    def resend(self, patience: float | None = None) -> list[asyncio.Task[Message]]:
        """Begin to send again everything that earlier commands left in the outbox, in order."""
        for message in self._outbox.unarchived():
            self._archiver.add([(OUTGOING, message.id, 0, archive_copy(message.body))])
        return [self._leftover(message, patience) for message in self._outbox.sending()]

    def take_over(self, items: Iterable[MailItem]) -> None:
        """Look after own copies that are pending in the mailbox: another device, or a process that died, left them."""
        for item in items:
            message = self._outbox.get(item.id) or self._outbox.adopt(item)
            if message is None:
                if open_body(item.body) is Problem.DAMAGED:  # nobody can; else it would come again and again
                    self._archiver.add([(OUTGOING, item.id, item.part, archive_copy(item.body))])
                continue  # only a newer client can read it; it stays pending for one
            if message.state != "sending":
                if not message.archived:
                    self._archiver.add([(OUTGOING, message.id, 0, archive_copy(item.body))])
            elif message.epoch != self._epoch:
                self._leftover(message, None)
            else:
                self._look_later()  # usually a process beside this one is just sending it

    async def wait_delivered(self, message: Message, timeout: float | None) -> Message:
        """Wait until the recipient's client has saved a message; raises NotDelivered after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                while True:
                    self._moved.clear()
                    current = self._outbox.get(message.id) or message
                    if current.state == "expired":
                        raise NotDelivered(
                            f"{message.peer} did not receive the message in the time for which the ring keeps it; "
                            "send it again when they are back"
                        )
                    if current.state in ("delivered", "read"):
                        return current
                    try:
                        async with asyncio.timeout(POLL):
                            await self._moved.wait()
                    except TimeoutError:
                        await self.refresh([current])
        except TimeoutError:
            raise NotDelivered(
                f"the message is stored, but {message.peer} has not received it within {timeout:g} s; "
                "it will be delivered when they are back"
            ) from None

    async def refresh(self, messages: Iterable[Message]) -> None:
        """Ask the ring for the states of sent messages; what cannot be asked now stays as it is."""
        by_peer: dict[str, list[bytes]] = {}
        for message in messages:
            by_peer.setdefault(message.peer, []).append(message.id)
        for peer, ids in by_peer.items():
            for first in range(0, len(ids), STATES_AT_ONCE):
                try:
                    reply = await self._connection.call(
                        States(peer, ids[first : first + STATES_AT_ONCE]), patience=POLL
                    )
                except (CoterieError, Unavailable):
                    break
                assert isinstance(reply, StatesReply)
                self._states((message_id, state) for message_id, state, _ in reply.items)

    async def room(self, most: int) -> None:
        """Wait until fewer than `most` messages are under way."""
        while len(self._under_way) >= most:
            await asyncio.wait(list(self._under_way.values()), return_when=asyncio.FIRST_COMPLETED)

    async def finish(self, timeout: float) -> int:
        """Wait for what is under way, for at most `timeout` seconds; return how much is not stored then."""
        if self._under_way:
            await asyncio.wait(list(self._under_way.values()), timeout=timeout)
        return len(self._outbox.sending())

    async def close(self) -> None:
        """Stop; what is not stored stays in the outbox."""
        self._closed = True
        tasks = [*self._under_way.values(), *([self._looking] if self._looking else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- One message ------------------------------------------------------------------------------------------

    def _begin(self, message: Message, patience: float | None) -> asyncio.Task[Message]:
        task = self._under_way.get(message.id)
        if task is None:
            task = asyncio.create_task(self._transmit(message, patience))
            self._under_way[message.id] = task
            task.add_done_callback(lambda done: self._ended(message, done))
        return task

    def _leftover(self, message: Message, patience: float | None) -> asyncio.Task[Message]:
        known = message.id in self._under_way
        task = self._begin(message, patience)
        if not known:
            task.add_done_callback(lambda done: self._left_again(message, done))
        return task

    def _ended(self, message: Message, task: asyncio.Task[Message]) -> None:
        self._under_way.pop(message.id, None)
        # Whoever waits for the task hears of its failure; here it only must not count as unseen.
        if not task.cancelled() and isinstance(task.exception(), Unavailable) and not self._closed:
            self._look_later()

    def _left_again(self, message: Message, task: asyncio.Task[Message]) -> None:
        error = None if task.cancelled() else task.exception()
        if isinstance(error, ClientError) and self.on_failure is not None:
            self.on_failure(message, error)

    async def _turn(self, message: Message, patience: float | None) -> None:
        """Wait until everything written before to the same person is stored; raises why that fails.

        Another process, or a former one, may have begun to send it: sending it twice does no harm.
        """
        while (before := self._outbox.before(message, self._stuck)) is not None:
            task = self._begin(before, patience)
            await asyncio.wait([task])
            if task.cancelled():
                raise Unavailable(f"an earlier message to {message.peer} was not sent; both stay in the outbox")
            error = task.exception()
            if before.id in self._stuck:
                self._left_again(before, task)
            elif error is not None and (kept := self._outbox.get(before.id)) is not None and kept.state == "sending":
                raise error

    async def _transmit(self, message: Message, patience: float | None) -> Message:
        if message.state != "sending":
            return message
        await self._turn(message, patience)
        try:
            message = await self._places.place(message)
        except IdTaken:
            self._outbox.withdraw(message.id)  # here only: the archive's copy is the other message's
            raise
        async with self._window:
            stored_at = 0
            try:
                reply = await self._predecessors.send(
                    message.peer,
                    Sent(message.id, message.body),
                    beside=[Keep(message.id, message.body)],
                    patience=patience,
                )
                assert isinstance(reply, Stored)
                stored_at = reply.stored_at
            except CoterieError as error:
                if error.wire_code in _REFUSALS:
                    self._outbox.withdraw(message.id)
                    self._archiver.add([(OUTGOING, message.id, 0, WITHDRAWN)])
                elif error.wire_code is not ErrorCode.DUPLICATE_ID:
                    self._stuck.add(message.id)
                if error.wire_code is not ErrorCode.DUPLICATE_ID:
                    raise translate(error, message.peer) from None
        self._outbox.stored(message.id, stored_at)
        self._archiver.add([(OUTGOING, message.id, 0, archive_copy(message.body))])
        stored = self._outbox.get(message.id) or message
        if self.on_change is not None:
            self.on_change(stored)
        return stored

    def _look_later(self) -> None:
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())

    async def _look(self) -> None:
        await asyncio.sleep(LOOK_AGAIN)
        self._looking = None
        self.resend()

    # --- States -----------------------------------------------------------------------------------------------

    def _on_notice(self, notice: Notice) -> None:
        if isinstance(notice, Receipt):
            self._states((message_id, state) for _, message_id, state, _ in notice.items)

    def _states(self, items: Iterable[tuple[bytes, int]]) -> None:
        for message in self._outbox.states(items):
            self._moved.set()
            if self.on_change is not None:
                self.on_change(message)
