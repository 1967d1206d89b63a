"""`coterie-node check`: what it finds in a store that no node is using, and what `--repair` may touch."""

from __future__ import annotations

import base64
import errno
import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.store.making import make_record

from coterie_node.bootstrap import identity
from coterie_node.bootstrap.identity import Membership
from coterie_node.cli.check import DAMAGED, USAGE, WHOLE
from coterie_node.cli.main import main
from coterie_node.runtime.ports import FIRST, NO_LIMIT_MS
from coterie_node.store.store import DATABASE_NAME, Store
from coterie_protocol.identifiers import Uid
from coterie_protocol.records import Record
from coterie_protocol.registers import AccountBallot, AccountRegister, Ballot, Config, SlotRegister

ME = Uid("c0" * 16)
OTHER = Uid("0d" * 16)
RING = Membership("5a" * 16, 3, 8, founded=True)
BALLOT = Ballot(40, "p")
ACCOUNT = AccountRegister(AccountBallot(3, 50, "p"), AccountBallot(3, 50, "p"), b"value")
COUNT = 400
BODY = b"x" * 500

Check = Callable[..., tuple[int, Any]]


@pytest.fixture
async def directory(tmp_path: Path) -> Path:
    """A node's data directory with a little of everything."""
    data = tmp_path / "n1"
    store = await Store.open(data)

    def fill(tx: Any) -> None:
        identity.load(tx, lambda: ME)
        identity.put_membership(tx, RING)
        identity.put_position(tx, 2)
        tx.put_meta("alive", b"1700000000000")
        for slot, members in ((3, (ME, OTHER)), (4, (OTHER, ME)), (5, (OTHER,))):
            tx.put_slot_register(slot, SlotRegister(BALLOT, BALLOT, Config(3, BALLOT, (), members)))
        tx.put_account(3, "alice", ACCOUNT)
        tx.merge(records())

    await store.transact(fill)
    await store.close()
    return data


def records() -> list[Record]:
    return [make_record(id=number.to_bytes(16, "big"), body=BODY, slot=3 + number % 3) for number in range(COUNT)]


@pytest.fixture
def check(directory: Path, capsys: pytest.CaptureFixture[str]) -> Check:
    def run(*flags: str) -> tuple[int, Any]:
        capsys.readouterr()
        code = main(["check", "--data-dir", str(directory), "--json", *flags])
        out = capsys.readouterr().out
        return code, json.loads(out) if out else None

    return run


def change(directory: Path, sql: str) -> int:
    connection = sqlite3.connect(directory / DATABASE_NAME)
    with connection:
        count = connection.execute(sql).rowcount
    connection.close()
    return count


def findings(said: Any) -> list[tuple[str, str]]:
    return [(one["severity"], one["what"]) for one in said["findings"]]


def content(file: str) -> bytes:
    return Path(file).read_bytes()


def taken_out(directory: Path) -> list[Path]:
    return list(directory.glob("*taken-out*"))


async def held(directory: Path) -> list[Record]:
    def read(tx: Any) -> list[Record]:
        slots = [tx.versions(slot, None, FIRST, COUNT, NO_LIMIT_MS) for slot in range(3, 6)]
        return [tx.record(version.key) for versions in slots for version in versions]

    store = await Store.open(directory)
    try:
        return await store.read(read)
    finally:
        await store.close()


def test_a_whole_store_is_counted_by_role(check: Check, directory: Path) -> None:
    before = (directory / DATABASE_NAME).read_bytes()
    code, said = check()
    assert code == WHOLE
    assert said["whole"]
    assert (said["uid"], said["ring_uid"], said["position"]) == (ME, RING.ring_uid, "2")
    assert said["mark"] >= said["highest_promise"] == 50
    assert said["roles"] == {
        "users": {"slots": 1, "accounts": 1, "records": 134},
        "backups": {"slots": 1, "accounts": 0, "records": 133},
        "held": {"slots": 1, "accounts": 0, "records": 133},
    }
    assert said["slots"]["3"] == {"role": "users", "accounts": 1, "records": 134}
    assert (directory / DATABASE_NAME).read_bytes() == before


def test_it_says_it_in_lines_too(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(directory, "UPDATE records SET body = zeroblob(3) WHERE seq = 7")
    assert main(["check", "--data-dir", str(directory)]) == DAMAGED
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "configurations: 3"
    assert lines[-2].startswith("repairable: record ")
    assert lines[-2].endswith("--repair takes it out, and the running node fetches it from the other members")
    assert lines[-1] == "damaged: 1 finding"


async def test_damaged_records_are_taken_out_and_kept(check: Check, directory: Path) -> None:
    assert change(directory, "UPDATE records SET body = CAST('precious' AS BLOB) WHERE seq IN (7, 8, 9)") == 3
    code, said = check()
    assert code == DAMAGED
    assert [severity for severity, _ in findings(said)] == ["repairable"] * 3
    assert said["kept"] is None
    code, said = check("--repair")
    assert code == WHOLE
    kept = [json.loads(line) for line in content(said["kept"]).splitlines()]
    assert [row["seq"] for row in kept] == [7, 8, 9]
    assert base64.b64decode(kept[0]["body"]["base64"]) == b"precious"
    assert len(await held(directory)) == COUNT - 3
    assert check("--repair")[0] == WHOLE
    assert len(taken_out(directory)) == 1


def test_nothing_is_taken_out_that_cannot_be_kept(
    check: Check, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(directory, "UPDATE records SET body = zeroblob(3) WHERE seq = 7")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        code, said = check("--repair")
    assert code == DAMAGED
    assert "nothing was changed" in said["refused"]
    assert not taken_out(directory)
    assert findings(check()[1]) == findings(said)


@pytest.mark.parametrize(
    ("sql", "what"),
    [
        ("UPDATE slot_registers SET register = x'c0' WHERE slot = 3", "the configuration of slot 3"),
        ("UPDATE accounts SET register = register || x'00'", "the account 'alice' of slot 3"),
        ("UPDATE accounts SET row_check = 5", "the account 'alice' of slot 3"),
    ],
)
def test_a_damaged_register_is_left_to_the_running_node(check: Check, directory: Path, sql: str, what: str) -> None:
    change(directory, sql)
    before = (directory / DATABASE_NAME).read_bytes()
    code, said = check("--repair")
    assert code == DAMAGED
    assert findings(said) == [("heals", f"{what} fails its checksum")]
    assert "start the node" in said["findings"][0]["remedy"]
    assert (said["heals"], said["left"], said["repaired"]) == (1, 0, [])
    assert (directory / DATABASE_NAME).read_bytes() == before


async def test_indexes_and_counts_are_made_anew(check: Check, directory: Path) -> None:
    connection = sqlite3.connect(directory / DATABASE_NAME)
    connection.execute("PRAGMA writable_schema = ON")
    # Without its index a row is deleted from the table only: the index keeps an entry of nothing.
    index = connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'records_by_key'").fetchone()[0]
    with connection:
        connection.execute("UPDATE accounts SET has_value = 0")
    root = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'records_by_key'").fetchone()[0]
    with connection:
        connection.execute("DELETE FROM sqlite_schema WHERE name = 'records_by_key'")
    connection.close()
    change(directory, "DELETE FROM records WHERE seq = 11")
    connection = sqlite3.connect(directory / DATABASE_NAME)
    connection.execute("PRAGMA writable_schema = ON")
    with connection:
        connection.execute(
            "INSERT INTO sqlite_schema VALUES ('index', 'records_by_key', 'records', ?, ?)", (root, index)
        )
    connection.close()
    code, said = check()
    assert code == DAMAGED
    assert {severity for severity, _ in findings(said)} == {"repairable"}
    assert ("repairable", "1 account is counted wrongly") in findings(said)
    code, said = check("--repair")
    assert code == WHOLE
    assert said["repaired"] == ["built the indexes anew", "counted 1 account anew"]
    assert len(await held(directory)) == COUNT - 1


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM mark",
        "UPDATE mark SET counter = 7",
        "UPDATE mark SET counter = 'x'",
        "DELETE FROM meta WHERE key = 'uid'",
    ],
)
async def test_who_lost_its_promises_returns_as_a_new_node_with_its_messages(
    check: Check, directory: Path, sql: str
) -> None:
    change(directory, sql)
    before = (directory / DATABASE_NAME).read_bytes()
    code, said = check()
    assert code == DAMAGED
    assert findings(said)[0][0] == "fatal"
    code, said = check("--repair")
    assert code == WHOLE
    assert content(said["kept"]) == before
    assert sorted(await held(directory), key=repr) == sorted(records(), key=repr)
    store = await Store.open(directory)
    assert await store.read(lambda tx: tx.meta("alive")) == b"1700000000000"
    found = await store.transact(lambda tx: identity.load(tx, lambda: OTHER))
    assert found == identity.Identity(OTHER, Membership(RING.ring_uid, 3, 8, founded=False), -1)
    assert await store.read(lambda tx: (list(tx.slot_registers()), tx.slots_with_accounts())) == ([], {})
    await store.close()


async def test_what_can_be_read_of_a_malformed_database_is_saved(check: Check, directory: Path) -> None:
    file = directory / DATABASE_NAME
    page = 4096
    connection = sqlite3.connect(file)
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.close()
    data = bytearray(file.read_bytes())
    lost = [
        number for number in range(pages) if data[number * page] == 13 and BODY[:200] in data[number * page :][:page]
    ]
    for number in (lost[3], lost[len(lost) // 2]):  # Two leaves of the table of records.
        data[number * page : number * page + page] = os.urandom(page)
    file.write_bytes(data)
    code, said = check()
    assert code == DAMAGED
    assert any(severity == "fatal" for severity, _ in findings(said))
    code, said = check("--repair")
    assert code == WHOLE
    assert content(said["kept"]) == bytes(data)
    assert COUNT - 20 <= len(await held(directory)) < COUNT


def test_no_database_at_all_is_moved_aside(check: Check, directory: Path) -> None:
    (directory / DATABASE_NAME).write_bytes(b"\0" * 8192)
    code, said = check()
    assert code in (DAMAGED, USAGE)
    (directory / DATABASE_NAME).write_bytes(os.urandom(8192))
    code, said = check()
    assert (code, findings(said)[0][0]) == (DAMAGED, "fatal")
    code, said = check("--repair")
    assert (code, said["repaired"]) == (WHOLE, ["saved 0 messages into a new database"])


async def test_a_running_node_is_left_alone(check: Check, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = await Store.open(directory)
    assert main(["check", "--data-dir", str(directory)]) == USAGE
    assert f"a node runs on {directory} (process {os.getpid()}); stop it first" in capsys.readouterr().err
    await store.close()
    assert check()[0] == WHOLE


def test_what_is_no_store_is_not_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--data-dir", str(tmp_path / "nowhere")]) == USAGE
    assert not (tmp_path / "nowhere").exists()
    assert "holds no store" in capsys.readouterr().err
    change(tmp_path, "CREATE TABLE something (else_ TEXT)")
    assert main(["check", "--data-dir", str(tmp_path)]) == USAGE
    assert "not a store of a Coterie node" in capsys.readouterr().err


def test_a_newer_releases_store_is_not_checked(check: Check, directory: Path) -> None:
    change(directory, "PRAGMA user_version = 99")
    assert check("--repair") == (USAGE, None)
