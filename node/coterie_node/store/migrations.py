"""Brings a store to this release's schema: an older one runs what is missing, a newer one is refused.

The number of a store's schema is its `PRAGMA user_version`; each file runs in one transaction with the new number.
"""

from __future__ import annotations

import sqlite3
from functools import cache
from importlib import resources
from pathlib import Path

from .errors import NotAStore, SchemaTooNew

APPLICATION_ID = int.from_bytes(b"Cote", "big")


@cache
def deltas() -> tuple[tuple[int, str], ...]:
    """Return (number, SQL) of every schema file, in order."""
    files = (item for item in resources.files(__package__).joinpath("schema").iterdir() if item.name.endswith(".sql"))
    return tuple(sorted((int(item.name.split("_")[0]), item.read_text("utf-8")) for item in files))


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Run what the store lacks. Raises SchemaTooNew, NotAStore and sqlite3.Error."""
    found = int(connection.execute("PRAGMA user_version").fetchone()[0])
    application = int(connection.execute("PRAGMA application_id").fetchone()[0])
    empty = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0
    if application != APPLICATION_ID and not empty:
        raise NotAStore(path)
    known = deltas()[-1][0]
    if found > known:
        raise SchemaTooNew(path, found, known)
    for number, sql in deltas():
        if number > found:
            connection.executescript(f"BEGIN IMMEDIATE;\n{sql}\nPRAGMA user_version = {number};\nCOMMIT;")
