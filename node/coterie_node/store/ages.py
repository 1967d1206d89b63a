"""Finding records by age: what has been pending for too long, and tombstones that may go.

Pending records have no index by age alone, for that would slow every message down: the owners of a slot are stepped
through instead, each with one look into the index that its mailbox is read by.
"""

from __future__ import annotations

from coterie_protocol.records import Record, Version

from .records import RecordTx
from .rows import CHECKED_COLUMNS, ROW_WEIGHT

_OWNERS = (
    "WITH RECURSIVE owners (name) AS ("
    "SELECT min(owner) FROM records INDEXED BY records_pending WHERE slot = ?1 AND state = 0"
    " UNION ALL SELECT (SELECT min(owner) FROM records INDEXED BY records_pending"
    " WHERE slot = ?1 AND state = 0 AND owner > owners.name) FROM owners WHERE owners.name IS NOT NULL)"
)
_PENDING_COLUMNS = ", ".join(f"r.{column}" for column in CHECKED_COLUMNS.split(", "))
_PENDING = (
    f"{_OWNERS} SELECT {_PENDING_COLUMNS} FROM owners CROSS JOIN records AS r INDEXED BY records_pending"  # noqa: S608
    " ON r.slot = ?1 AND r.state = 0 AND r.owner = owners.name AND r.stored_at < ?2"
)
_TOMBSTONES = (
    "SELECT slot, owner, sender, id, part, state, digest, stored_at, hash FROM records INDEXED BY records_tombstones"
    " WHERE slot = ? AND state IN (1, 3) AND changed_at < ? ORDER BY changed_at, hash LIMIT ?"
)
_SINCE = (
    f"SELECT count(*), coalesce(sum({ROW_WEIGHT}), 0) FROM records AS r INDEXED BY records_pending"  # noqa: S608
    " WHERE slot = ? AND owner = ? AND state = 0 AND stored_at < ?"
)
_ALL_BYTES = 1 << 22


class AgeTx(RecordTx):
    """Reads by age."""

    def pending_before(self, slot: int, before_ms: int, limit: int) -> list[Record]:
        """Return pending records with stored_at below a time, of all owners; at most `limit` or some 4 MiB."""
        return self._page(_PENDING, (slot, before_ms), limit, _ALL_BYTES)

    def tombstones_before(self, slot: int, before_ms: int, limit: int) -> list[Version]:
        """Return expired and deleted records with changed_at below a time, the oldest first."""
        return self._listed(self._connection.execute(_TOMBSTONES, (slot, before_ms, limit)).fetchall())

    def mailbox_size(self, slot: int, owner: str, since_ms: int = 0) -> tuple[int, int]:
        """Return (number, weight of the rows) of an owner's pending records with stored_at of at least `since_ms`."""
        number, total = super().mailbox_size(slot, owner)
        if since_ms > 0 and number:
            old = self._connection.execute(_SINCE, (slot, owner, since_ms)).fetchone()
            return (max(0, number - old[0]), max(0, total - old[1]))
        return (number, total)
