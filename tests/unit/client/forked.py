"""The `coterie` command in a process of its own, forked from one that has imported everything: 20 ms instead of 500."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        "aiohttp",
        "cryptography.hazmat.primitives.kdf.argon2",
        "cryptography.hazmat.primitives.kdf.hkdf",
        "precis_i18n",
        "coterie_client.cli",
        "coterie_client.client",
        "coterie_client.commands.account",
        "coterie_client.commands.history",
        "coterie_client.commands.presence",
        "coterie_client.commands.receive",
        "coterie_client.commands.send",
        "coterie_client.session",
        "tests.unit.client.forked",
    ]
)


@dataclass
class Ran:
    """What a command has come to."""

    code: int
    out: str
    err: str


async def coterie(*arguments: str, where: Path, env: Mapping[str, str], stdin: bytes = b"") -> Ran:
    """Run the command in the directory `where`, with nothing of this process's settings but `env`."""
    files = [where / f".{name}" for name in ("stdin", "stdout", "stderr", "code")]
    files[0].write_bytes(stdin)
    process = _FORKS.Process(target=_run, args=(arguments, str(where), dict(env), [str(file) for file in files]))
    try:
        await asyncio.to_thread(process.start)
        await asyncio.to_thread(process.join)
        # Not `exitcode`: processes that are started meanwhile poll this one, and whoever polls second is told 255.
        code = files[3].read_text() if files[3].exists() else "-1"
        return Ran(int(code), *(file.read_text() for file in files[1:3]))
    finally:
        if process.is_alive():
            process.kill()
            process.join()
        process.close()
        for file in files:
            file.unlink(missing_ok=True)


def _run(arguments: tuple[str, ...], where: str, env: dict[str, str], files: list[str]) -> None:
    for descriptor, (path, flags) in enumerate(
        zip(files[:3], (os.O_RDONLY, os.O_WRONLY | os.O_CREAT, os.O_WRONLY | os.O_CREAT), strict=True)
    ):
        os.dup2(os.open(path, flags, 0o600), descriptor)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - multiprocessing had closed it
    os.chdir(where)
    for name in [name for name in os.environ if name.startswith("COTERIE_")]:
        del os.environ[name]
    os.environ.update(env)
    from coterie_client.cli import main

    code = main(arguments)
    Path(files[3]).write_text(str(code))
