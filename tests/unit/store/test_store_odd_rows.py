"""Rows in which damage has changed a value's type: found by the fuzzing, each once more here."""

from __future__ import annotations

import argparse
import contextlib
import sqlite3
from pathlib import Path

import pytest
from tests.unit.store.making import make_record

from coterie_node.cli import check
from coterie_node.runtime.ports import FIRST, NO_LIMIT_MS
from coterie_node.store.errors import StoreDamaged
from coterie_node.store.store import DATABASE_NAME, Store


async def _store_with(directory: Path, *changes: str) -> Store:
    """Make a store with three records and a value, and change it behind its back."""
    store = await Store.open(directory)
    await store.transact(lambda tx: tx.put_meta("uid", b"ab" * 16))
    await store.transact(lambda tx: tx.merge([make_record() for _ in range(3)]))
    await store.close()
    with contextlib.closing(sqlite3.connect(directory / DATABASE_NAME, isolation_level=None)) as sql:
        for change in changes:
            sql.execute(change)
    return await Store.open(directory)


@pytest.mark.parametrize("column", ["stored_at", "digest", "owner", "id", "part", "epoch"])
@pytest.mark.parametrize("value", ["''", "x'00'", "1.5"])
async def test_a_value_of_another_type_hides_no_other_row(tmp_path: Path, column: str, value: str) -> None:
    newest = "(SELECT max(seq) FROM records)"
    store = await _store_with(tmp_path, f"UPDATE records SET {column} = {value} WHERE seq = {newest}")
    assert await store.read(lambda tx: isinstance(tx.slot_digest(3, NO_LIMIT_MS), int))
    listed = await store.read(lambda tx: tx.versions(3, None, FIRST, 10, NO_LIMIT_MS))
    assert len(listed) >= 2
    assert len(await store.read(lambda tx: tx.pending(3, "alice", FIRST, 10, 1 << 20))) == 2
    await store.close()


async def test_a_named_value_of_another_type_is_damage(tmp_path: Path) -> None:
    store = await _store_with(tmp_path, "UPDATE meta SET value = 5 WHERE key = 'uid'")
    with pytest.raises(StoreDamaged):
        await store.read(lambda tx: tx.meta("uid"))
    await store.close()


async def test_check_finds_a_named_value_of_another_type(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = await _store_with(tmp_path, "UPDATE meta SET value = 5 WHERE key = 'uid'")
    await store.close()
    code = check.check(argparse.Namespace(data_dir=str(tmp_path), json=False, repair=False))
    assert code in (check.DAMAGED, check.USAGE)
    assert "Traceback" not in "".join(capsys.readouterr())


def test_check_changes_nothing_of_a_database_that_is_empty(tmp_path: Path) -> None:
    (tmp_path / DATABASE_NAME).touch()
    assert check.check(argparse.Namespace(data_dir=str(tmp_path), json=False, repair=False)) == check.USAGE
    assert (tmp_path / DATABASE_NAME).read_bytes() == b""
