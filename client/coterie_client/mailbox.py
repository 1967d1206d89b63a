"""Receiving: saved on this device first, shown once and in order, then acknowledged.

`Mailbox.next_batch` gives messages in the order to show them; all of them are on disk by then. `Mailbox.done` says that
a batch was shown, which acknowledges it to the ring (Archive). A reader that stops between the two sees the batch again
next time. Order per sender is `ordering.HoldBack`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coterie_protocol.client_api import Drained, Mail, MailItem, Subscribe, Unsubscribed
from coterie_protocol.errors import CoterieError
from coterie_protocol.records import OUTGOING
from coterie_protocol.weight import weight_of_mail_item

from .connection import Connected, Failed
from .envelope import archive_copy
from .errors import ClientError, Unavailable, translate
from .ordering import LAST_RESORT, PATIENCE, HoldBack

if TYPE_CHECKING:
    from .archiver import Archiver
    from .connection import Connection, Notice
    from .history import History, Message
    from .sender import Sender

DISPLACED_MOST = 3
DISPLACED_WITHIN = 30.0
"""A subscription is taken back so many times within so many seconds."""
MOST_WAITING = 64 * 1024 * 1024
"""Bytes of records that may wait to be saved: a node pushes 1 MiB before it waits for them to be archived, and again
after each new subscription. More is a server that wants to fill the memory."""
ITEM_COST = 512
"""What a record takes of the memory beside its weight."""
MOST_AT_ONCE = 2000
"""Messages saved in one transaction and shown in one go."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages to show now, in this order; `drained`: everything that waited has come, and none of it is held back."""

    messages: list[Message]
    drained: bool
    items: list[MailItem]
    """What `done` acknowledges."""


def _weight(mail: Mail) -> int:
    return sum(weight_of_mail_item(item) + ITEM_COST for item in mail.items)


class Mailbox:
    """Receives the messages of one account over one connection. Hold locks.receiver_lock meanwhile."""

    def __init__(self, connection: Connection, history: History, archiver: Archiver, sender: Sender) -> None:
        self._connection = connection
        self._history = history
        self._archiver = archiver
        self._sender = sender
        self._notices: asyncio.Queue[Notice] = asyncio.Queue()
        self._subscribing: asyncio.Task[None] | None = None
        self._hold = HoldBack(last_shown=history.last_shown, was_shown=history.was_shown)
        self._waiting = 0
        """Bytes of mail in `_notices`."""
        self._heard_at = 0.0
        """When there was mail, or word that there is no more, in loop time."""
        self._drained = False
        self._asked_at = 0.0
        """When the newest drain was asked for, in loop time."""
        self._draining = False
        """The drain that was asked for has not ended at all."""
        self._certain = True
        """It has ended for certain: what it did not bring is not to be had, or it has brought everything."""
        self._displacements: list[float] = []
        """When another connection took the subscription over, lately."""

    def start(self) -> None:
        """Resend what is in the outbox, then subscribe; both again by itself whenever there is a new link."""
        self._hold.offer(self._history.unshown(), asyncio.get_running_loop().time())
        self._heard_at = asyncio.get_running_loop().time()
        self._connection.listen(self._heard)
        self._subscribe()

    def _heard(self, notice: Notice) -> None:
        if isinstance(notice, Mail | Drained):
            self._heard_at = asyncio.get_running_loop().time()
        if isinstance(notice, Mail):
            weight = _weight(notice)
            if self._waiting + weight > MOST_WAITING:
                self._connection.break_off("it pushes mail without end")
                return
            self._waiting += weight
        self._notices.put_nowait(notice)

    async def next_batch(self) -> Batch:
        """Wait for messages to show, or for the news that the mailbox is drained. May be cancelled without loss.

        Raises SessionTaken, Unavailable (no server for too long), ClientError (another client of this session
        receives).
        """
        loop = asyncio.get_running_loop()
        while True:
            items, drained_now = self._sort(await self._next_notices(self._wake_at()))
            if not self._drained and not drained_now and loop.time() >= self._silent_at():
                raise Unavailable(f"{self._connection.url} does not say whether more is waiting; try again shortly")
            self._drained |= drained_now
            self._hold.offer(self._save(items), loop.time())
            certain = drained_now and self._certain
            ready = self._hold.take(loop.time(), drain_asked_at=self._asked_at if certain else None)
            impatient_at = self._hold.impatient_at()
            if ready or (drained_now and impatient_at is None):
                return Batch(ready, self._drained and impatient_at is None, items)
            self._archive(items)
            if impatient_at is not None and impatient_at <= loop.time() and self._may_ask(impatient_at):
                self._subscribe()

    def _displaced(self) -> None:
        """Subscribe anew; raises ClientError when that happens time and again.

        Once it may be this client itself: a server that was frozen comes to a subscription of a former connection late.
        """
        now = asyncio.get_running_loop().time()
        self._displacements = [at for at in self._displacements if at > now - DISPLACED_WITHIN] + [now]
        if len(self._displacements) > DISPLACED_MOST:
            raise ClientError(
                "another client with this session receives now; stop it, or log in here: coterie login NAME"
            )
        self._subscribe()

    def _wake_at(self) -> float | None:
        """Return until when nothing is to be done if nothing comes."""
        at = self._hold.impatient_at()
        at = at if at is None or self._may_ask(at) else at + LAST_RESORT - PATIENCE
        if self._drained:
            return at
        return self._silent_at() if at is None else min(at, self._silent_at())

    def _silent_at(self) -> float:
        """Return from when on a server is not waited for that has said neither a message nor that there is none."""
        return self._heard_at + 2 * self._connection.patience

    def _may_ask(self, impatient_at: float) -> bool:
        """Say whether another drain would tell more about a message that waits than the one that was asked for."""
        return self._certain or (not self._draining and self._asked_at < impatient_at)

    def done(self, batch: Batch, shown: Iterable[Message] | None = None) -> None:
        """Acknowledge a batch; `shown` are those of its messages that need not be shown again (all by default)."""
        messages = batch.messages if shown is None else list(shown)
        if messages:
            self._history.mark_shown(messages)
        self._archive(batch.items)

    async def close(self) -> None:
        """Stop receiving."""
        if self._subscribing is not None:
            self._subscribing.cancel()
            await asyncio.gather(self._subscribing, return_exceptions=True)

    def _archive(self, items: list[MailItem]) -> None:
        self._archiver.add((item.sender, item.id, item.part, archive_copy(item.body)) for item in items)

    async def _next_notices(self, deadline: float | None) -> list[Notice]:
        """Wait for a notice (until `deadline` in loop time) and take what else is there."""
        try:
            async with asyncio.timeout_at(deadline):
                notices = [await self._notices.get()]
        except TimeoutError:
            return []
        count = len(first.items) if isinstance(first := notices[0], Mail) else 1
        while count < MOST_AT_ONCE and not self._notices.empty():
            notices.append(notice := self._notices.get_nowait())
            count += len(notice.items) if isinstance(notice, Mail) else 1
        self._waiting -= sum(_weight(notice) for notice in notices if isinstance(notice, Mail))
        return notices

    def _sort(self, notices: list[Notice]) -> tuple[list[MailItem], bool]:
        items: list[MailItem] = []
        drained = False
        for notice in notices:
            match notice:
                case Mail():
                    # Attachments (parts 1..n) stay pending for a client that knows them.
                    items += [item for item in notice.items if item.part == 0]
                case Drained(certain=certain):
                    drained = True
                    self._draining, self._certain = False, certain
                case Connected():
                    self._subscribe()
                case Unsubscribed():
                    self._displaced()
                case Failed(error=error):
                    raise error
                case _:
                    pass  # receipts are the sender's
        return items, drained

    def _save(self, items: list[MailItem]) -> list[Message]:
        received = [item for item in items if item.sender != OUTGOING]
        own = [item for item in items if item.sender == OUTGOING]
        new = self._history.save(received) if received else []
        self._sender.take_over(own)
        items[:] = received
        return new

    def _subscribe(self) -> None:
        self._asked_at = asyncio.get_running_loop().time()
        self._draining, self._certain = True, False
        self._sender.resend()
        if self._subscribing is None or self._subscribing.done():
            self._subscribing = asyncio.create_task(self._subscribed())

    async def _subscribed(self) -> None:
        try:
            await self._connection.call(Subscribe())
        except CoterieError as error:
            self._notices.put_nowait(Failed(translate(error)))
        except Unavailable as error:
            self._notices.put_nowait(Failed(error))
        except ClientError:
            pass  # the connection tells it to everybody
