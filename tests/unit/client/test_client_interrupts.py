"""Ctrl-C from the first instruction to the last: the command ends with 130, or was done, and says nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.client.conftest import PASSWORD, Enter, environment
from tests.unit.client.gateway import Server
from tests.unit.client.ptys import on_terminal

BEGIN = """
import os, sys
from coterie_client.entry import main
os.write(int(sys.argv.pop(1)), b".")
sys.exit(main())
"""
"""What the installed script does, and tells when its first instruction is done: before it the interpreter starts."""
OFFSETS = [0, 1, 2, 4, 8, 14, 25, 40, 60, 90, 130, 180, 250, 400]
"""Milliseconds."""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["whoami", "--json"],
        ["history", "bob"],
        ["send", "bob", "hello"],
        ["receive", "--follow"],
        ["chat", "bob"],
        ["login", "alice"],
        ["ring", "--admin", "http://127.0.0.1:1"],
    ],
    ids=lambda arguments: arguments[0],
)
async def test_ctrl_c_at_any_moment(arguments: list[str], enter: Enter, server: Server, tmp_path: Path) -> None:
    await enter("alice")
    await enter("bob")
    codes = set()
    for offset in OFFSETS:
        ready, tell = os.pipe()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", BEGIN, str(tell), *arguments,
            env=environment(tmp_path / "alice", server.url, COTERIE_PASSWORD=PASSWORD),
            pass_fds=[tell], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        os.close(tell)
        assert await asyncio.to_thread(os.read, ready, 1) == b"."
        os.close(ready)
        await asyncio.sleep(offset / 1000)
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        try:
            _, err = await asyncio.wait_for(process.communicate(), 20)
        finally:
            if process.returncode is None:
                process.kill()
        assert process.returncode in (0, 1, 5, 130), (offset, err)
        said = [line for line in err.splitlines() if b"is new to you" not in line]
        one_line = len(said) == 1 and said[0].startswith(b"coterie: ")
        assert not said or (process.returncode in (0, 1, 5) and one_line), (offset, err.decode())
        assert b"fault" not in err
        codes.add(process.returncode)
    assert 130 in codes


async def test_ctrl_c_at_the_password_gives_the_echo_back(enter: Enter, server: Server, tmp_path: Path) -> None:
    await enter("alice")
    async with on_terminal(tmp_path / "alice", server.url, "login", "alice") as terminal:
        await terminal.until(lambda screen: screen.endswith("Password:"))
        await terminal.type("secr\x03")
        assert await terminal.end() == 130
        assert terminal.restored()
        assert "secr" not in terminal.text
        assert "Traceback" not in terminal.text


async def test_ctrl_c_while_nobody_reads_ends_the_command(enter: Enter, server: Server, tmp_path: Path) -> None:
    """A pipe that is full keeps nobody from being interrupted."""
    await enter("alice")
    read, write = os.pipe()
    os.set_blocking(write, False)
    while True:
        try:
            os.write(write, b"x" * 65536)
        except BlockingIOError:
            break
    os.set_blocking(write, True)
    ready, tell = os.pipe()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", BEGIN, str(tell), "whoami",
        env=environment(tmp_path / "alice", server.url), pass_fds=[tell], stdout=write, stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(tell)
    assert await asyncio.to_thread(os.read, ready, 1) == b"."
    await asyncio.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, err = await asyncio.wait_for(process.communicate(), 10)
    assert (process.returncode, err) == (130, b"")
    for descriptor in (read, write, ready):
        os.close(descriptor)
