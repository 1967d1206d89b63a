"""Store files with damage of any kind: checked, mended and opened without a surprise."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import shutil
import sqlite3
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from tests.fuzz import shapes
from tests.fuzz.engine import Found, Target
from tests.fuzz.place import Complaints, listening

from coterie_node.cli import check
from coterie_node.runtime.ports import FIRST, NO_LIMIT_MS
from coterie_node.store.errors import StoreError
from coterie_node.store.store import DATABASE_NAME, Store
from coterie_protocol.identifiers import Uid
from coterie_protocol.records import Record
from coterie_protocol.registers import AccountBallot, AccountRegister, Ballot, Config, SlotRegister

SLOT = 3
DOCUMENTED = {check.WHOLE, check.DAMAGED, check.USAGE}
Flips = list[tuple[int, int]]


class StoreFiles(Target):
    """A database whose bytes, length or rows are not what was written."""

    name = "stores"
    shrinks = False
    about = "damaged databases -> coterie-node check, check --repair, and a node's store"

    def cases(self) -> st.SearchStrategy[tuple[str, Any]]:
        flips = st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(1, 255)), min_size=1, max_size=20)
        rows = st.tuples(st.integers(0, 1 << 16), st.integers(0, 1 << 16), shapes.hostile())
        return st.one_of(
            st.tuples(st.just("flip"), flips), st.tuples(st.just("cut"), st.integers(0, 1 << 20)),
            st.tuples(st.just("row"), rows), st.tuples(st.just("row"), rows),
        )  # fmt: skip

    def begin(self, directory: Path) -> None:
        self._directory = directory
        self._whole = directory / "whole"
        asyncio.run(_made(self._whole))
        self._number = 0

    def feed(self, case: tuple[str, Any]) -> None:
        self._number += 1
        place = self._directory / f"n{self._number}"
        shutil.copytree(self._whole, place)
        try:
            _damage(place / DATABASE_NAME, *case)
            self._look(place)
        finally:
            shutil.rmtree(place)

    def _look(self, place: Path) -> None:
        before = (place / DATABASE_NAME).read_bytes()
        code = _check(place, repair=False)
        if (place / DATABASE_NAME).read_bytes() != before:
            raise Found("check has changed the database")
        asyncio.run(_opened(place))
        _check(place, repair=True)
        asyncio.run(_opened(place))
        if code not in DOCUMENTED:
            raise Found(f"check exits {code}")


def _damage(path: Path, how: str, what: Any) -> None:
    if how == "row":
        _write_row(path, *what)
        return
    data = bytearray(path.read_bytes())
    if how == "cut":
        del data[what % (len(data) + 1) :]
    else:
        for where, flip in what:
            data[where % len(data)] ^= flip
    path.write_bytes(data)


def _write_row(path: Path, table: int, column: int, value: Any) -> None:
    """Put a value into a column of some row; what SQLite does not take is left as it was."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as sql:
        tables = [
            name
            for (name,) in sql.execute(
                "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
            )
        ]
        name = tables[table % len(tables)]
        columns = [row[1] for row in sql.execute(f"PRAGMA table_info({name})")]
        with contextlib.suppress(sqlite3.Error, OverflowError, UnicodeError, TypeError):
            sql.execute(
                f"UPDATE {name} SET {columns[column % len(columns)]} = ? WHERE rowid = (SELECT max(rowid) FROM {name})",
                (value,),
            )
        sql.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _check(place: Path, *, repair: bool) -> int:
    arguments = argparse.Namespace(data_dir=str(place), json=False, repair=repair)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
        code = check.check(arguments)
    if "Traceback" in said.getvalue():
        raise Found(said.getvalue())
    return code


async def _opened(place: Path) -> None:
    """Open the store, read everything, and write: it either works or says StoreError, as a node expects."""
    complaints = Complaints()
    with listening(complaints):
        try:
            store = await Store.open(place)
        except StoreError:
            return
        try:
            for read in _READS:
                with contextlib.suppress(StoreError):
                    await store.read(read)
            with contextlib.suppress(StoreError):
                await store.transact(lambda tx: tx.merge([_record(99)]))
        finally:
            await store.close()
    if crashed := [one for one in complaints.told if "the store's writer failed" in one]:
        raise Found(f"in the log: {crashed[0]}")


_READS: list[Any] = [
    lambda tx: tx.pending(SLOT, "ann", FIRST, 100, 1 << 20),
    lambda tx: tx.archive_page(SLOT, "ann", None, 100, 1 << 20),
    lambda tx: tx.versions(SLOT, None, FIRST, 100, NO_LIMIT_MS),
    lambda tx: tx.slot_digest(SLOT, NO_LIMIT_MS),
    lambda tx: tx.scrub(0, 100),
    lambda tx: list(tx.slot_registers()),
    lambda tx: tx.account(SLOT, "ann"),
    lambda tx: tx.accounts(SLOT, "", 10),
    lambda tx: tx.damaged_registers([SLOT]),
    lambda tx: tx.tombstones_before(SLOT, NO_LIMIT_MS, 10),
    lambda tx: tx.pending_before(SLOT, NO_LIMIT_MS, 10),
    lambda tx: tx.mailbox_size(SLOT, "ann", 5),
]


async def _made(directory: Path) -> None:
    store = await Store.open(directory)
    ballot, account = Ballot(1, "n"), AccountBallot(1, 1, "n")

    def write(tx: Any) -> None:
        tx.put_meta("uid", b"ab" * 16)
        for slot in range(8):
            tx.put_slot_register(slot, SlotRegister(ballot, ballot, Config(1, ballot, (), (Uid("ab" * 16),))))
        for name in ("ann", "ben"):
            tx.put_account(SLOT, name, AccountRegister(account, account, b"value"))
        tx.merge([_record(number, number % 4) for number in range(40)])

    await store.transact(write)
    await store.close()


def _record(number: int, state: int = 0) -> Record:
    body = b"body" * number if state in (0, 2) else b""
    at = 1_700_000_000_000 + number
    return Record(SLOT, "ann", "bob", number.to_bytes(16, "big"), 0, state, body, len(body), b"", 1, at, at)
