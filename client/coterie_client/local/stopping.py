"""Ctrl-C, SIGTERM and SIGHUP as a flag that can be waited for."""

from __future__ import annotations

import os
import select
import signal
from types import FrameType, TracebackType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopping:
    """Takes the signals that ask to stop, for as long as it is entered; for the main thread.

    A pipe, for a wait that cannot miss the signal that comes just before it.
    """

    def __init__(self) -> None:
        self.count = 0
        """How many such signals came."""
        self.exit_code = 0
        """130 when Ctrl-C came first, else 0."""
        self._read, self._write = os.pipe()
        self._before: dict[int, object] = {}

    @property
    def requested(self) -> bool:
        """Say whether it is time to stop."""
        return self.count > 0

    def wait(self, seconds: float) -> None:
        """Wait, but not longer than until the first such signal."""
        if not self.requested:
            select.select([self._read], [], [], seconds)

    def __enter__(self) -> Stopping:
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup, or in a script's background
                self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal gave us
        os.close(self._read)
        os.close(self._write)

    def _take(self, number: int, _: FrameType | None) -> None:
        self.count += 1
        if self.count == 1:
            self.exit_code = 130 if number == signal.SIGINT else 0
            os.write(self._write, b"!")
