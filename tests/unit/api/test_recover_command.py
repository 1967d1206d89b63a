"""`coterie-node recover` as a command: whom it asks, what it refuses, and how it writes what it hears."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import msgspec
import pytest
from aiohttp.test_utils import TestServer
from tests.unit.api.town import Place

from coterie_node.api.admin import admin_app
from coterie_node.cli import recover
from coterie_node.cli.main import main
from coterie_node.store.directory import ADMIN_NAME
from coterie_protocol.admin import RecoveredSlot, RecoveryReport

TOKEN = "s3cret"


@pytest.fixture
def token(tmp_path: Path) -> str:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    return str(file)


async def command(*arguments: str) -> int:
    return await asyncio.to_thread(main, ["recover", *arguments])


async def test_it_needs_a_node_and_a_token(
    token: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COTERIE_NODE_DATA_DIR", raising=False)
    for arguments, what in (
        (("--admin-token-file", token), "--admin or --data-dir is missing"),
        (("--admin-token-file", token, "--data-dir", str(tmp_path)), "no node has left its admin address"),
        (
            ("--admin-token-file", token, "--admin", "localhost:7402"),
            "--admin: 'localhost:7402' is not an admin port's address",
        ),
        (("--admin-token-file", token, "--admin", "http://.example:1"), "a part of its name is empty"),
        (("--admin-token-file", token, "--admin", "file:///etc/passwd"), "it does not begin with http:// or https://"),
        (("--admin-token-file", token, "--admin", ""), "--admin: '' is not an admin port's address"),
        (("--admin", "http://127.0.0.1:1"), "--admin-token-file is missing"),
        (
            ("--admin", "http://127.0.0.1:1", "--admin-token-file", str(tmp_path / "none")),
            "cannot read the admin token",
        ),
    ):
        assert await command(*arguments) == recover.USAGE
        assert what in capsys.readouterr().err
    assert await command("--admin", "http://127.0.0.1:1", "--admin-token-file", token) == recover.FAILED
    assert "no node answers at http://127.0.0.1:1" in capsys.readouterr().err


async def test_it_shows_asks_and_does(
    town: list[Place],
    token: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with TestServer(admin_app(town[0].view, TOKEN)) as server:
        (tmp_path / ADMIN_NAME).write_text(f"http://127.0.0.1:{server.port}\n")
        where = ("--data-dir", str(tmp_path), "--admin-token-file", token)
        assert await command(*where) == recover.DONE
        assert "nothing to recover" in capsys.readouterr().out
        town[1].up = town[2].up = False
        assert await command(*where) == recover.USAGE
        shown = capsys.readouterr()
        assert "lost: node-1 (00000000), node-2 (00000000)" in shown.out
        assert "nothing was changed" in shown.err
        monkeypatch.setattr("sys.stdin", io.StringIO("no\n"))
        assert await command(*where, "--accept-loss") == recover.USAGE
        assert "not confirmed" in capsys.readouterr().err
        assert all(place.table.known(slot) is not None for place in town for slot in range(8))
        assert max(known.config.generation for slot in range(8) if (known := town[0].table.own(slot))) == 0
        assert await command(*where, "--accept-loss", "--yes", "--json") == recover.DONE
        # (The node logs to the same place here.)
        report = msgspec.json.decode(capsys.readouterr().out.splitlines()[-1], type=RecoveryReport)
        assert {one.state for one in report.slots} == {"recovered"}
        assert await command(*where, "--accept-loss", "--yes") == recover.DONE
        assert "nothing to recover" in capsys.readouterr().out
        wrong = tmp_path / "wrong"
        wrong.write_text("wrong")
        assert await command("--data-dir", str(tmp_path), "--admin-token-file", str(wrong)) == recover.FAILED
        assert "refuses: send the admin token" in capsys.readouterr().err


def test_slots_are_told_in_ranges_unless_there_is_something_to_tell() -> None:
    def slot(number: int, **changes: object) -> RecoveredSlot:
        plain = RecoveredSlot(number, "recovered", 3, ["aa", "bb", "cc"], ["bb", "cc"], "aa", 0, 0, "all", [], "")
        return msgspec.structs.replace(plain, **changes)

    slots = [slot(1), slot(2), slot(3), slot(5), slot(7, accounts=2, given_up=["eve"])]
    slots += [slot(8, keeper="dd"), slot(9, state="failed", error="disk full")]
    lines = recover._text(RecoveryReport("ring", True, {"aa": "node-1"}, slots)).splitlines()
    assert lines[:5] == [
        "slot 7: kept at node-1 (aa): 2 accounts, 0 records; given up, damaged: eve",
        "slot 8: kept at dd: 0 accounts, 0 records; lost: all",
        "slot 9: failed: disk full",
        "slots 1-3, 5: kept at node-1 (aa): empty there",
        "may be lost of all these: what only the lost had confirmed, changes of accounts and messages",
    ]
    assert lines[-1] == "kept: 2 accounts and 0 mailbox records of 6 slots"
    one = recover._text(RecoveryReport("ring", False, {}, [slot(7, accounts=1, records=1)])).splitlines()
    assert one[0] == "slot 7: kept at aa: 1 account, 1 record"
    assert one[-3] == "ring ring: 1 slot without a majority"
    assert one[-1] == "would be kept: 1 account and 1 mailbox record of 1 slot"


@pytest.mark.parametrize(
    ("there", "said"),
    [
        (1, "only 1 node is there, for 3 copies of everything: these slots serve nobody until 1 more node has joined"),
        (2, "only 2 nodes are there, for 3 copies of everything: these slots are served with 2 copies until another"),
        (3, "would be kept: "),
        (0, "would be kept: "),
    ],
)
def test_what_too_few_nodes_can_serve_is_said_before_it_is_asked(there: int, said: str) -> None:
    slots = [RecoveredSlot(1, "stuck", 3, ["aa", "bb", "cc"], ["bb", "cc"], "aa", 1, 1, "all", [], "")]
    assert recover._text(RecoveryReport("ring", False, {}, slots, there, 3)).splitlines()[-1].startswith(said)
