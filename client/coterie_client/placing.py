"""Where a message stands among its sender's messages to one person: (session epoch, counter).

A counter that only the local database knows begins anew with a fresh one, and a job that keeps nothing but session.json
would have its messages shown as 1, 3, 2, 4. So a place rests on three things, of which any one is enough as a rule:

- the last counter in the database;
- the time: a counter is never below the Unix milliseconds at which it was given out, so whoever begins later, with
  whatever database, stands behind (nobody writes a message a millisecond to one person);
- the ring: a database that has not been filled for this session asks once, before its first message leaves, for the
  newest of the own archive and for the server's time. This covers a clock that was turned back.

Recipients compare counters and never count them, so gaps are nothing to them, whatever their release.
See docs/decisions/0026.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from coterie_protocol.bounds import MAX_COUNT
from coterie_protocol.client_api import Page, PageReply
from coterie_protocol.errors import CoterieError
from coterie_protocol.records import OUTGOING

from .envelope import Content, open_archive, open_body
from .errors import IdTaken

if TYPE_CHECKING:
    from .connection import Connection
    from .history import History, Message
    from .outbox import Outbox

NEWEST = 200
"""Archive copies that are asked for."""


def next_counter(last: int, now: int) -> int:
    """Return the counter after `last` (0: none is known) at the Unix millisecond `now`.

    The greatest counter comes again and again: then messages keep the order in which they are stored.
    """
    return min(max(last + 1, now), MAX_COUNT - 1)


class Places:
    """Puts the messages that this process has written behind all that their session has sent before."""

    def __init__(self, connection: Connection, outbox: Outbox, history: History, epoch: int) -> None:
        self._connection = connection
        self._outbox = outbox
        self._history = history
        self._epoch = epoch
        self._own: set[bytes] = set()
        """Messages that were written here and have not been on their way yet: their places may still be changed."""
        self._archived: dict[bytes, Content] = {}
        """The newest of what this account has sent from wherever, if that had to be asked for."""
        self._asking = asyncio.Lock()
        self._server_time = 0

    def written(self, message: Message) -> None:
        """Take note of a message that is new."""
        self._own.add(message.id)

    async def place(self, message: Message) -> Message:
        """Return a message as it is to be sent; from now on it stays as it is.

        Raises IdTaken if the archive has another message under its id; Unavailable, SessionTaken.
        """
        if message.id in self._own:
            await self._ask()
            kept = self._archived.get(message.id)
            if kept is not None and (kept.to, kept.text) != (message.peer, message.text):
                raise IdTaken(message.id_text, kept.to)
            self._own.discard(message.id)
            message = self._outbox.moved_up(message, self._server_time)
        return self._outbox.linked(message)

    async def _ask(self) -> None:
        async with self._asking:
            if self._server_time or self._outbox.is_placed(self._epoch):
                return
            try:
                reply = await self._connection.call(Page(b"", NEWEST))
            except CoterieError:
                return  # the clocks have to do; what ails the ring shows when the message is sent
            assert isinstance(reply, PageReply)
            self._history.save_archived(reply.items)
            own = ((item.id, open_archive(item.body)) for item in reply.items if item.sender == OUTGOING)
            opened = ((id_, open_body(body)) for id_, body in own if isinstance(body, bytes))
            self._archived = {id_: content for id_, content in opened if isinstance(content, Content)}
            self._outbox.mark_placed(self._epoch)
            welcome = self._connection.welcome
            self._server_time = welcome.time_ms if welcome is not None else 0
