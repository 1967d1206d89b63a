"""What a terminal sends, before the editor takes it apart: a paste whose end never comes does not swallow the keyboard.

A terminal marks where a paste begins and ends. Where the end mark is lost (a link that broke for a moment, a
multiplexer that was attached anew) prompt_toolkit waits for it for ever, and Ctrl-C and Ctrl-D are part of the paste.
Here a key by itself, after a while without more of the paste, ends it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from prompt_toolkit.input.posix_utils import PosixStdinReader

from coterie_protocol.bounds import MAX_TEXT_BYTES

END = "\x1b[201~"
STILL = 1.0
"""Seconds after the last of a paste from which a key by itself is a person's. A paste comes in pieces without pause; a
Ctrl-C within it must not count, or what follows would be typed into the shell."""

MOST = 2 * MAX_TEXT_BYTES
"""Characters of a paste that are taken: more than can be sent, so nobody sends a part by mistake. The editor's work
grows with the square of them."""

_MARK = re.compile(r"\x1b\[20([01])~")
_KEY = re.compile(r"[^\x1b]|\x1b[\[O]?[\x20-\x3f]{0,4}[\x40-\x7e]?", re.DOTALL)
_LONGEST_PART = len(END) - 1


class Pastes:
    """Knows whether a paste is under way. The time is a parameter."""

    def __init__(self) -> None:
        self._inside = False
        self._part = ""
        """The last characters that came: a mark may come in two pieces."""
        self._at = 0.0
        """When the last piece of the paste came."""
        self._size = 0

    def take(self, text: str, now: float) -> str:
        """Return what the editor is to be given for what came."""
        if self._inside and now - self._at >= STILL and _KEY.fullmatch(text):
            self._inside, self._part = False, ""
            return END + text
        if len(text) != 1:
            self._at = now
        held = self._part + text
        over = self._inside and self._size > MOST
        after = None
        for mark in _MARK.finditer(held):
            self._inside, after = mark[1] == "0", mark
            self._size = 0
            self._at = now
        self._part = held[-_LONGEST_PART:]
        if self._inside:
            self._size += len(text)
        if over:
            return END + held[after.end() :] if after and not self._inside else ""
        return text


class Keyboard(PosixStdinReader):
    """Standard input as prompt_toolkit reads it, its pastes ended."""

    def __init__(self, descriptor: int, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(descriptor)
        self._pastes = Pastes()
        self._clock = clock

    def read(self, count: int = 1024) -> str:
        """Return what has come; empty if nothing has."""
        return self._pastes.take(super().read(count), self._clock())
