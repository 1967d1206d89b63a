"""What others say reaches the terminal through the cleaner, in every command, and nothing can go past it."""

from __future__ import annotations

import ast
import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import msgspec
import pytest
from tests.unit.client.conftest import PASSWORD, Coterie, Enter
from tests.unit.client.gateway import Account, Gateway, Refusal, Server, World, now
from tests.unit.client.ptys import on_terminal
from tests.unit.client.test_client_arguments import is_clean
from tests.unit.local.test_local_show import member, ring

import coterie_client
from coterie_client import client
from coterie_client.envelope import Content, seal
from coterie_client.settings import Settings
from coterie_protocol.client_api import LoginParams, Lookup, MailItem, PresenceQuery, Request, Send
from coterie_protocol.errors import ErrorCode

EVIL = "x\n2026-01-01 00:00 bob: forged\x1b[2J\x9b1A\u202e\u200b\x7f\r\u2028"
TEXT = EVIL + "\x85\U000e0041\u3164\t."
SOURCE = Path(coterie_client.__file__).parent
MAY_WRITE = {"streams.py", "editor.py"}
"""Modules that write to the standard streams: the screens, and the editor, which draws with a library."""


def forged(out: str) -> bool:
    return any(line.startswith("2026-01-01 00:00 bob: forged") for line in out.splitlines())


def assert_clean(*texts: str) -> None:
    for text in texts:
        assert is_clean(text), text
        assert not forged(text), text


def test_only_the_screens_write_and_only_the_cleaner_makes_what_they_take() -> None:
    for path in SOURCE.rglob("*.py"):
        if path.name == "terminal.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            where = f"{path.relative_to(SOURCE)}:{node.lineno} {ast.unparse(node)}"
            if called in ("Shown", "terminal.Shown", "cast"):
                inner = node.args[-1]
                cleaned = path.name == "streams.py" and "terminal.line" in ast.unparse(inner)
                assert isinstance(inner, ast.Constant | ast.Name) or cleaned or called == "cast", where
                assert not isinstance(inner, ast.Name) or inner.id in ("PROMPT", "text", "Screen"), where
            if path.name not in MAY_WRITE:
                assert called not in ("print", "sys.stdout.write", "sys.__stdout__.write"), where
                assert not called.startswith(("sys.stdout.buffer", "sys.stderr.buffer")), where


@pytest.fixture
async def evil(world: World, enter: Enter) -> World:
    """Make a ring in which every sender, text, name and error sentence is hostile."""
    await enter("alice")
    await enter("bob")
    mailbox = world.accounts["alice"].mailbox
    for number, sender in enumerate(("bob", EVIL, "bob")):
        body = seal(Content(1, number + 1, b"", 0, TEXT, "alice"))
        mailbox[sender, bytes([number] * 16)] = MailItem(sender, bytes([number] * 16), 0, 0, body, b"", 1, now())
    world.accounts[EVIL] = Account(EVIL, "", world.accounts["bob"].kdf)
    return world


def complaining(gateway: Gateway, request: Request) -> None:
    if isinstance(request, Send | Lookup | PresenceQuery | LoginParams):
        raise Refusal(ErrorCode.REFUSED if isinstance(request, LoginParams) else ErrorCode.INTERNAL, EVIL)


async def test_what_comes_and_what_is_remembered(evil: World, coterie: Coterie, tmp_path: Path) -> None:
    assert (await coterie("contacts", "add", "bob", "--alias", EVIL)).code == 2
    with contextlib.closing(client.Account.open(Settings(tmp_path / "alice", ()))) as account:
        account.contacts.add("bob", EVIL, 1)  # as a release before could
    ran = await coterie("receive")
    assert ran.code == 0
    assert_clean(ran.out, ran.err)
    assert ran.out.count("forged") >= 3
    for command in (["history", "bob"], ["contacts"], ["whoami"]):
        ran = await coterie(*command)
        assert ran.code == 0, ran.err
        assert "forged" in ran.out or command == ["whoami"]
        assert_clean(ran.out, ran.err)


async def test_json_is_exact_and_clean(evil: World, coterie: Coterie) -> None:
    for command in (["receive", "--json"], ["history", "bob", "--json"]):
        ran = await coterie(*command)
        assert ran.code == 0
        assert_clean(ran.out, ran.err)
        assert {json.loads(line)["text"] for line in ran.out.splitlines()} == {TEXT}


async def test_errors_of_servers(evil: World, coterie: Coterie) -> None:
    evil.faults = complaining
    for command in (["send", "bob", "x"], ["chat", "bob"], ["presence", "bob"], ["login", "bob"]):
        ran = await coterie(*command, COTERIE_PASSWORD=PASSWORD)
        assert ran.code not in (0, 2), command
        assert ran.err.count("\n") == (2 if command[0] == "send" else 1)  # bob is new, and told of
        assert_clean(ran.out, ran.err)


async def test_chat_through_pipes(evil: World, coterie: Coterie) -> None:
    ran = await coterie("chat", "bob", stdin=TEXT.encode() + b"\n")
    assert ran.code == 0
    assert_clean(ran.out, ran.err)


async def test_chat_on_a_terminal(evil: World, server: Server, tmp_path: Path) -> None:
    async with on_terminal(tmp_path / "alice", server.url, "chat", "bob") as terminal:
        await terminal.until(lambda screen: "forged" in screen and screen.endswith("\n>"))
        await terminal.paste("x\x9b2J\u202e\x85y")
        await terminal.type("\r")
        await terminal.until(lambda screen: "you ✓: x<U+009B>2J<U+202E><U+0085>y" in screen)
        await terminal.type("\x04")
        assert await terminal.end() == 0
        assert not forged(terminal.text)
        raw = terminal.raw.decode()
        assert not set(raw) & {"\x9b", "\x85", "\u200b", "\u2028", "\u3164", "\x7f"}
        assert "\x1b[2J" not in raw


@pytest.fixture
def admin_port() -> Iterator[str]:
    report = ring(member(EVIL, 0, EVIL))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = msgspec.json.encode(report)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_address[1]}"
        http.shutdown()
        thread.join()


async def test_the_ring(admin_port: str, coterie: Coterie) -> None:
    for more in ([], ["--json"]):
        ran = await coterie("ring", "--admin", admin_port, *more)
        assert_clean(ran.out, ran.err)
        assert ran.code == 0
        assert "forged" in ran.out
