"""A stage as a process of its own, as people start it: it must not share a CPU's turn with the test."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator

READY = 30.0


class Stage:
    """A running stage, and the words that it obeys."""

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self._process = process
        self.url = url

    def say(self, line: str) -> None:
        """Have it do something, as `kill main-3`."""
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")


@contextlib.asynccontextmanager
async def stage(nodes: int, *arguments: str) -> AsyncIterator[Stage]:
    """Start a stage with so many nodes; it is ended afterwards."""
    command = [sys.executable, "-m", "tests.browser.stage", "--nodes", str(nodes), *arguments]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(READY):
            url = (await process.stdout.readline()).decode().strip()
        assert url, f"the stage has ended with {await process.wait()}"
        yield Stage(process, url)
        assert not process.returncode, f"the stage has ended with {process.returncode}"
    finally:
        if process.returncode is None:
            process.kill()  # It has nothing to lose, and three hundred nodes take a while to end in good order.
        await process.wait()
        process._transport.close()  # type: ignore[attr-defined]  # else its pipes are closed by chance, with a warning
