"""Every command with hostile arguments, environments and clocks: one clean line and an exit code, never a fault."""

from __future__ import annotations

import argparse
import asyncio
import os
import shlex
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.client.conftest import Coterie, Enter, environment, said
from tests.unit.client.gateway import Server

from coterie_client import terminal
from coterie_client.cli import build_parser, main

HOSTILE = [
    "",
    "-",
    "--",
    "-h",
    "\udcff",
    "\x1b[2J\x07\x9b1A",
    "a\nalice: b\r\n",
    "\u202ebob\u200b",
    "9" * 40,
    "-" + "9" * 40,
    "0",
    "-1",
    "nan",
    "inf",
    "1e999",
    "x" * 100_000,
    "é" * 5_000,
    "%s{}%n",
    "~nobody-there/x",
    "/dev/null/x",
    "..",
    "ws://[",
    "http://[::1:7402",
    "http://\x1b[2J",
    "ws://127.0.0.1:99999",
    "00" * 16,
    "٣",
]
CODES = {0, 1, 2, 3, 4, 5, 8, 9}
BASE = {"up": ["--nodes", "1", "--replication-factor", "9"]}
"""What keeps a command from doing more than reading its arguments."""
ORDINARY = {"name": "bob", "names": "bob", "text": "hi", "alias": "Bob"}


def leaves(
    parser: argparse.ArgumentParser, path: tuple[str, ...] = ()
) -> Iterator[tuple[list[str], argparse.ArgumentParser]]:
    """Walk the tree of commands."""
    yield list(path), parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield from leaves(below, (*path, name))


LEAVES = {" ".join(path): (path, parser) for path, parser in leaves(build_parser())}


def positionals(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [a for a in parser._actions if not a.option_strings and not isinstance(a, argparse._SubParsersAction)]


def attempts(path: list[str], parser: argparse.ArgumentParser) -> Iterator[list[str]]:
    """Put every hostile value into every place, the others being ordinary."""
    places = positionals(parser)
    ordinary = [ORDINARY[action.dest] for action in places]
    start = [*path, *BASE.get(path[0] if path else "", [])]
    for value in HOSTILE:
        yield [*start, *ordinary, value]
        for index in range(len(places)):
            yield [*start, *ordinary[:index], value, *ordinary[index + 1 :]]
        for action in parser._actions:
            if action.option_strings and action.nargs is None:
                yield [*start, *ordinary, action.option_strings[-1], value]
                yield [*start, *ordinary, f"{action.option_strings[-1]}={value}"]


def is_clean(text: str) -> bool:
    return all(
        part == terminal.line(part, len(part) + 1) and not any(unicodedata.category(c) == "Cc" for c in part)
        for part in text.replace("\t", "").split("\n")
    )


@pytest.mark.parametrize("leaf", LEAVES)
async def test_no_argument_ends_in_a_fault_or_reaches_the_terminal_raw(
    leaf: str,
    enter: Enter,
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = await enter("alice")
    await enter("bob")
    for key, value in environment(settings.home, server.url, COTERIE_PASSWORD="short", COTERIE_DEBUG="").items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    session = settings.session_file.read_bytes()
    with open(os.devnull) as nothing:  # noqa: ASYNC230
        monkeypatch.setattr(sys, "stdin", nothing)
        for arguments in attempts(*LEAVES[leaf]):
            if "--follow" in arguments or _waits(arguments):
                continue
            code = await asyncio.to_thread(main, arguments)
            out, err = capsys.readouterr()
            brief = [argument[:80] for argument in arguments]
            assert code in CODES, (brief, err[:500])
            assert "a fault in this program" not in err, (brief, err[:500])
            assert "Traceback" not in err, brief
            assert is_clean(out), (brief, out[:300])
            assert is_clean(err), (brief, err[:300])
            assert len(err.splitlines()) <= 3, (brief, err[:500])
            assert all(len(line) <= 2200 for line in err.splitlines()), brief
            if code == 0 and arguments[0:1] == ["send"] and "--help" not in arguments and arguments[1:2] != ["-h"]:
                assert "\n" in out, brief
            settings.session_file.write_bytes(session)


def _waits(arguments: list[str]) -> bool:
    """Say whether a command would wait for as long as it was told."""
    return any("--timeout" in a for a in arguments) and any(
        a.rstrip() in ("9" * 40, "٣") or "=٣" in a for a in arguments
    )


@pytest.mark.parametrize(
    "key", ["COTERIE_HOME", "COTERIE_SERVERS", "COTERIE_CA", "TERM", "LANG", "LC_ALL", "TZ", "COLUMNS"]
)
async def test_no_environment_ends_in_a_fault(key: str, enter: Enter, server: Server, tmp_path: Path) -> None:
    await enter("alice")
    values = [b"\xff\x1b[2J", b"x" * 100_000, b"C", b"-1", b"~nobody-there/x", b"tr_TR.ISO-8859-9", b""]
    for value in values:
        env = {key.encode(): value.encode() for key, value in environment(tmp_path / "alice", server.url).items()}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "coterie_client", "whoami",
            env={**env, key.encode(): value}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        assert process.returncode in (0, 2, 3), (value[:40], err)
        assert b"fault" not in err, (value[:40], err)
        assert is_clean(out.decode()), value[:40]
        assert is_clean(err.decode()), value[:40]


async def test_a_clock_before_1970_sends_and_receives(
    coterie: Coterie, enter: Enter, server: Server, tmp_path: Path
) -> None:
    await enter("alice")
    await enter("bob")
    early = tmp_path / "early"
    early.mkdir()
    (early / "sitecustomize.py").write_text(
        "import time\n_ns = time.time_ns\n"
        "time.time_ns = lambda: _ns() - 10**19\ntime.time = lambda: time.time_ns() / 1e9\n"
    )
    for arguments in (["send", "bob", "hello"], ["contacts", "add", "bob"], ["contacts", "--json"], ["history", "bob"]):
        ran = await coterie(*arguments, PYTHONPATH=str(early))
        assert (ran.code, said(ran.err)) == (0, ""), arguments
    ran = await coterie("receive", home="bob", PYTHONPATH=str(early))
    assert ran.code == 0
    assert ran.out.endswith("alice: hello\n")


async def test_a_text_is_sent_wherever_its_options_stand(coterie: Coterie, enter: Enter) -> None:
    await enter("alice")
    await enter("bob")
    for arguments in (
        ["send", "bob", "--json", "hi"],
        ["send", "--json", "bob", "hi"],
        ["send", "bob", "hi", "--json"],
        ["send", "bob", "--wait", "stored", "--json", "--", "hi"],
        ["send", "--wait=stored", "bob", "--json", "hi"],
    ):
        ran = await coterie(*arguments)
        assert (ran.code, said(ran.err)) == (0, ""), arguments
        assert '"text":"hi"' in ran.out
    for text in ("-h", "--json", "-5"):
        ran = await coterie("send", "bob", "--", text)
        assert ran.code == 0
        ran = await coterie("history", "bob", "--limit", "1")
        assert ran.out.endswith(f": {text}\n")


@pytest.mark.parametrize("text", ["-h", "--help", "-x", "--jsn"])
async def test_a_text_with_a_dash_is_never_taken_for_done(text: str, coterie: Coterie, enter: Enter) -> None:
    await enter("alice")
    for command in (["send", "bob"], ["contacts", "rename", "bob"]):
        ran = await coterie(*command, text)
        assert ran.code == 2
        assert ran.out == ""
        assert "goes after --" in ran.err
        assert ran.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("history bob --limit abc", "'abc' is not a whole number above 0"),
        ("send bob hi --timeout x", "'x' is not a number of seconds"),
        ("send bob a b c", "coterie send: 'b c' is one argument too many; a TEXT of several words goes in quotes"),
        ("receive bob", "coterie receive: 'bob' is one argument too many; see: coterie receive --help"),
        ("--home D whoami", "--home goes after the command"),
        ("whoami --jso", "there is no option --jso"),
        ("send bob hi --ide x", "there is no option --ide"),
        ("register 'Bad Name'", "a user name has no spaces"),
        ("send bo\u200bb hi", "a character that cannot be seen"),
        ("send x\u2603 hi", "letters and digits of any script"),
        ("contacts remove zed", "zed is not in your contacts; coterie contacts lists who is"),
    ],
)
async def test_wrong_usage_is_told_what_is_right(arguments: str, said: str, quick: Coterie, enter: Enter) -> None:
    await enter("alice")
    ran = await quick(*shlex.split(arguments))
    assert (ran.code, ran.err.count("\n")) == (1 if "zed" in arguments else 2, 1)
    assert said in ran.err
    assert ("goes after --" in ran.err) == ("no option" in said), ran.err


async def test_options_of_contacts_stand_on_either_side_of_what_is_done(quick: Coterie, enter: Enter) -> None:
    home = str((await enter("alice")).home)
    for arguments in (
        ("contacts", "add", "bob", "--home", home),
        ("contacts", "--home", home, "rename", "bob", "Bob"),
        ("contacts", "rename", "bob", "--json", "--home", home, "Robert"),
    ):
        ran = await quick(*arguments, home="nowhere")
        assert (ran.code, ran.err) == (0, ""), arguments
    assert (await quick("contacts")).out == "bob  Robert\n"
