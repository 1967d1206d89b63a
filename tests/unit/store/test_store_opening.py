"""Opening a data directory: new, used, of a newer release, of something else, in use."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.store.making import make_record

from coterie_node.store import migrations
from coterie_node.store.errors import (
    DirectoryLocked,
    DirectoryUnusable,
    NotAStore,
    SchemaTooNew,
    StoreDamaged,
    StoreError,
)
from coterie_node.store.store import DATABASE_NAME, Store
from coterie_protocol.registers import Ballot, SlotRegister

NEXT = migrations.deltas()[-1][0] + 1


async def _used(directory: Path) -> Path:
    store = await Store.open(directory)
    register = SlotRegister(Ballot(5, "p"), Ballot(0, ""), None)

    await store.transact(lambda tx: tx.put_slot_register(1, register))
    await store.transact(lambda tx: tx.insert(make_record()))
    await store.close()
    return directory / DATABASE_NAME


def _change(path: Path, sql: str) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(sql)
    connection.close()


async def test_what_was_written_is_there_after_a_restart(tmp_path: Path) -> None:
    await _used(tmp_path / "a" / "deep" / "data")
    store = await Store.open(tmp_path / "a" / "deep" / "data")
    assert await store.read(lambda tx: tx.record_count(3)) == 1
    assert await store.read(lambda tx: tx.mark()) >= 5
    await store.close()


async def test_a_newer_schema_is_refused_untouched(tmp_path: Path) -> None:
    path = await _used(tmp_path)
    _change(path, "PRAGMA user_version = 999")
    before = path.read_bytes()
    with pytest.raises(SchemaTooNew, match="schema 999, but this release knows only up to"):
        await Store.open(tmp_path)
    assert path.read_bytes() == before


async def test_an_older_store_runs_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await _used(tmp_path)
    newer = (*migrations.deltas(), (NEXT, "CREATE TABLE later (x);\nINSERT INTO later VALUES (7);\n"))
    monkeypatch.setattr(migrations, "deltas", lambda: newer)
    store = await Store.open(tmp_path)
    assert await store.read(lambda tx: tx.record_count(3)) == 1
    await store.close()
    connection = sqlite3.connect(tmp_path / DATABASE_NAME)
    assert connection.execute("SELECT x FROM later").fetchall() == [(7,)]
    assert connection.execute("PRAGMA user_version").fetchone() == (NEXT,)
    connection.close()


async def test_a_schema_file_that_fails_leaves_the_store_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await _used(tmp_path)
    broken = (*migrations.deltas(), (NEXT, "CREATE TABLE later (x);\nINSERT INTO nowhere VALUES (7);\n"))
    with monkeypatch.context() as patched:
        patched.setattr(migrations, "deltas", lambda: broken)
        with pytest.raises(StoreError, match="nowhere"):
            await Store.open(tmp_path)
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (NEXT - 1,)
    assert connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'later'").fetchone() == (0,)
    connection.close()
    await (await Store.open(tmp_path)).close()


async def test_another_database_is_refused(tmp_path: Path) -> None:
    _change(tmp_path / DATABASE_NAME, "CREATE TABLE theirs (x)")
    with pytest.raises(NotAStore, match="is not a store of a Coterie node"):
        await Store.open(tmp_path)


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / DATABASE_NAME).write_bytes(b"garbage " * 1_000)
    with pytest.raises(StoreDamaged, match="move the data directory away"):
        await Store.open(tmp_path)


async def test_a_directory_in_use_names_the_process(tmp_path: Path) -> None:
    store = await Store.open(tmp_path)
    with pytest.raises(DirectoryLocked, match=f"in use by process {os.getpid()}") as caught:
        await Store.open(tmp_path)
    assert caught.value.pid == os.getpid()
    await store.close()
    await (await Store.open(tmp_path)).close()


async def test_the_lock_holds_between_processes_and_goes_with_them(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from coterie_node.store.directory import DirectoryLock;"
        "lock = DirectoryLock(pathlib.Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    )
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path)))
    process = subprocess.Popen(  # noqa: ASYNC220 - it only starts and dies
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    with pytest.raises(DirectoryLocked, match=f"process {process.pid}"):
        await Store.open(tmp_path)
    process.kill()
    process.communicate()
    await (await Store.open(tmp_path)).close()


async def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DirectoryUnusable, match="cannot use the data directory"):
        await Store.open(tmp_path / "file")


@pytest.mark.parametrize("damage", ["UPDATE mark SET counter = counter - 1", "DELETE FROM mark"])
async def test_without_its_mark_a_node_must_return_as_a_new_one(tmp_path: Path, damage: str) -> None:
    path = await _used(tmp_path)
    _change(path, damage)
    with pytest.raises(StoreDamaged, match="mark of promised ballots"):
        await Store.open(tmp_path)
