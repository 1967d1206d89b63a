"""A table that is redrawn in place on a terminal; elsewhere, plain lines when something has changed."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, TextIO

from .. import terminal
from ..output import screen
from ..terminal import Shown
from .table import ring_lines, summary

if TYPE_CHECKING:
    from coterie_protocol.admin import RingReport

NOBODY = "no node answers"


class LiveTable:
    """Shows a ring's reports as they come."""

    def __init__(self, out: TextIO) -> None:
        self._screen = screen(out)
        self._tty = out.isatty()
        self._drawn = 0
        self._said = ""

    def show(self, ring: RingReport | None) -> None:
        """Show how the ring is now; None when no node answered."""
        if self._tty:
            self._redraw([NOBODY] if ring is None else ring_lines(ring))
        else:
            line = NOBODY if ring is None else summary(ring)
            if line != self._said:
                self._said = line
                self._write(terminal.lines([line]))

    def note(self, text: str) -> None:
        """Say something that stays, above the table."""
        if self._tty:
            self._redraw([])
        self._write(terminal.lines([text]))

    def close(self) -> None:
        """Leave what was drawn where it is."""
        self._drawn = 0

    def _redraw(self, lines: list[str]) -> None:
        up = terminal.erased(self._drawn)
        self._drawn = len(lines)
        width = shutil.get_terminal_size().columns - 1  # a line that wraps would be two to go up
        self._write(up, terminal.lines(terminal.clip(terminal.line(line), width) for line in lines))

    def _write(self, *items: Shown) -> None:
        self._screen.write_shown(*items)
        if self._screen.lost is not None:
            raise self._screen.lost
