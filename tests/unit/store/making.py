"""Makes records for the tests of the store."""

from __future__ import annotations

import itertools
import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from coterie_protocol.records import Record, State, key_hash
from coterie_protocol.weight import weight_of_row

_numbers = itertools.count(1)
BASE_MS = 1_700_000_000_000


def make_record(**changes: Any) -> Record:
    """Return a pending record with an id of its own."""
    body = changes.get("body", b"hello")
    values: dict[str, Any] = {
        "slot": 3,
        "owner": "alice",
        "sender": "bob",
        "id": next(_numbers).to_bytes(16, "big"),
        "part": 0,
        "state": State.PENDING,
        "body": body,
        "size": len(body),
        "prekey": b"",
        "epoch": 1,
        "stored_at": BASE_MS,
        "changed_at": BASE_MS,
    }
    values.update(changes)
    return Record(**values)


def moved(record: Record, state: State, body: bytes = b"", later_ms: int = 10) -> Record:
    """Return a further version of a record."""
    fields = {name: getattr(record, name) for name in record.__struct_fields__}
    fields |= {"state": state, "body": body, "changed_at": record.changed_at + later_ms}
    return Record(**fields)


def row(record: Record) -> int:
    """Return what a record takes of its owner's quota."""
    return weight_of_row(record.owner, record.sender, len(record.prekey), len(record.body))


def cursor_of(record: Record) -> tuple[int, bytes]:
    """Return the cursor that continues a page after a record."""
    return (record.stored_at, key_hash(record.key))


def random_record(rng: random.Random, slots: int = 3) -> Record:
    """Return a record with few different keys, so that they meet, and any state."""
    state = State(rng.randrange(4))
    body = rng.randbytes(rng.randrange(60)) if state in (State.PENDING, State.ARCHIVED) else b""
    return make_record(
        prekey=rng.randbytes(rng.randrange(3)),
        slot=rng.randrange(slots),
        owner=rng.choice(["alice", "bob", "zoë"]),
        sender=rng.choice(["", "carol"]),
        id=bytes(15) + bytes((rng.randrange(40),)),
        part=rng.randrange(2),
        state=state,
        body=body,
        stored_at=BASE_MS + rng.randrange(20_000),
        changed_at=BASE_MS + rng.randrange(20_000),
    )


def behind_the_back_of(index: str, database: Path, sql: str) -> None:
    """Change a table without telling one of its indexes."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        entry = connection.execute("SELECT * FROM sqlite_schema WHERE name = ?", (index,)).fetchone()
        connection.execute("PRAGMA writable_schema = ON")
        assert connection.execute("DELETE FROM sqlite_schema WHERE name = ?", (index,)).rowcount == 1
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        assert connection.execute(sql).rowcount == 1
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("INSERT INTO sqlite_schema VALUES (?, ?, ?, ?, ?)", entry)
