"""The outbox: what this account has sent, from the moment it was typed until it is on a majority of its disks.

A message is in the outbox while its state is `sending`; it stays there over failures and restarts and is resent under
the same id and with the same body. Counters are given out inside the transaction that saves the message, so that
processes that share COTERIE_HOME share one sequence; `placing` says what else they rest on.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from coterie_protocol.records import OUTGOING, State

from .database import PAGED_EPOCH, PLACED_EPOCH
from .envelope import Content, Problem, open_body, seal
from .errors import IdTaken
from .history import COLUMNS, STATES, Message, message_of_row
from .placing import next_counter

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from coterie_protocol.client_api import MailItem

    from .database import Database

STATE_NAMES = {
    State.PENDING: "stored",
    State.EXPIRED: "expired",
    State.ARCHIVED: "delivered",
    State.DELETED: "delivered",
}
"""What a record's state at the recipient means to the sender."""
MOST_PASSED = 100
"""Messages to one person that others pass because the ring takes them for no good reason."""
_RANK = {state: rank for rank, state in enumerate(STATES)}


class Outbox:
    """Reads and writes the sent messages of one account."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, to: str, text: str, *, message_id: bytes, epoch: int, now: int) -> Message:
        """Give a message its counter and save it as `sending`; it is on disk when this returns. `now` in Unix ms.

        The message that has this id already is returned as it is; raises IdTaken if it is another one.
        """
        with self._database.write() as sql:
            if (known := self.get(message_id)) is not None:
                if (known.peer, known.text) != (to, text):
                    raise IdTaken(known.id_text, known.peer)
                return known
            last = sql.execute(
                "SELECT id, epoch, counter FROM messages WHERE peer = ? AND sender = '' AND epoch <= ? "
                "AND typeof(counter) = 'integer' "
                "ORDER BY epoch DESC, counter DESC LIMIT 1",
                (to, epoch),
            ).fetchone()
            counter = next_counter(last[2] if last and last[1] == epoch else 0, now)
            prev = last[0] if last else b""
            body = seal(Content(epoch, counter, prev, now, text, to))
            values = (OUTGOING, message_id, to, epoch, counter, prev, now, text, body)
            (seq,) = sql.execute(f"{_INSERT} RETURNING seq", values).fetchone()
        return Message(seq, OUTGOING, message_id, to, epoch, counter, prev, now, text, body, "sending", archived=False)

    def adopt(self, item: MailItem) -> Message | None:
        """Take over an own copy that another device left pending: it is `sending` here now.

        None if this device knows the message already, or if the copy cannot be read (a newer client will).
        """
        content = open_body(item.body)
        if isinstance(content, Problem):
            return None
        values = (
            OUTGOING, item.id, content.to, content.epoch, content.counter, content.prev, item.stored_at,
            content.text, item.body,
        )  # fmt: skip
        with self._database.write() as sql:
            row = sql.execute(f"{_INSERT} ON CONFLICT DO NOTHING RETURNING seq", values).fetchone()
        return self.get(item.id) if row else None

    def get(self, message_id: bytes) -> Message | None:
        """Return one sent message."""
        found = self._select("sender = '' AND id = ?", (message_id,))
        return found[0] if found else None

    def sending(self) -> list[Message]:
        """Return what is not stored yet, in the order in which it was written."""
        return self._select("sender = '' AND archived = 0 AND state = 'sending' ORDER BY epoch, seq")

    def before(self, message: Message, passing: Container[bytes] = ()) -> Message | None:
        """Return the last message to the same person that was written before this one and is not stored yet.

        Messages with an id in `passing` do not count.
        """
        found = self._select(
            "sender = '' AND archived = 0 AND state = 'sending' AND peer = ? AND (epoch, seq) < (?, ?) "
            f"ORDER BY epoch DESC, seq DESC LIMIT {MOST_PASSED}",
            (message.peer, message.epoch, message.seq),
        )
        return next((one for one in found if one.id not in passing), None)

    def linked(self, message: Message) -> Message:
        """Return a message that waits to be sent with a `prev` that exists.

        The one that it names may have been withdrawn since: a recipient would wait for it in vain. Only a message that
        was never sent names one that can still be withdrawn, so no copy of it with another body is anywhere.
        """
        if not message.prev or self.get(message.prev) is not None:
            return message
        content = open_body(message.body)
        if isinstance(content, Problem):
            return message
        with self._database.write() as sql:
            last = sql.execute(
                "SELECT id FROM messages WHERE peer = ? AND sender = '' AND (epoch, counter) < (?, ?) "
                "ORDER BY epoch DESC, counter DESC LIMIT 1",
                (message.peer, message.epoch, message.counter),
            ).fetchone()
            prev = last[0] if last else b""
            body = seal(msgspec.structs.replace(content, prev=prev))
            sql.execute(
                "UPDATE messages SET prev = ?, body = ? WHERE sender = '' AND id = ? AND state = 'sending'",
                (prev, body, message.id),
            )
        return replace(message, prev=prev, body=body)

    def moved_up(self, message: Message, now: int) -> Message:
        """Return a message that was never sent, behind all that its session has sent to the same person before.

        What was written later here and waits, too, is moved up when its turn comes. `now`: a server's time, Unix ms.
        """
        content = open_body(message.body)
        if isinstance(content, Problem):
            return message
        with self._database.write() as sql:
            last = sql.execute(
                "SELECT id, epoch, counter FROM messages WHERE peer = ? AND sender = '' AND epoch <= ? AND id <> ? "
                "AND (state <> 'sending' OR seq < ?) AND typeof(counter) = 'integer' "
                "ORDER BY epoch DESC, counter DESC LIMIT 1",
                (message.peer, message.epoch, message.id, message.seq),
            ).fetchone()
            known = last[2] if last and last[1] == message.epoch else 0
            counter = message.counter if message.counter > max(known, now) else next_counter(known, now)
            prev = last[0] if last else message.prev
            if (counter, prev) == (message.counter, message.prev):
                return message
            body = seal(msgspec.structs.replace(content, counter=counter, prev=prev))
            sql.execute(
                "UPDATE messages SET counter = ?, prev = ?, body = ? "
                "WHERE sender = '' AND id = ? AND state = 'sending'",
                (counter, prev, body, message.id),
            )
        return replace(message, counter=counter, prev=prev, body=body)

    def is_placed(self, epoch: int) -> bool:
        """Say whether this database has learnt what the session of this epoch had sent before."""
        return epoch in (self._database.mark(PLACED_EPOCH), self._database.mark(PAGED_EPOCH))

    def mark_placed(self, epoch: int) -> None:
        """Remember that it has."""
        self._database.set_mark(PLACED_EPOCH, epoch)

    def unarchived(self) -> list[Message]:
        """Return what is stored, but whose own copy is not archived yet."""
        return self._select("sender = '' AND archived = 0 AND state <> 'sending' ORDER BY seq")

    def undelivered(self, limit: int, peer: str | None = None) -> list[Message]:
        """Return the newest messages that were stored and not seen delivered yet (to `peer` only, if given)."""
        where, values = "sender = '' AND state = 'stored'", []
        if peer is not None:
            where, values = f"{where} AND peer = ?", [peer]
        return self._select(f"{where} ORDER BY seq DESC LIMIT ?", (*values, limit))

    def stored(self, message_id: bytes, stored_at: int) -> None:
        """Remember that the ring has stored a message (Unix ms; 0 keeps the time that is known)."""
        with self._database.write() as sql:
            sql.execute(
                "UPDATE messages SET state = 'stored', time = CASE WHEN ? > 0 THEN ? ELSE time END "
                "WHERE sender = '' AND id = ? AND state = 'sending'",
                (stored_at, stored_at, message_id),
            )

    def states(self, items: Iterable[tuple[bytes, int]]) -> list[Message]:
        """Take over states of records at the recipient; return the messages that have moved on."""
        moved = []
        with self._database.write() as sql:
            for message_id, number in items:
                state = STATE_NAMES.get(State(number)) if number in State.__members__.values() else None
                row = sql.execute(
                    f"SELECT {COLUMNS} FROM messages WHERE sender = '' AND id = ?",  # noqa: S608
                    (message_id,),
                ).fetchone()
                if state is None or row is None or _RANK[state] <= _RANK.get(row[10], 0):
                    continue
                sql.execute("UPDATE messages SET state = ? WHERE seq = ?", (state, row[0]))
                moved.append(message_of_row((*row[:10], state, row[11])))
        return moved

    def withdraw(self, message_id: bytes) -> None:
        """Forget a message that was refused: it was never sent."""
        with self._database.write() as sql:
            sql.execute("DELETE FROM messages WHERE sender = '' AND id = ? AND state = 'sending'", (message_id,))

    def _select(self, where: str, values: Iterable[object] = ()) -> list[Message]:
        with self._database.read() as sql:
            query = f"SELECT {COLUMNS} FROM messages WHERE {where}"  # noqa: S608
            return [message_of_row(row) for row in sql.execute(query, tuple(values))]


_INSERT = (
    "INSERT INTO messages (sender, id, peer, epoch, counter, prev, time, text, body, state, shown, archived) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'sending', 1, 0)"
)
