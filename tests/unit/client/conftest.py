from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.unit.client.gateway import Server, World, serving

from coterie_client.connection import Connection
from coterie_client.session import Session, login, register, save_session
from coterie_client.settings import Settings
from coterie_protocol.client_api import Kdf

WEAK = Kdf(memory=8, passes=1, lanes=1)
PASSWORD = "correct horse"


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def server(world: World) -> AsyncIterator[Server]:
    async with serving(world) as servers:
        yield servers[0]


Enter = Callable[..., Awaitable[Settings]]


@pytest.fixture
def enter(tmp_path: Path, server: Server) -> Enter:
    """Make an account (or a further session of it) with a home of its own; give back its settings."""

    async def enter(name: str, *, home: str = "", urls: tuple[str, ...] = (), again: bool = False) -> Settings:
        settings = Settings(tmp_path / (home or name), urls or (server.url,))
        settings.make_home()
        async with Connection(settings.servers) as connection:
            if again:
                session: Session = await login(connection, name, PASSWORD, minimum=WEAK)
            else:
                session = await register(connection, name, PASSWORD, parameters=WEAK)
        save_session(settings.session_file, session)
        return settings

    return enter


@pytest.fixture
async def alice(enter: Enter) -> Settings:
    return await enter("alice")


@pytest.fixture
async def bob(enter: Enter) -> Settings:
    return await enter("bob")


@dataclass
class Ran:
    code: int
    out: str
    err: str


def said(err: str | bytes) -> str:
    """Return what was said on standard error, but for who is new."""
    text = err.decode() if isinstance(err, bytes) else err
    return "".join(line for line in text.splitlines(keepends=True) if " is new to you" not in line)


Coterie = Callable[..., Coroutine[None, None, Ran]]


def environment(home: Path, url: str, **more: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("COTERIE_")}
    return {**kept, "COTERIE_HOME": str(home), "COTERIE_SERVERS": url, **more}


@pytest.fixture
def coterie(tmp_path: Path, server: Server) -> Coterie:
    """Run the command as its users do."""

    async def run(*arguments: str | bytes, home: str = "alice", stdin: bytes = b"", **env: str) -> Ran:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "coterie_client",
            *arguments,
            env=environment(tmp_path / home, server.url, **env),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate(stdin)
        return Ran(process.returncode or 0, out.decode(), err.decode())

    return run


@pytest.fixture
def quick(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Coterie:
    """Run the command as `coterie` does, but in this process: many of them cost little."""
    from coterie_client.cli import main

    async def run(*arguments: str, home: str = "alice", stdin: bytes = b"", **env: str) -> Ran:
        for key, value in environment(tmp_path / home, server.url, **env).items():
            monkeypatch.setenv(key, value)
        capsys.readouterr()
        code = await asyncio.to_thread(main, arguments)
        return Ran(code, *capsys.readouterr())

    return run
