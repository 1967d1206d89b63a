"""What this device remembers: every message received or sent, in SQLite, readable without a server."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coterie_protocol.bounds import MAX_MS
from coterie_protocol.client_api import MailItem
from coterie_protocol.identifiers import message_id_text
from coterie_protocol.records import OUTGOING, State

from .envelope import Problem, open_archive, open_body

if TYPE_CHECKING:
    from .database import Database

COLUMNS = "seq, sender, id, peer, epoch, counter, prev, time, text, body, state, archived"
STATES = ("sending", "stored", "expired", "delivered", "read")
"""Of a message, from its writing on."""
_ITEM_STATES = {int(State.PENDING): "delivered", int(State.ARCHIVED): "delivered", int(State.EXPIRED): "expired"}


@dataclass(frozen=True, slots=True)
class Message:
    """One message as this device knows it."""

    seq: int
    sender: str
    """Who wrote it; records.OUTGOING ("") for what this account sent."""
    id: bytes
    peer: str
    """The other person: the sender of what came, the recipient of what went."""
    epoch: int
    counter: int
    prev: bytes
    time: int
    """Unix ms: when the ring stored it, or this device's clock while it is being sent."""
    text: str | None
    """None where the body cannot be read: see `problem`."""
    body: bytes
    state: str
    archived: bool

    @property
    def outgoing(self) -> bool:
        """Say whether this account sent it."""
        return self.sender == OUTGOING

    @property
    def problem(self) -> Problem | None:
        """Say why there is no text."""
        if self.text is not None:
            return None
        opened = open_body(self.body)
        return opened if isinstance(opened, Problem) else Problem.DAMAGED

    @property
    def id_text(self) -> str:
        """Return the id as people see it."""
        return message_id_text(self.id)


class History:
    """Reads and writes the messages of one account."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # --- What comes in ----------------------------------------------------------------------------------------

    def save(self, items: Iterable[MailItem]) -> list[Message]:
        """Save received mail in one transaction, on disk when this returns; give back what is new, to be shown."""
        new: list[Message] = []
        with self._database.write() as sql:
            for item in items:
                row, seq = _insert(sql, item.sender, item, item.body, state="delivered", shown=0, archived=0)
                if seq:
                    new.append(_message(row, seq))
        return new

    def save_archived(self, items: Sequence[MailItem]) -> int:
        """Save a page of the archive (received and own copies) as already shown; return how many were new."""
        new = 0
        with self._database.write() as sql:
            for item in items:
                body = open_archive(item.body)
                if item.part or body == b"":
                    continue  # an attachment, which only a newer client knows; or withdrawn
                if isinstance(body, Problem):
                    body = item.body
                opened = open_body(body)
                if item.sender != OUTGOING:
                    peer = item.sender
                elif isinstance(opened, Problem):
                    peer = ""
                else:
                    peer = opened.to
                state = "stored" if item.sender == OUTGOING else _ITEM_STATES.get(item.state, "delivered")
                new += _insert(sql, peer, item, body, state=state, shown=1, archived=1)[1] > 0
        return new

    def unshown(self) -> list[Message]:
        """Return what was saved but not shown, in the order of its coming."""
        return self._select("WHERE shown = 0 ORDER BY seq")

    def mark_shown(self, messages: Iterable[Message]) -> None:
        """Remember that these were shown: they never are again."""
        with self._database.write() as sql:
            sql.executemany("UPDATE messages SET shown = 1 WHERE seq = ?", [(m.seq,) for m in messages])

    def was_shown(self, sender: str, message_id: bytes) -> bool:
        """Say whether a message was shown."""
        with self._database.read() as sql:
            row = sql.execute("SELECT shown FROM messages WHERE sender = ? AND id = ?", (sender, message_id)).fetchone()
        return bool(row and row[0])

    def last_shown(self, sender: str) -> tuple[int, int]:
        """Return the greatest (epoch, counter) of a sender that was shown, (0, 0) if none was."""
        with self._database.read() as sql:
            row = sql.execute(
                "SELECT epoch, counter FROM messages WHERE peer = ? AND sender = ? AND shown = 1 "
                "ORDER BY epoch DESC, counter DESC LIMIT 1",
                (sender, sender),
            ).fetchone()
        return (row[0], row[1]) if row else (0, 0)

    def mark_archived(self, keys: Iterable[tuple[str, bytes]]) -> None:
        """Remember that the mailbox has confirmed the archive copies of these (sender, id)."""
        with self._database.write() as sql:
            sql.executemany(
                "UPDATE messages SET archived = 1, body = CASE WHEN text IS NULL THEN body ELSE x'' END "
                "WHERE sender = ? AND id = ? AND archived = 0",
                list(keys),
            )

    # --- What people read -------------------------------------------------------------------------------------

    def get(self, sender: str, message_id: bytes) -> Message | None:
        """Return one message."""
        found = self._select("WHERE sender = ? AND id = ?", (sender, message_id))
        return found[0] if found else None

    def page(
        self,
        peer: str,
        *,
        limit: int,
        before: bytes | None = None,
        search: str | None = None,
        shown_only: bool = False,
        me: str = "",
    ) -> list[Message] | None:
        """Return the newest `limit` messages with `peer` (before that one; with that text in them), oldest first.

        None if `before` is no message of this conversation. What somebody writes to themselves (`me`) is sent and
        received here, and is one message.
        """
        where = "WHERE peer = ? AND shown = 1" if shown_only else "WHERE peer = ?"
        arguments: list[object] = [peer]
        if peer == me:
            where += f" AND NOT ({_RECEIVED_TWIN})"
        if before is not None:
            anchor = self._select("WHERE peer = ? AND id = ?", (peer, before))
            if not anchor:
                return None
            where += " AND (time, seq) < (?, ?)"
            arguments += [anchor[0].time, anchor[0].seq]
        if search:
            where += " AND instr(folded(text), ?) > 0"
            arguments.append(search.casefold())
        newest_first = self._select(f"{where} ORDER BY time DESC, seq DESC LIMIT ?", (*arguments, limit))
        return in_order(newest_first[::-1])

    def _select(self, where: str, values: Sequence[object] = ()) -> list[Message]:
        with self._database.read() as sql:
            rows = sql.execute(f"SELECT {COLUMNS} FROM messages {where}", values).fetchall()  # noqa: S608
        return [message_of_row(row) for row in rows]


def in_order(messages: Sequence[Message]) -> list[Message]:
    """Keep each sender's messages in its own order, (epoch, counter), at the places that its messages take by time.

    A message that was stored only at the second attempt has a later time than the one sent after it.
    """
    by_sender: dict[str, list[Message]] = {}
    for message in messages:
        by_sender.setdefault(message.sender, []).append(message)
    ordered = {
        sender: iter(sorted(own, key=lambda m: (m.epoch, m.counter)) if all(m.counter for m in own) else own)
        for sender, own in by_sender.items()
    }
    return [next(ordered[message.sender]) for message in messages]


def message_of_row(row: Sequence[Any]) -> Message:
    """Read a row of COLUMNS. Its time may be one that no calendar has: releases before saved whatever a server said.

    SQLite keeps values of any type in any column; in a damaged file one that cannot be is empty here.
    """
    row = (*row[:-1], bool(row[-1]))
    values = [value if isinstance(value, kind) else kind() for value, kind in zip(row, _KINDS, strict=True)]
    values[_TEXT] = row[_TEXT] if isinstance(row[_TEXT], str) else None
    if values[_STATE] not in STATES:
        values[_STATE] = "delivered" if values[_SENDER] else "stored"
    return Message(*values)


_KINDS: tuple[type[Any], ...] = (int, str, bytes, str, int, int, bytes, int, str, bytes, str, bool)
_SENDER, _TEXT, _STATE = 1, 8, 10
_RECEIVED_TWIN = (
    "sender = peer AND EXISTS (SELECT 1 FROM messages AS sent "
    "WHERE sent.sender = '' AND sent.id = messages.id AND sent.peer = messages.peer)"
)
_INSERT = (
    "INSERT INTO messages (sender, id, peer, epoch, counter, prev, time, text, body, state, shown, archived) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING RETURNING seq"
)
Row = tuple[str, bytes, str, int, int, bytes, int, str | None, bytes, str, int, int]


def _row_of(peer: str, item: MailItem, body: bytes, *, state: str, shown: int, archived: int) -> Row:
    opened = open_body(body)
    if isinstance(opened, Problem):
        return (item.sender, item.id, peer, 0, 0, b"", item.stored_at, None, body, state, shown, archived)
    kept = b"" if archived else body
    return (
        item.sender,
        item.id,
        peer,
        opened.epoch,
        opened.counter,
        opened.prev,
        item.stored_at,
        opened.text,
        kept,
        state,
        shown,
        archived,
    )


def _insert(
    sql: sqlite3.Connection, peer: str, item: MailItem, body: bytes, *, state: str, shown: int, archived: int
) -> tuple[Row, int]:
    """Save one item; return its row, and its number (0: it is known already).

    What cannot be saved as it stands is saved as damaged: one item never takes the others of its batch with it.
    """
    row = _row_of(peer, item, body, state=state, shown=shown, archived=archived)
    try:
        found = sql.execute(_INSERT, row).fetchone()
    except (OverflowError, ValueError, TypeError, sqlite3.DataError, sqlite3.InterfaceError):
        time = min(max(item.stored_at, 0), MAX_MS - 1)
        row = (item.sender, item.id, peer, 0, 0, b"", time, None, body, state, shown, archived)
        found = sql.execute(_INSERT, row).fetchone()
    return row, found[0] if found else 0


def _message(row: Row, seq: int) -> Message:
    sender, message_id, peer, epoch, counter, prev, time, text, body, state, _, archived = row
    return Message(
        seq, sender, message_id, peer, epoch, counter, prev, time, text, body, state, archived=bool(archived)
    )
