"""Mends what an inspection found, and never takes away a last copy: first a file beside the database has it, synced.

Damaged records are taken out, for the running node then misses them and fetches them from the other members. Damaged
registers stay: without its row an acceptor would not know that it had promised anything. A database in which the
node's promises are lost is moved aside whole; the messages in it that can still be read begin a new store without a
uid, so that the node returns as a new one, which gives them to whoever is to hold them.
"""

from __future__ import annotations

import base64
import json
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coterie_protocol.words import counted

from ..connections import connect
from ..damage import absolve
from ..migrations import migrate
from ..registers import decoded_account, read_mark
from ..rows import CHECKED_COLUMNS, checked, insert_sql, insert_values, item_of
from .inspection import PAGE, Finding, Inspection, Progress, Severity

_SUFFIXES = ("", "-wal", "-shm")
KEPT_META = {"peers": None, "alive": b"0"}
"""What a new node takes over from the old one, besides its ring, and what takes the place of what cannot be read.

The peers by which it finds the ring again; and when it was last in touch with it (`downtime`; 0 is long ago), on which
depends what of its messages it may still bring.
"""
MAX_HOLES = 5_000_000
"""Row numbers that are tried one by one between two parts that can be read."""


@dataclass
class Repaired:
    """What was done. `kept` is the file that has what was taken out or moved aside."""

    done: list[str]
    kept: Path | None = None


def repair(found: Inspection, progress: Progress) -> Repaired:
    """Mend what can be mended where the node remains who it is. The caller holds the directory's lock.

    Raises OSError or sqlite3.Error, and then nothing was changed.
    """
    assert not found.fatal
    if found.condemned:  # And nothing else: it would be fatal.
        absolve(found.path)
        return Repaired(["took back the note that it is broken"])
    damaged = [finding for finding in found.findings if finding.row]
    others = [finding for finding in found.findings if finding.severity is Severity.REPAIRABLE and not finding.row]
    if not damaged and not others:
        return Repaired([])
    connection = connect(found.path, writable=True)
    repaired = Repaired([])
    try:
        if damaged:
            repaired.kept = _free_name(found.path, "taken-out", ".jsonl")
            _keep(connection, repaired.kept, damaged)
        connection.execute("BEGIN IMMEDIATE")
        if others:
            # Before anything is deleted: a deletion looks its index entries up.
            connection.execute("REINDEX")
            repaired.done.append("built the indexes anew")
            if accounts := _count_accounts(connection, progress):
                repaired.done.append(f"counted {counted(accounts, 'account')} anew")
        for start in range(0, len(damaged), PAGE):
            rows = [(finding.row,) for finding in damaged[start : start + PAGE]]
            connection.executemany("DELETE FROM records WHERE seq = ?", rows)
        if damaged:
            repaired.done.append(f"took out {counted(len(damaged), 'damaged record')}")
        connection.execute("COMMIT")
    finally:
        connection.close()
    return repaired


def begin_anew(found: Inspection, ring: bytes | None, progress: Progress) -> Repaired:
    """Move a database aside whose promises are lost, and save its readable messages into a store without a uid.

    `ring` is the membership that the new node begins with. The caller holds the directory's lock. Raises OSError or
    sqlite3.Error; the old database is then still in its place.
    """
    fresh = found.path.with_name(found.path.name + ".new")
    for suffix in _SUFFIXES:
        fresh.with_name(fresh.name + suffix).unlink(missing_ok=True)
    saved = _fill(fresh, found, ring, progress)
    aside = _free_name(found.path, "damaged", ".db")
    # The database before its log: were this interrupted, the node would find nothing, never a database without its log.
    for suffix in _SUFFIXES:
        part = found.path.with_name(found.path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    absolve(found.path)
    fresh.rename(found.path)
    _sync_directory(found.path.parent)
    return Repaired([f"saved {counted(saved, 'message')} into a new database"], aside)


def _fill(fresh: Path, found: Inspection, ring: bytes | None, progress: Progress) -> int:
    """Make the new database; return how many records it holds."""
    target = connect(fresh, writable=True)
    try:
        migrate(target, fresh)
        target.execute("BEGIN IMMEDIATE")
        read_mark(target, fresh)
        meta = {key: value for key, other in KEPT_META.items() if (value := found.meta.get(key, other)) is not None}
        if ring is not None:
            meta["ring"] = ring
        target.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
        saved = 0
        for row in _readable(found.path):
            record = checked(row)
            if record is not None:
                saved += target.execute(insert_sql(1), insert_values(saved + 1, [item_of(record)])).rowcount
                if not saved % PAGE:
                    progress("saving messages", saved, 0)
        target.execute("COMMIT")
        target.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        # So that one file is all there is to move; a node sets WAL when it opens it.
        target.execute("PRAGMA journal_mode = DELETE")
    finally:
        target.close()
    return saved


def _readable(path: Path) -> Iterator[tuple[Any, ...]]:
    """Yield every record row that SQLite can still read: from the front, from the back, and one by one in between."""
    try:
        connection = connect(path, writable=False)
    except sqlite3.DatabaseError:
        return
    columns = f"seq, {CHECKED_COLUMNS}"
    first, last = 0, 0
    try:
        try:
            for row in connection.execute(f"SELECT {columns} FROM records NOT INDEXED ORDER BY seq"):  # noqa: S608
                first = row[0]
                yield row[1:]
            return
        except sqlite3.DatabaseError:
            last = first
        try:
            for row in connection.execute(f"SELECT {columns} FROM records NOT INDEXED ORDER BY seq DESC"):  # noqa: S608
                if row[0] <= first:
                    return
                last = row[0]
                yield row[1:]
        except sqlite3.DatabaseError:
            pass
        for seq in range(first + 1, min(last, first + MAX_HOLES)):
            try:
                one = connection.execute(f"SELECT {columns} FROM records WHERE seq = ?", (seq,)).fetchone()  # noqa: S608
            except sqlite3.DatabaseError:
                continue
            if one is not None:
                yield one[1:]
    finally:
        connection.close()


def _keep(connection: sqlite3.Connection, file: Path, findings: Sequence[Finding]) -> None:
    """Write rows to a file, one JSON object a line, and see it to the disk."""
    names = ["seq", *CHECKED_COLUMNS.split(", ")]
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            for finding in findings:
                row = connection.execute(
                    f"SELECT seq, {CHECKED_COLUMNS} FROM records WHERE seq = ?",  # noqa: S608 - no data in it
                    (finding.row,),
                ).fetchone()
                values = {name: _plain(value) for name, value in zip(names, row, strict=True)}
                out.write(json.dumps({"found": finding.what, **values}) + "\n")
            out.flush()
            os.fsync(out.fileno())
        _sync_directory(file.parent)
    except BaseException:
        file.unlink(missing_ok=True)
        raise


def _plain(value: Any) -> Any:
    return {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def _count_accounts(connection: sqlite3.Connection, progress: Progress) -> int:
    wrong = []
    rows = connection.execute("SELECT slot, name, has_value, register, row_check FROM accounts")
    for done, (slot, name, has_value, row, check) in enumerate(rows):
        if not done % PAGE:
            progress("accounts", done, 0)
        register = decoded_account(slot, name, row, check)
        if register is not None and has_value != (register.value is not None):
            wrong.append((int(register.value is not None), slot, name))
    connection.executemany("UPDATE accounts SET has_value = ? WHERE slot = ? AND name = ?", wrong)
    return len(wrong)


def _free_name(path: Path, what: str, suffix: str) -> Path:
    """Name a file in the data directory by the present time that is not there yet."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    number = 0
    while True:
        more = f"-{number}" if number else ""
        file = path.with_name(f"{path.stem}-{what}-{stamp}{more}{suffix}")
        if not file.exists():
            return file
        number += 1


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
