"""Handing messages over to whoever reads standard output, one after the other.

A pipe takes 64 KiB that nobody may ever read: after `coterie receive | head -1` the messages behind the first one would
count as shown. So a message counts as shown when the reader has taken it. The pipe is made as small as it can be for
that time: then it has room exactly when it is empty, which can be waited for. A reader that takes its time is not
waited for longer than PATIENCE altogether: what is written and has a reader counts as shown then.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import select
import stat
import struct
import sys
import termios
from collections.abc import Iterator, Sequence

from .output import screen, written
from .streams import write_whole
from .terminal import Shown

PATIENCE = 2.0
"""Seconds for which a reader may take its time over all that is handed over at once."""


class Handing:
    """Hands texts over to the reader of standard output; `count` of them have been, also when that was cancelled."""

    def __init__(self) -> None:
        self.count = 0
        self._rest = memoryview(b"")
        """What is still to be written of the text after those."""
        self._begun = False

    async def run(self, *items: Shown) -> None:
        """Hand over; raises OSError, BrokenPipeError if the reader has gone before the last was taken."""
        if (pipe := _pipe()) is not None:
            with _smallest(pipe) as small, contextlib.suppress(TimeoutError):
                if small:
                    async with asyncio.timeout(PATIENCE):
                        for item in items:
                            await self._hand_over(pipe, item.encode(errors="backslashreplace"))
            if self._begun:
                write_whole(pipe, self._rest)
                self.count += 1
        self._write(items[self.count :])

    async def _hand_over(self, pipe: int, data: bytes) -> None:
        await _emptied(pipe)
        self._rest, self._begun = memoryview(data), True
        while self._rest:
            with contextlib.suppress(BlockingIOError):  # somebody else writes there too
                self._rest = self._rest[os.write(pipe, self._rest[: select.PIPE_BUF]) :]
            await _emptied(pipe)
        self.count += 1
        self._begun = False

    def _write(self, items: Sequence[Shown]) -> None:
        count, lost = written(*items)
        self.count += count
        if lost is not None:
            raise lost


def _pipe() -> int | None:
    """Return the descriptor of standard output if it is a pipe."""
    try:
        descriptor = screen(sys.stdout).fileno()
    except (OSError, ValueError):
        return None
    return descriptor if stat.S_ISFIFO(os.fstat(descriptor).st_mode) and hasattr(fcntl, "F_SETPIPE_SZ") else None


@contextlib.contextmanager
def _smallest(pipe: int) -> Iterator[bool]:
    """Let a pipe hold as little as it can for the block; False if it cannot be changed, as one that holds more."""
    before = fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ)
    try:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, select.PIPE_BUF)
    except OSError:
        yield False
        return
    try:
        yield True
    finally:
        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, before)


async def _emptied(pipe: int) -> None:
    """Wait until the reader has taken everything; raises BrokenPipeError if it has gone without."""
    loop = asyncio.get_running_loop()
    poll = select.poll()
    poll.register(pipe, select.POLLOUT)
    while not (events := dict(poll.poll(0)).get(pipe, 0)):
        ready = asyncio.Event()
        loop.add_writer(pipe, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_writer(pipe)
    if events & select.POLLERR and _unread(pipe):
        raise BrokenPipeError


def _unread(pipe: int) -> int:
    (count,) = struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4))
    return int(count)
