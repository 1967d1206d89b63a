"""Record rows and the statements that move many of them at once.

One statement carries up to 32 rows: the sqlite3 module gives up the interpreter lock for each step of a statement, and
beside a busy event loop getting it back costs far more than the row. (Idle, 8 to 64 rows are about equally fast.)
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple, TypeVar

from coterie_protocol.records import Record, RecordKey, fault_of, key_hash, record_digest
from coterie_protocol.weight import ROW

from .connections import malformed
from .errors import Unstorable

T = TypeVar("T")

RECORD_COLUMNS = "slot, owner, sender, id, part, state, body, size, prekey, epoch, stored_at, changed_at"
"""The columns of a Record, in its order; `hash, digest` follow where a row is to be checked."""
CHECKED_COLUMNS = f"{RECORD_COLUMNS}, hash, digest"
ROW_WEIGHT = (
    f"{ROW} + length(CAST(r.owner AS BLOB)) + length(CAST(r.sender AS BLOB)) + length(r.prekey) + length(r.body)"
)
"""What a row of `records AS r` takes of its owner's quota (`weight.weight_of_row`)."""
_INSERT_COLUMNS = f"seq, {CHECKED_COLUMNS}"
_INSERT_WIDTH = 15
_CHUNKS = (32, 16, 8, 4, 2, 1)
_ROW = "SELECT slot, hash FROM records NOT INDEXED WHERE seq = ?"
"""By its number, and what is in the row itself: otherwise SQLite answers from the index."""


class Item(NamedTuple):
    """A record on its way in, with its hashes."""

    record: Record
    hash: bytes
    digest: bytes

    @property
    def place(self) -> tuple[int, bytes]:
        """Return what is unique among the rows."""
        return (self.record.slot, self.hash)

    @property
    def rank(self) -> tuple[int, bytes]:
        """Return what decides between two versions."""
        return (self.record.state, self.digest)


class Held(NamedTuple):
    """What is on disk of a record, its body left out. `slot` and `hash` are those that were looked up."""

    slot: int
    hash: bytes
    seq: int
    owner: str
    state: int
    digest: bytes
    stored_at: int
    weight: int
    sender: str
    id: bytes
    part: int


def item_of(record: Record) -> Item:
    """Hash a record. Raises Unstorable."""
    if fault := fault_of(record):
        raise Unstorable(record, fault)
    return Item(record, key_hash(record.key), record_digest(record))


def place_of(key: RecordKey) -> tuple[int, bytes]:
    """Return where a key's row is found."""
    return (key.slot, key_hash(key))


def checked(row: tuple[Any, ...]) -> Record | None:
    """Return the record of a row of CHECKED_COLUMNS; None when it fails its checksum."""
    record = Record(*row[:-2])
    try:
        item = item_of(record)
    except (TypeError, AttributeError, Unstorable):  # Damage can change a value's type, too.
        return None
    return record if item.hash == row[-2] and item.digest == row[-1] else None


def in_index_order(items: Iterable[Item]) -> list[Item]:
    """Sort items as the index on (slot, hash) does: neighbours share its pages."""
    return sorted(items, key=lambda item: (item.record.slot, item.hash))


def chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Cut a sequence into pieces of 32 and smaller powers of two, so that few different statements are prepared."""
    start = 0
    for size in _CHUNKS:
        while len(items) - start >= size:
            yield items[start : start + size]
            start += size


def _rows(count: int, width: int) -> str:
    row = "(" + ",".join("?" * width) + ")"
    return ",".join([row] * count)


@cache
def insert_sql(count: int) -> str:
    """Insert rows, but leave alone whose key is held."""
    return (
        f"INSERT INTO records ({_INSERT_COLUMNS}) VALUES {_rows(count, _INSERT_WIDTH)}"  # noqa: S608 - no data in it
        " ON CONFLICT (slot, hash) DO NOTHING"
    )


@cache
def replace_sql(count: int) -> str:
    """Write rows over those that are held under their keys."""
    columns = ("state", "body", "size", "prekey", "epoch", "stored_at", "changed_at", "digest")
    assignments = ", ".join(f"{column} = excluded.{column}" for column in columns)
    return (
        f"INSERT INTO records ({_INSERT_COLUMNS}) VALUES {_rows(count, _INSERT_WIDTH)}"  # noqa: S608 - no data in it
        f" ON CONFLICT (slot, hash) DO UPDATE SET {assignments}"
    )


@cache
def held_sql(count: int) -> str:
    """Look up what is held under keys."""
    return (
        f"WITH wanted (slot, hash) AS (VALUES {_rows(count, 2)})"  # noqa: S608 - no data in it
        " SELECT wanted.slot, wanted.hash, r.seq, r.owner, r.state, r.digest, r.stored_at,"
        f" {ROW_WEIGHT},"
        " r.sender, r.id, r.part"
        " FROM wanted CROSS JOIN records AS r ON r.slot = wanted.slot AND r.hash = wanted.hash"
    )


@cache
def checked_sql(count: int) -> str:
    """Read whole rows under keys."""
    columns = ", ".join(f"r.{column}" for column in CHECKED_COLUMNS.split(", "))
    return (
        f"WITH wanted (slot, hash) AS (VALUES {_rows(count, 2)})"  # noqa: S608 - no data in it
        f" SELECT {columns}"
        " FROM wanted CROSS JOIN records AS r ON r.slot = wanted.slot AND r.hash = wanted.hash"
    )


@cache
def delete_sql(count: int) -> str:
    """Delete rows by number."""
    return f"DELETE FROM records WHERE seq IN ({','.join('?' * count)})"  # noqa: S608 - no data in it


def insert_values(seq: int, items: Sequence[Item]) -> list[Any]:
    """Return the parameters of insert_sql and replace_sql; the rows are numbered from `seq` on."""
    values: list[Any] = []
    for r, record_hash, digest in items:
        values += (
            seq, r.slot, r.owner, r.sender, r.id, r.part, r.state, r.body, r.size, r.prekey, r.epoch, r.stored_at,
            r.changed_at, record_hash, digest,
        )  # fmt: skip
        seq += 1
    return values


def held(connection: sqlite3.Connection, places: Sequence[tuple[int, bytes]]) -> dict[tuple[int, bytes], Held]:
    """Return what is held under keys. Raises sqlite3.DatabaseError where the index names another record's row.

    Whoever writes or deletes a row asks here first: through a broken index it would change another record, and with a
    checksum that fits, since that does not cover the key.
    """
    found = {}
    for part in chunks(places):
        values = [value for place in part for value in place]
        for row in connection.execute(held_sql(len(part)), values).fetchall():
            version = Held._make(row)
            if not _names_give(version):
                _confirm_row(connection, version)
            found[version.slot, version.hash] = version
    return found


def _names_give(version: Held) -> bool:
    """Say whether a row's names give the hash under which it was found."""
    key = RecordKey(version.slot, version.owner, version.sender, version.id, version.part)
    try:
        return key_hash(key) == version.hash
    except (TypeError, AttributeError):  # Damage can change a value's type, too.
        return False


def _confirm_row(connection: sqlite3.Connection, version: Held) -> None:
    """Look whether a row is what the index takes it for; one that is damaged itself has the hash that was looked up."""
    if connection.execute(_ROW, (version.seq,)).fetchone() != (version.slot, version.hash):
        raise malformed("an index names a row that belongs to another record")
