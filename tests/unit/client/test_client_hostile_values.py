"""Values that harm whoever believes them: from a sender, from a server, in the database of an earlier release."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import msgspec
import pytest
from msgspec import inspect as mi
from tests.unit.client.conftest import Coterie
from tests.unit.client.gateway import World, now
from tests.values import outside

from coterie_client import times
from coterie_client.database import account_path
from coterie_client.envelope import Content, Problem, open_body, seal
from coterie_client.errors import ClientError
from coterie_client.session import Session, load_session
from coterie_client.settings import Settings
from coterie_protocol.client_api import MailItem
from coterie_protocol.identifiers import message_id

COUNTER_2_63 = bytes.fromhex("009601cf8000000000000000c40000a178a178")


def mid(number: int) -> bytes:
    return message_id(1, number.to_bytes(10, "big"))


def said(text: str, counter: int) -> bytes:
    return seal(Content(1, counter, b"", now(), text, "bob"))


def mail(number: int, body: bytes, stored_at: int | None = None) -> MailItem:
    return MailItem("mallory", mid(number), 0, 0, body, b"", 1, now() if stored_at is None else stored_at)


def made_in(directory: Path) -> list[Path]:
    return list(directory.rglob("*"))


# --- From a sender ------------------------------------------------------------------------------------------------


def test_every_field_of_a_body_out_of_bounds_makes_it_one_that_does_not_decode() -> None:
    for place, value in outside(mi.type_info(Content), "Content"):
        assert open_body(b"\0" + msgspec.msgpack.encode(value)) is Problem.DAMAGED, place
    assert open_body(COUNTER_2_63) is Problem.DAMAGED


async def test_a_counter_of_2_63_from_any_account_ends_no_recipient_s_client(
    world: World, coterie: Coterie, bob: Settings
) -> None:
    for number, body in enumerate((said("before", 1), COUNTER_2_63, said("after", 2))):
        world.put(world.accounts["bob"], mail(number, body))
    ran = await coterie("receive", "--json", home="bob")
    assert ran.code == 0
    assert sorted(str(json.loads(line)["text"]) for line in ran.out.splitlines()) == ["None", "after", "before"]
    assert not world.pending("bob"), "all of them are saved, and pending no more"
    assert (await coterie("receive", home="bob")).out == "", "shown once"
    kept = await coterie("history", "mallory", home="bob")
    assert kept.code == 0
    assert "does not decode" in kept.out


# --- From a server ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stored_at", [1 << 62, -1])
async def test_a_time_that_no_calendar_has_is_not_saved_and_history_goes_on(
    world: World, coterie: Coterie, bob: Settings, stored_at: int
) -> None:
    world.accounts["bob"].mailbox["mallory", mid(1)] = mail(1, said("a lie", 1), stored_at)
    ran = await coterie("receive", home="bob")
    assert (ran.code, ran.out) == (5, "")
    assert len(ran.err.splitlines()) == 1
    del world.accounts["bob"].mailbox["mallory", mid(1)]
    world.put(world.accounts["bob"], mail(2, said("the truth", 1)))
    assert "the truth" in (await coterie("receive", home="bob")).out
    assert "the truth" in (await coterie("history", "mallory", home="bob")).out


@pytest.mark.parametrize("uid", ["{outside}/deep", "../../../deep", "", "A" * 32, "a" * 31, "a" * 33, "a" * 32 + "\n"])
async def test_a_ring_uid_that_is_a_path_makes_no_directory(
    world: World, coterie: Coterie, tmp_path: Path, uid: str
) -> None:
    world.ring_uid = uid.format(outside=tmp_path / "somewhere")
    ran = await coterie("register", "alice", COTERIE_PASSWORD="correct horse")
    assert ran.code == 5
    assert len(ran.err.splitlines()) == 1
    assert [path for path in made_in(tmp_path) if path != tmp_path / "alice"] == []


# --- On this device -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("time", [1 << 62, (1 << 63) - 1, -(1 << 63), 253_402_300_800_000])
async def test_a_row_with_such_a_time_from_before_is_shown_without_one(
    world: World, coterie: Coterie, bob: Settings, time: int
) -> None:
    world.put(world.accounts["bob"], mail(1, said("from then", 1)))
    assert (await coterie("receive", home="bob")).code == 0
    with sqlite3.connect(account_path(bob.home, world.ring_uid, "bob")) as database:
        database.execute("UPDATE messages SET time = ?", (time,))
    ran = await coterie("history", "mallory", home="bob")
    assert (ran.code, ran.out, ran.err) == (0, "????-??-?? ??:?? mallory: from then\n", "")
    ran = await coterie("history", "mallory", "--json", home="bob")
    (found,) = map(json.loads, ran.out.splitlines())
    assert (found["time"], found["text"]) == (None, "from then")


@pytest.mark.parametrize("unix_ms", [1 << 62, -(1 << 63), 10**30, -(10**30), 253_402_300_800_000, -62_135_596_800_001])
def test_a_number_that_is_no_time_is_written_as_none(unix_ms: int) -> None:
    assert times.rfc3339(unix_ms) is None
    assert times.local(unix_ms, "%Y-%m-%d %H:%M") == "????-??-?? ??:??"


def test_times_are_written_as_they_are() -> None:
    assert times.rfc3339(1_700_000_000_123) == "2023-11-14T22:13:20.123Z"
    assert times.rfc3339(0) == "1970-01-01T00:00:00.000Z"


def test_every_field_of_a_session_file_out_of_bounds_is_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    file = tmp_path / "session.json"
    for _, value in outside(mi.type_info(Session), "Session"):
        file.write_bytes(msgspec.json.encode(value))
        with pytest.raises(ClientError, match="run: coterie login NAME"):
            load_session(file)
