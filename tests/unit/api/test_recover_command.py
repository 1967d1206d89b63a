"""`coterie-node recover` as a command: whom it asks, what it refuses, and how it writes what it hears."""

from __future__ import annotations

import asyncio
import contextlib
import io
import re
from collections.abc import AsyncIterator
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
from coterie_protocol.identifiers import Uid

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


@contextlib.asynccontextmanager
async def answering(answer: bytes, again: bytes = b"") -> AsyncIterator[tuple[str, list[bytes]]]:
    """Answer a request with some bytes, and with others again and again; yields the URL and what was asked."""
    asked: list[bytes] = []
    handlers: list[asyncio.Task[None] | None] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.append(asyncio.current_task())
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            asked.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(answer)
            while again:
                writer.write(again)
                await writer.drain()
                await asyncio.sleep(0 if len(again) > 100 else 0.01)
        writer.close()

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
    await asyncio.gather(*(one for one in handlers if one is not None))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_the_token_follows_no_redirect(token: str, capsys: pytest.CaptureFixture[str], status: int) -> None:
    async with answering(b"HTTP/1.1 200 x\r\nContent-Length: 0\r\n\r\n") as (there, asked):
        answer = b"HTTP/1.1 %d x\r\nLocation: %s/\r\nContent-Length: 0\r\n\r\n" % (status, there.encode())
        async with answering(answer) as (url, _):
            assert await command("--admin", url, "--admin-token-file", token) == recover.FAILED
    assert "sends elsewhere, where the token is not taken" in capsys.readouterr().err
    assert asked == []


@pytest.mark.parametrize(
    ("answer", "again", "said"),
    [
        (b"HTTP/1.1 200 x\r\n\r\n", bytes(1 << 16), "says more than 1 MiB"),
        (b"HTTP/1.1 200 x\r\n\r\n", b" ", "gave no whole answer within 0.5 s"),
        (b"HTTP/1.1 200 x\r\n", b"X-A: b\r\n", "no whole answer within 0.5 s|no node answers"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n", "gave no whole answer within 0.5 s"),
    ],
    ids=["a flood", "drops", "headers", "interim answers"],
)
async def test_an_answer_without_an_end_is_given_up(
    answer: bytes,
    again: bytes,
    said: str,
    token: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recover, "TIMEOUT", 0.5 if len(again) < 100 else 30.0)
    monkeypatch.setattr(recover, "MOST_BYTES", 1 << 20)
    async with answering(answer, again) as (url, _):
        assert await command("--admin", url, "--admin-token-file", token) == recover.FAILED
    assert re.search(said, capsys.readouterr().err)


async def test_what_a_node_says_moves_no_cursor(token: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Sentences and names come from elsewhere."""
    escape, lost = "\x1b[2J\r\n\u202e", Uid("a" * 32)
    slot = RecoveredSlot(1, "failed", 1, [lost], [lost], lost, 1, 0, escape, [escape], escape)
    report = msgspec.json.encode(RecoveryReport("c" * 32, False, {lost: escape}, [slot]))
    refusal = msgspec.json.encode({"code": "busy", "detail": escape})
    for status, body in ((409, refusal), (200, report)):
        head = b"HTTP/1.1 %d x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
        async with answering(head + body) as (url, _):
            await command("--admin", url, "--admin-token-file", token)
        said = capsys.readouterr()
        assert r"\x1b[" in said.out + said.err
        assert all(line.isprintable() for line in (said.out + said.err).splitlines())
