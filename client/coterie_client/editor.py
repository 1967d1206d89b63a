"""The line editor of `coterie chat`, and its twin for pipes. Only the editor imports prompt_toolkit, and `pasting`.

What is printed goes above the line that is being typed: the editor's lines are taken away, the text is written (whole,
or known not to be: see streams), and the editor draws itself again below. Its *tail* are lines between what was printed
and what is typed, which change in place: messages under way. Nothing here switches the terminal out of raw mode on the
way, so a paste that a message interrupts loses nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import termios
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from . import terminal
from .lines import standard_input_lines
from .output import note, written
from .terminal import Shown

if TYPE_CHECKING:
    from prompt_toolkit.application import Application
    from prompt_toolkit.formatted_text import StyleAndTextTuples
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
    from prompt_toolkit.output import Output

PROMPT = "> "
MOST_TAIL = 5
"""Lines of the tail that are drawn: the terminal belongs to what was printed."""
MOST_REMEMBERED = 100
"""Earlier messages that the arrow keys bring back."""


class Console(Protocol):
    """Where a conversation is typed and printed."""

    is_terminal: bool
    interrupted: bool
    """It ended by Ctrl-C."""

    async def run(self) -> None:
        """Edit until the user ends it; for a terminal."""

    def drafts(self) -> AsyncIterator[bytes | str]:
        """Yield what was typed, a message each, until there is no more."""

    def show(self, *items: Shown) -> tuple[int, OSError | None]:
        """Print as output.written does."""

    def note(self, text: str) -> None:
        """Print a line of explanation to standard error."""

    def put_tail(self, lines: Sequence[Shown]) -> None:
        """Show these lines between what was printed and what is typed, in place of those before."""

    def reject(self, draft: str) -> None:
        """Give a draft back that cannot be sent, to be mended."""

    def leave(self) -> None:
        """Print what was typed and not sent off."""

    @property
    def room(self) -> int:
        """Return how many lines the tail can have."""


class Pipe:
    """A conversation through pipes: every line of standard input is a draft."""

    is_terminal = interrupted = False
    room = 0

    async def run(self) -> None:
        """Do nothing."""

    def drafts(self) -> AsyncIterator[bytes | str]:
        """Yield the lines of standard input."""
        return standard_input_lines()

    def show(self, *items: Shown) -> tuple[int, OSError | None]:
        """Print."""
        return written(*items)

    def note(self, text: str) -> None:
        """Print to standard error."""
        note(text)

    def put_tail(self, lines: Sequence[Shown]) -> None:
        """Do nothing."""

    def reject(self, draft: str) -> None:
        """Do nothing: the next line is another message."""

    def leave(self) -> None:
        """Do nothing."""


class Editor:
    """A conversation on a terminal."""

    is_terminal = True

    def __init__(self, earlier: Sequence[str]) -> None:
        """Make the editor; the arrow keys bring `earlier` messages back, the last one first."""
        from prompt_toolkit import PromptSession
        from prompt_toolkit.history import InMemoryHistory
        from prompt_toolkit.input.vt100 import Vt100Input
        from prompt_toolkit.output.vt100 import Vt100_Output

        from .pasting import Keyboard

        self._dumb = os.environ.get("TERM", "").lower() in ("dumb", "unknown")
        self.interrupted = False
        self._tail: Sequence[Shown] = ()
        self._drafts: asyncio.Queue[str | None] = asyncio.Queue()
        self._input = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
        self._output = open(1, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
        sized = Vt100_Output.from_pty(self._output, term=os.environ.get("TERM"))
        # Asking the terminal where its cursor is would leave the answer to the shell if this ends before it comes.
        sized.enable_cpr = False
        self._size = sized
        self._echoed = ""
        keys = Vt100Input(self._input)
        keys.stdin_reader = Keyboard(self._input.fileno())
        history = InMemoryHistory(earlier[-MOST_REMEMBERED:])
        self._session: PromptSession[None] = PromptSession(
            self._before_draft,
            multiline=True,
            prompt_continuation="  ",
            key_bindings=self._keys(),
            history=history,
            enable_suspend=True,
            erase_when_done=True,
            input=keys,
            output=sized,
        )
        self._app: Application[None] = self._plain_app() if self._dumb else self._session.app

    async def run(self) -> None:
        """Edit until Ctrl-D on an empty line; drafts come out of `drafts` meanwhile."""
        kept = termios.tcgetattr(0)
        try:
            self._write_prompt()
            with contextlib.suppress(EOFError):
                await self._app.run_async(handle_sigint=False)
        finally:
            with contextlib.suppress(termios.error):
                termios.tcsetattr(0, termios.TCSANOW, kept)
            self._drafts.put_nowait(None)
            if self._dumb:
                written(Shown("\n"))

    async def drafts(self) -> AsyncIterator[bytes | str]:
        """Yield what was typed and sent off with Enter."""
        while (draft := await self._drafts.get()) is not None:
            yield draft

    def show(self, *items: Shown) -> tuple[int, OSError | None]:
        """Print above what is typed."""
        with self._above():
            return written(*items)

    def note(self, text: str) -> None:
        """Print to standard error, above what is typed if that is this terminal."""
        with self._above():
            note(text)

    def put_tail(self, lines: Sequence[Shown]) -> None:
        """Draw other lines above what is typed."""
        self._tail = lines
        self._app.invalidate()

    def reject(self, draft: str) -> None:
        """Put a draft back before what was typed since."""
        buffer = self._session.default_buffer
        buffer.text = draft + buffer.text
        buffer.cursor_position = len(draft)

    def leave(self) -> None:
        """Print what was typed and not sent off: it stays to be seen."""
        if not self._dumb and (draft := self._session.default_buffer.text):
            written(terminal.joined(Shown(PROMPT), terminal.block(draft), Shown("\n")))

    # --- Drawing ----------------------------------------------------------------------------------------------

    @property
    def room(self) -> int:
        """Return how many lines the tail can have; a low terminal belongs to what is typed and printed."""
        return 0 if self._dumb else max(0, min(MOST_TAIL, self._size.get_size().rows - 3))

    @contextlib.contextmanager
    def _above(self) -> Iterator[None]:
        if not self._app.is_running:
            yield
        elif self._dumb:
            written(Shown("\n"))
            yield
            self._write_prompt()
        else:
            self._app.renderer.erase()
            yield
            self._app.renderer.reset()
            self._app.invalidate()

    def _before_draft(self) -> StyleAndTextTuples:
        columns = self._size.get_size().columns
        lines = self._tail[max(0, len(self._tail) - self.room) :]
        clipped = (terminal.clip(line, columns - 1) for line in lines)
        return [*(("fg:ansibrightblack", line + "\n") for line in clipped), ("", PROMPT)]

    def _write_prompt(self) -> None:
        if self._dumb:
            self._echoed = self._session.default_buffer.text
            written(terminal.joined(Shown(PROMPT), terminal.block(self._echoed)))

    def _plain_app(self) -> Application[None]:
        """Return an editor for a terminal that can only be written: what is typed is echoed."""
        from prompt_toolkit.application import Application
        from prompt_toolkit.output import DummyOutput

        session = self._session
        output: Output = DummyOutput()
        session.default_buffer.on_text_changed += lambda _: self._echo()
        return Application(
            input=session.input, output=output, layout=session.layout, key_bindings=self._keys(), erase_when_done=True
        )

    def _echo(self) -> None:
        text = self._session.default_buffer.text
        if text.startswith(self._echoed):
            written(terminal.block(text[len(self._echoed) :]))
            self._echoed = text
        elif text:
            written(Shown("\n"))
            self._write_prompt()

    # --- Keys -------------------------------------------------------------------------------------------------

    def _keys(self) -> KeyBindings:
        from prompt_toolkit.filters import Condition
        from prompt_toolkit.key_binding import KeyBindings
        from wcwidth import grapheme_boundary_before

        keys = KeyBindings()
        empty = Condition(lambda: not self._session.default_buffer.text)

        @keys.add("enter", eager=True)
        @keys.add("c-j", eager=True)
        def send(event: KeyPressEvent) -> None:
            buffer = self._session.default_buffer
            draft = buffer.text.replace("\r\n", "\n").replace("\r", "\n")
            self._echoed = ""
            buffer.reset(append_to_history=bool(draft.strip()))
            if self._dumb:
                written(Shown("\n"))
                self._write_prompt()
            self._drafts.put_nowait(draft)

        @keys.add("escape", "enter")
        @keys.add("escape", "c-j")
        def new_line(event: KeyPressEvent) -> None:
            self._session.default_buffer.insert_text("\n")

        @keys.add("backspace")
        def delete(event: KeyPressEvent) -> None:
            """Delete what people see as one character: a flag is two, a family seven."""
            buffer = self._session.default_buffer
            for _ in range(event.arg):
                at = buffer.cursor_position
                buffer.delete_before_cursor(at - grapheme_boundary_before(buffer.text, at))

        @keys.add("c-d", filter=empty, eager=True)
        def end(event: KeyPressEvent) -> None:
            event.app.exit()

        @keys.add("c-c", eager=True)
        def interrupt(event: KeyPressEvent) -> None:
            self.interrupted = True
            event.app.exit()

        return keys


def console(earlier: Sequence[str]) -> Console:
    """Return where to talk: on the terminal, or through pipes if one of the two is none."""
    return Editor(earlier) if sys.stdin.isatty() and sys.stdout.isatty() else Pipe()
