"""A new device's history: the account's archive, paged from the ring into the local history.

Paging goes newest first by the time of storing. A device that has been complete until some moment (it drained its
mailbox then) needs only what was stored since; marks in the database remember how far a device has come, so that an
interrupted paging is made up for by the next command that receives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from coterie_protocol.client_api import Page, PageReply
from coterie_protocol.errors import CoterieError

from .database import PAGED_EPOCH
from .errors import Unavailable, translate

if TYPE_CHECKING:
    from .connection import Connection
    from .database import Database
    from .history import History

PAGE = 200
MOST_PAGES = 100_000
"""Twenty million messages."""
SKEW_MS = 10 * 60 * 1000
"""Clocks of nodes differ, and a record may be coordinated by any of them."""
COMPLETE_UNTIL = "complete_until"
"""Unix ms (of a server) at which everything stored until then was here."""


def is_due(database: Database, epoch: int) -> bool:
    """Say whether the archive must still be paged for this session."""
    return database.mark(PAGED_EPOCH) != epoch


async def page_archive(
    connection: Connection,
    database: Database,
    history: History,
    *,
    epoch: int,
    on_progress: Callable[[int], None] | None = None,
) -> int:
    """Page what this device lacks into its history; return how many messages were new. `on_progress` hears the count.

    Raises Unavailable; what has come is kept.
    """
    since = database.mark(COMPLETE_UNTIL) - SKEW_MS
    cursor, new = b"", 0
    seen: set[bytes] = set()
    while True:
        try:
            reply = await connection.call(Page(cursor, PAGE))
        except CoterieError as error:
            raise translate(error) from None
        assert isinstance(reply, PageReply)
        new += history.save_archived(reply.items)
        if on_progress is not None:
            on_progress(new)
        cursor = reply.next
        if not cursor or (reply.items and reply.items[-1].stored_at < since):
            break
        if cursor in seen or len(seen) == MOST_PAGES:
            raise Unavailable(f"the archive of {connection.url} has no end; ask another server")
        seen.add(cursor)
    database.set_mark(PAGED_EPOCH, epoch)
    return new


def mark_complete(database: Database, epoch: int, server_time: int) -> None:
    """Remember that the mailbox was drained at `server_time` (Unix ms) and nothing is missing."""
    if not is_due(database, epoch) and server_time > database.mark(COMPLETE_UNTIL):
        database.set_mark(COMPLETE_UNTIL, server_time)
