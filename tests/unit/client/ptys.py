"""A command on a real pseudo-terminal, whose screen can be looked at."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import struct
import sys
import termios
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pyte
from tests.unit.client.conftest import environment


class Terminal:
    """The screen side of a pseudo-terminal: what was written there, drawn by an emulator with a history."""

    def __init__(self, master: int, slave: int, columns: int, lines: int) -> None:
        self.process: asyncio.subprocess.Process | None = None
        self.raw = b""
        self._master = master
        self._slave = slave
        self.screen = pyte.HistoryScreen(columns, lines, history=5000, ratio=1.0)
        self._stream = pyte.ByteStream(self.screen)
        self._changed = asyncio.Event()
        self.modes = termios.tcgetattr(slave)
        asyncio.get_running_loop().add_reader(master, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._master, 65536)
        except OSError:
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._master)
        self.raw += data
        self._stream.feed(data)
        self._changed.set()

    @property
    def text(self) -> str:
        """All lines, those that have scrolled away first."""
        columns = self.screen.columns
        above = ["".join(line[x].data for x in range(columns)) for line in self.screen.history.top]
        return "\n".join(line.rstrip() for line in [*above, *self.screen.display]).rstrip()

    async def type(self, text: str) -> None:
        """Type, as fast as the terminal takes it."""
        data = text.encode()
        while data:
            done = await asyncio.get_running_loop().run_in_executor(None, os.write, self._master, data[:1024])
            data = data[done:]

    async def paste(self, text: str) -> None:
        await self.type(f"\x1b[200~{text}\x1b[201~")

    async def until(self, condition: Callable[[str], bool], seconds: float = 20) -> str:
        """Wait until the screen looks so; return its text."""
        try:
            async with asyncio.timeout(seconds):
                while not condition(self.text):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"it never looked so:\n{self.text}") from None
        return self.text

    async def end(self) -> int:
        """Wait for the process, and for what it has written last."""
        assert self.process is not None
        code = await asyncio.wait_for(self.process.wait(), 30)
        await asyncio.sleep(0)
        with contextlib.suppress(OSError):
            os.set_blocking(self._master, False)
            while data := os.read(self._master, 65536):
                self.raw += data
                self._stream.feed(data)
        return code

    def restored(self) -> bool:
        """Say whether the terminal's modes are as they were, and pastes are no longer bracketed."""
        bracketed = self.raw.rfind(b"\x1b[?2004h") > self.raw.rfind(b"\x1b[?2004l")
        return termios.tcgetattr(self._slave) == self.modes and not bracketed and not self.screen.cursor.hidden


@contextlib.asynccontextmanager
async def on_terminal(
    home: Path, url: str, *arguments: str, columns: int = 80, lines: int = 24, **env: str
) -> AsyncIterator[Terminal]:
    """Run the `coterie` command on a terminal of its own."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    terminal = Terminal(master, slave, columns, lines)

    def take_terminal() -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    terminal.process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "coterie_client",
        *arguments,
        env=environment(home, url, **{"TERM": "xterm-256color", "TZ": "UTC", **env}),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        preexec_fn=take_terminal,
    )
    try:
        yield terminal
    finally:
        if terminal.process.returncode is None:
            terminal.process.kill()
        await terminal.process.wait()
        asyncio.get_running_loop().remove_reader(master)
        os.close(master)
        os.close(slave)
