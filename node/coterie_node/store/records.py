"""Mailbox records: the one rule by which they merge, on disk.

Which functions read bodies, and so find a record that fails its checksum: insert, record, pending, archive_page and
scrub. Such a record is put aside (`damaged_records`) and counts as not held from then on, so that the digests differ
and repair brings it back.
"""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Iterator, Sequence
from typing import Any

from coterie_protocol.records import BUCKETS, Record, RecordKey, State, Version
from coterie_protocol.weight import weight_of_record, weight_of_row

from .base import BaseTx, Place
from .connections import malformed
from .counters import COUNTED, add_counts
from .digests import EMPTY_BUCKETS, entry_digest, pack_buckets, slot_digest_of
from .rows import (
    CHECKED_COLUMNS,
    Held,
    Item,
    checked,
    checked_sql,
    chunks,
    delete_sql,
    held,
    in_index_order,
    insert_sql,
    insert_values,
    item_of,
    place_of,
    replace_sql,
)

_RECORD = f"SELECT {CHECKED_COLUMNS} FROM records WHERE slot = ? AND hash = ?"  # noqa: S608 - no data in it
_SCRUB = f"SELECT seq, {CHECKED_COLUMNS} FROM records WHERE seq > ? ORDER BY seq LIMIT ?"  # noqa: S608 - no data in it
_PENDING = (
    f"SELECT {CHECKED_COLUMNS} FROM records INDEXED BY records_pending"  # noqa: S608 - no data in it
    " WHERE slot = ? AND owner = ? AND state = 0 AND (stored_at, hash) > (?, ?) ORDER BY stored_at, hash"
)
_ARCHIVE = (
    f"SELECT {CHECKED_COLUMNS} FROM records INDEXED BY records_archive"  # noqa: S608 - no data in it
    " WHERE slot = ? AND owner = ? AND state = 2 AND part = 0 AND (stored_at, hash) < (?, ?)"
    " ORDER BY stored_at DESC, hash DESC"
)
_VERSIONS = (
    "SELECT slot, owner, sender, id, part, state, digest, stored_at, hash FROM records"
    " WHERE slot = ? AND hash > ? AND hash < ? AND stored_at < ? ORDER BY hash LIMIT ?"
)
_VERSION_TYPES = (int, str, str, bytes, int, int, bytes, int)
"""A damaged row may have others."""
_ASIDE_COLUMNS = "slot, hash, owner, sender, id, part, state, digest, size, prekey, epoch, stored_at, changed_at, body"
_ASIDE = (
    f"INSERT INTO damaged_records (found_at, {_ASIDE_COLUMNS})"  # noqa: S608 - no data in it
    f" SELECT ?, {_ASIDE_COLUMNS} FROM records WHERE slot = ? AND hash = ?"
)
_NEWEST = ((1 << 63) - 1, b"\xff" * 32)
_AFTER_LAST_HASH = b"\xff" * 32
_FETCH = 128
SCRUB_ROWS = 16
SCRUB_BYTES = 4 * 1024 * 1024
"""What a scrub reads at once, and in one go."""


class Sequence64:
    """Numbers new rows; never the same number twice in the life of a process, rollbacks included."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._next = int(connection.execute("SELECT coalesce(max(seq), 0) FROM records").fetchone()[0]) + 1

    def take(self, count: int) -> int:
        """Reserve numbers and return the first."""
        first = self._next
        self._next += count
        return first


class RecordTx(BaseTx):
    """Reads and writes mailbox records."""

    sequence: Sequence64
    """Set for the writer's transaction only."""

    # --- writing ---
    def insert(self, record: Record) -> Record | None:
        """Write a record unless its key is held: then change nothing and return the held one."""
        return self.insert_many((record,))[0]

    def insert_many(self, records: Sequence[Record]) -> list[Record | None]:
        """Insert each in order; return for each what `insert` would. Raises Unstorable before anything is written."""
        items = [item_of(record) for record in records]
        self._write()
        first: dict[Place, Item] = {}
        for item in items:
            first.setdefault(item.place, item)
        refused = {item.place for item in self._insert_new(list(first.values()))}
        answers: list[Record | None] = []
        for item in items:
            fresh = first[item.place] is item
            if fresh and item.place not in refused:
                answers.append(None)
                continue
            kept = self._read(item.place)
            if kept is None:  # What was held there failed its checksum.
                self._insert_new([item])
            answers.append(kept)
        return answers

    def merge(self, records: Sequence[Record]) -> list[Record]:
        """Merge versions (the greater (state, digest) wins) and return those that changed what is held.

        Raises Unstorable before anything is written.
        """
        best: dict[Place, Item] = {}
        for record in records:
            item = item_of(record)
            rival = best.get(item.place)
            if rival is None or item.rank > rival.rank:
                best[item.place] = item
        self._write()
        # New messages are mostly pending and not held; the further states mostly replace something.
        pending = [item for item in best.values() if item.record.state == State.PENDING]
        doubtful = self._insert_new(pending)
        doubtful += [item for item in best.values() if item.record.state != State.PENDING]
        unchanged: set[Place] = set()
        if doubtful:
            present = held(self._connection, [item.place for item in doubtful])
            winners = []
            for item in doubtful:
                version = present.get(item.place)
                if version is None or item.rank > (version.state, version.digest):
                    winners.append(item)
                else:
                    unchanged.add(item.place)
            self._replace(in_index_order(winners), present)
        return [item.record for place, item in best.items() if place not in unchanged]

    def give_up(self, versions: Sequence[Version]) -> int:
        """Delete exactly these versions (a record that has changed since stays); return how many went."""
        wanted = {place_of(version.key): (version.state, version.digest) for version in versions}
        present = held(self._connection, list(wanted))
        self._write()
        going = [version for place, version in present.items() if (version.state, version.digest) == wanted[place]]
        for part in chunks(going):
            self._connection.execute(delete_sql(len(part)), [version.seq for version in part])
        for version in going:
            self._remove(version)
        return len(going)

    def _insert_new(self, items: Sequence[Item]) -> list[Item]:
        """Insert rows whose keys are not held; return the others."""
        refused: list[Item] = []
        for part in chunks(in_index_order(items)):
            first = self.sequence.take(len(part))
            cursor = self._connection.execute(insert_sql(len(part)), insert_values(first, part))
            written = part
            if cursor.rowcount < len(part):
                present = held(self._connection, [item.place for item in part])
                if any(item.place not in present for item in part):
                    raise malformed("an index lists a record that the table does not have")
                mine = [present[item.place].seq == first + index for index, item in enumerate(part)]
                written = [item for item, new in zip(part, mine, strict=True) if new]
                refused += [item for item, new in zip(part, mine, strict=True) if not new]
            for item in written:
                self._add(item)
        return refused

    def _replace(self, items: Sequence[Item], present: dict[Place, Held]) -> None:
        for part in chunks(items):
            first = self.sequence.take(len(part))
            self._connection.execute(replace_sql(len(part)), insert_values(first, part))
        for item in items:
            if item.place in present:
                self._remove(present[item.place])
            self._add(item)

    def _add(self, item: Item) -> None:
        record, record_hash, digest = item
        weight = weight_of_row(record.owner, record.sender, len(record.prekey), len(record.body))
        self.changes.add(record.slot, record.owner, record_hash, record.state, digest, record.stored_at, weight)

    def _remove(self, version: Held) -> None:
        self.changes.remove(
            version.slot,
            version.owner,
            version.hash,
            version.state,
            version.digest,
            version.stored_at,
            version.weight,
        )

    # --- damage ---
    def put_aside(self, place: Place) -> bool:
        """Move a record that fails its checksum out of the way; say whether there was such a one."""
        row = self._connection.execute(_RECORD, place).fetchone()
        if row is None or checked(row) is not None:
            return False
        held(self._connection, [place])  # If it is the index that is wrong, the row is another record's.
        self._write()
        self._connection.execute(_ASIDE, (self._now_ms(), *place))
        self._connection.execute("DELETE FROM records WHERE slot = ? AND hash = ?", place)
        self.changes.counts[place[0]] = self.changes.counts.get(place[0], 0) - 1
        self.changes.stale.add(place[0])
        self.set_aside += 1
        return True

    def recount(self) -> None:
        """Count anew what a damaged row counted as; to be called at a transaction's end."""
        for slot in self.changes.stale:
            self.changes.recounted[slot] = tuple(
                self._connection.execute(
                    f"SELECT count(*) FROM records INDEXED BY {index} WHERE slot = ? AND state = {state}",  # noqa: S608
                    (slot,),
                ).fetchone()[0]
                for state, index in COUNTED.items()
            )

    def _found_damaged(self, places: Sequence[Place]) -> None:
        for place in places:
            if self._writable:
                self.put_aside(place)
            else:
                self._damaged(place)

    def scrub(self, after: int, limit: int) -> int:
        """Read some rows after a row's number, and put damaged ones aside; return the last one's, 0 at the end.

        A reader looks for as many rows that are gone, too. Attachments are large: it ends after SCRUB_BYTES as well.
        """
        damaged: list[Place] = []
        last = count = total = 0
        for row in self._iterate(_SCRUB, (after, limit), SCRUB_ROWS):
            last, count = int(row[0]), count + 1
            record = checked(row[1:])
            if record is None:
                damaged.append((row[1], row[-2]))
            else:
                total += weight_of_record(record)
            if total >= SCRUB_BYTES:
                break
        self._found_damaged(damaged)
        if not self._writable:
            self._tally.audit(limit)
        return last if count == limit or total >= SCRUB_BYTES else 0

    # --- reading ---
    def record(self, key: RecordKey) -> Record | None:
        """Return the held version of a record."""
        return self._read(place_of(key))

    def records(self, keys: Sequence[RecordKey]) -> list[Record | None]:
        """Return for each key what `record` would."""
        places = [place_of(key) for key in keys]
        found: dict[Place, Record | None] = {}
        for part in chunks(places):
            values = [value for place in part for value in place]
            for row in self._connection.execute(checked_sql(len(part)), values).fetchall():
                found[row[0], row[-2]] = checked(row)
        self._found_damaged([place for place, record in found.items() if record is None])
        return [found.get(place) for place in places]

    def _read(self, place: Place) -> Record | None:
        row = self._connection.execute(_RECORD, place).fetchone()
        if row is None:
            return None
        record = checked(row)
        if record is None:
            self._found_damaged([place])
        return record

    def pending(self, slot: int, owner: str, after: tuple[int, bytes], limit: int, max_bytes: int) -> list[Record]:
        """Return an owner's pending records in the order of (stored_at, key hash), after that cursor.

        At most `limit` records and about `max_bytes` by their weight, but always at least one if there is one.
        """
        return self._page(_PENDING, (slot, owner, *after), limit, max_bytes)

    def archive_page(
        self, slot: int, owner: str, before: tuple[int, bytes] | None, limit: int, max_bytes: int
    ) -> list[Record]:
        """Return an owner's archived records (part 0), newest first by (stored_at, key hash), before that cursor."""
        return self._page(_ARCHIVE, (slot, owner, *(before or _NEWEST)), limit, max_bytes)

    def _page(self, sql: str, values: tuple[Any, ...], limit: int, max_bytes: int) -> list[Record]:
        page: list[Record] = []
        total = 0
        damaged: list[Place] = []
        for row in self._iterate(sql, values):
            if len(page) >= limit:
                break
            record = checked(row)
            if record is None:
                damaged.append((row[0], row[-2]))
                continue
            total += weight_of_record(record)
            if page and total > max_bytes:
                break
            page.append(record)
        self._found_damaged(damaged)
        return page

    def _iterate(self, sql: str, values: tuple[Any, ...], at_once: int = _FETCH) -> Iterator[tuple[Any, ...]]:
        cursor = self._connection.execute(sql, values)
        try:
            while rows := cursor.fetchmany(at_once):
                yield from rows
        finally:
            cursor.close()

    def mailbox_size(self, slot: int, owner: str, since_ms: int = 0) -> tuple[int, int]:
        """Return (number, weight) of an owner's pending records (`ages.AgeTx` leaves out the older ones)."""
        return self._counted(slot, owner, State.PENDING)

    def archive_size(self, slot: int, owner: str) -> tuple[int, int]:
        """Return (number, weight of the rows) of an owner's archived records, attachments included."""
        return self._counted(slot, owner, State.ARCHIVED)

    def deleted_size(self, slot: int, owner: str) -> tuple[int, int]:
        """Return (number, weight of the rows) of an owner's deleted records."""
        return self._counted(slot, owner, State.DELETED)

    def _counted(self, slot: int, owner: str, state: State) -> tuple[int, int]:
        number, total = self._tally.box(slot, owner, state)
        change = self.changes.boxes.get((slot, owner, state), (0, 0))
        return (number + change[0], total + change[1])

    def record_count(self, slot: int) -> int:
        """Return how many records of any state a slot holds here."""
        return self._tally.count(slot) + self.changes.counts.get(slot, 0)

    def slots_with_records(self) -> dict[int, int]:
        """Return the number of records by slot, empty slots left out."""
        counts = self._tally.counts()
        add_counts(counts, self.changes.counts)
        return counts

    # --- comparing ---
    def slot_digest(self, slot: int, settled_before_ms: int) -> int:
        """Return the 64-bit digest of a slot's records with stored_at below the limit; 0 for none."""
        if not self.record_count(slot):
            return 0
        return slot_digest_of(self.bucket_digests(slot, settled_before_ms))

    def bucket_digests(self, slot: int, settled_before_ms: int) -> bytes:
        """Return 256 little-endian 64-bit digests by bucket (records.key_hash(key)[0])."""
        if not self.record_count(slot):
            return EMPTY_BUCKETS
        buckets = None if slot in self.changes.stale else self._tally.buckets(slot, settled_before_ms)
        if buckets is None:
            return pack_buckets(self._scan(slot, settled_before_ms))
        for bucket, entry, stored_at in self.changes.entries.get(slot, ()):
            if stored_at < settled_before_ms:
                buckets[bucket] ^= entry
        return pack_buckets(buckets)

    def _scan(self, slot: int, settled_before_ms: int) -> array[int]:
        buckets = array("Q", EMPTY_BUCKETS)
        rows = self._connection.execute(
            "SELECT hash, state, digest FROM records WHERE slot = ? AND stored_at < ?", (slot, settled_before_ms)
        )
        for record_hash, state, digest in rows:
            buckets[record_hash[0]] ^= entry_digest(record_hash, state, digest)
        return buckets

    def versions(
        self,
        slot: int,
        buckets: Sequence[int] | None,
        after: tuple[int, bytes],
        limit: int,
        settled_before_ms: int,
    ) -> list[Version]:
        """Return versions of a slot (of some buckets) in the order of (bucket, key hash), after that cursor."""
        start = after_hash(after)
        if buckets is None:
            return self._versions(slot, start, _AFTER_LAST_HASH, settled_before_ms, limit)
        page: list[Version] = []
        for bucket in sorted(set(buckets)):
            if not max(after[0], 0) <= bucket < BUCKETS:
                continue
            end = bytes((bucket + 1,)) if bucket + 1 < BUCKETS else _AFTER_LAST_HASH
            page += self._versions(slot, max(start, bytes((bucket,))), end, settled_before_ms, limit - len(page))
            if len(page) >= limit:
                break
        return page

    def _versions(self, slot: int, start: bytes, end: bytes, before_ms: int, limit: int) -> list[Version]:
        return self._listed(self._connection.execute(_VERSIONS, (slot, start, end, before_ms, limit)).fetchall())

    def _listed(self, rows: Sequence[tuple[Any, ...]]) -> list[Version]:
        """Return the versions of rows that end with their hash; put aside those with values of another type."""
        sound = [row for row in rows if tuple(map(type, row[:-1])) == _VERSION_TYPES]
        if len(sound) < len(rows):
            self._found_damaged([(row[0], row[-1]) for row in rows if row not in sound])
        return [Version(*row[:-1]) for row in sound]


def after_hash(after: tuple[int, bytes]) -> bytes:
    """Return what a key hash must be greater than to come after a cursor (bucket, key hash)."""
    bucket, key_hash = after
    if bucket < 0:
        return b""
    if bucket >= BUCKETS:
        return _AFTER_LAST_HASH
    prefix = bytes((bucket,))
    if key_hash[:1] == prefix or key_hash < prefix:
        return max(key_hash, prefix)
    return prefix + _AFTER_LAST_HASH
