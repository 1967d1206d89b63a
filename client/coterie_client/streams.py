"""Standard output and error: written whole, or known not to be.

What is printed here counts as shown, and what is shown is never shown again. So a write goes to the descriptor itself,
in a loop: Python's own streams lose the rest, silently, when a pipe or a disk takes a part (with PYTHONUNBUFFERED), or
keep it in a buffer that fails after the message was marked as shown.

Nothing else writes to these descriptors: `guard` puts screens in place of sys.stdout and sys.stderr, through which
what Python itself has to say (argparse, warnings, a traceback) passes the cleaner too.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TextIO

from . import interrupts, terminal
from .terminal import Shown

PIECE = select.PIPE_BUF
"""Bytes that a pipe takes at once without blocking when it is ready: nothing here blocks longer than until Ctrl-C."""
LOOK = 0.1
"""Seconds between looks whether Ctrl-C has come, while a pipe is full."""


def write_whole(descriptor: int, data: bytes | memoryview, done: Callable[[int], None] = lambda _: None) -> None:
    """Write all of `data`; `done` hears how many more bytes are written. Raises OSError, KeyboardInterrupt.

    A pipe that is full, non-blocking or not, is waited for. What fits at once is written after Ctrl-C too, as the end
    of a prompt's line.
    """
    piece = len(data) if stat.S_ISREG(os.fstat(descriptor).st_mode) else PIECE
    at = 0
    while at < len(data):
        _wait_for_room(descriptor)
        try:
            count = os.write(descriptor, memoryview(data)[at : at + piece])
        except BlockingIOError:
            continue
        at += count
        done(count)
        if at < len(data):
            interrupts.check()


def _wait_for_room(descriptor: int) -> None:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    while not poll.poll(LOOK * 1000):
        interrupts.check()


class Screen(io.TextIOBase):
    """A standard stream whose every text passes the cleaner, and that is written whole.

    `write` cleans; `write_shown` takes what was cleaned already. A stream without a descriptor (in tests) is written
    as it allows.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.lost: OSError | None = None
        """Why the stream takes nothing any more."""
        try:
            self._descriptor = stream.fileno()
        except (OSError, ValueError):
            self._descriptor = -1

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Return UTF-8, whatever the locale says."""
        return "utf-8"

    def fileno(self) -> int:
        """Return the descriptor."""
        return self.stream.fileno()

    def isatty(self) -> bool:
        """Say whether it is a terminal."""
        return self.stream.isatty()

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, text: str) -> int:
        """Write text of any origin, every line of it cleaned. Raises OSError."""
        self.write_shown(Shown("\n".join(terminal.line(part) for part in text.split("\n"))))
        return len(text)

    def write_shown(self, *items: Shown) -> int:
        """Write texts in order; return how many were written whole: `lost` says why it is not all of them.

        Once a write has failed nothing is written any more, so that an error is met once.
        """
        if self.lost is not None:
            return 0
        data = [item.encode(errors="backslashreplace") for item in items]
        written = 0

        def count(more: int) -> None:
            nonlocal written
            written += more

        try:
            if self._descriptor < 0:
                self.stream.write("".join(items))
                self.stream.flush()
                return len(items)
            write_whole(self._descriptor, b"".join(data), count)
        except OSError as error:
            self.lost = OSError(
                error.errno, error.strerror, f"standard {'error' if self._descriptor == 2 else 'output'}"
            )
        return _whole(data, written)


def _whole(data: Sequence[bytes], written: int) -> int:
    """Return how many of the items lie within the first `written` bytes."""
    for index, item in enumerate(data):
        written -= len(item)
        if written < 0:
            return index
    return len(data)


def occupy() -> None:
    """Let no other file take the place of a standard stream that is closed: it would be written over.

    What stands for a closed standard output cannot be written either, so that nothing counts as shown.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
            os.open(os.devnull, os.O_RDONLY if descriptor < 2 else os.O_WRONLY)


@contextlib.contextmanager
def guard() -> Iterator[None]:
    """Put the screens in place of sys.stdout and sys.stderr for the block, whose program has them for itself."""
    before = sys.stdin, sys.stdout, sys.stderr
    occupy()
    # A stream that was closed when Python began is None.
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115
    sys.stdout = Screen(sys.stdout or io.FileIO(1, "r", closefd=False))  # type: ignore[arg-type]
    sys.stderr = Screen(sys.stderr or io.FileIO(2, "w", closefd=False))  # type: ignore[arg-type]
    try:
        yield
    finally:
        sys.stdin, sys.stdout, sys.stderr = before
