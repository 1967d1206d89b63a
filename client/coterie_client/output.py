"""Results on standard output, errors on standard error, and how a message looks to people and to scripts."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

import msgspec

from . import terminal
from .streams import Screen
from .terminal import Shown
from .times import local, rfc3339

if TYPE_CHECKING:
    from .history import Message

MARKS = {"sending": "…", "stored": "✓", "delivered": "✓✓", "read": "✓✓", "expired": "✗"}


def screen(stream: TextIO) -> Screen:
    """Return the screen of a standard stream: the one in its place, or a new one."""
    return stream if isinstance(stream, Screen) else Screen(stream)


def written(*items: Shown) -> tuple[int, OSError | None]:
    """Write results to standard output, at once; return how many were written whole, and why it is not all."""
    stdout = screen(sys.stdout)
    return stdout.write_shown(*items), stdout.lost


def out(*items: Shown) -> None:
    """Write results to standard output, at once and whole; raises OSError."""
    _, lost = written(*items)
    if lost is not None:
        raise lost


def out_line(text: str) -> None:
    """Write one line to standard output; raises OSError."""
    out(terminal.lines([text]))


def out_table(rows: Sequence[Sequence[str]]) -> None:
    """Write rows to standard output, their cells below each other on a terminal; raises OSError."""
    cells = [[terminal.line(cell) for cell in row] for row in rows]
    widths = [max(map(terminal.columns_of, column)) for column in zip(*cells, strict=True)]
    lines = (
        "  ".join(cell + " " * (width - terminal.columns_of(cell)) for cell, width in zip(row, widths, strict=True))
        for row in cells
    )
    out(terminal.lines(line.rstrip() for line in lines))


def note(text: str) -> None:
    """Write one line of progress or explanation to standard error. That it fails is not told, for there is no place."""
    screen(sys.stderr).write_shown(terminal.lines([text]))


def complain(error: Exception) -> None:
    """Write an error that ends nothing to standard error, as those that end a command are."""
    note(f"coterie: {error}")


def json_line(value: object) -> Shown:
    """Write an object (or a msgspec struct) as one line of JSON."""
    try:
        encoded = msgspec.json.encode(value).decode()
    except UnicodeEncodeError:  # a lone surrogate: a path that is not UTF-8
        import json

        encoded = json.dumps(msgspec.to_builtins(value), separators=(",", ":"))
    return terminal.ended(terminal.json(encoded))


def has_color(stream: TextIO) -> bool:
    """Say whether colours are welcome (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def dim(text: Shown, stream: TextIO) -> Shown:
    """Return text in a faint colour, where colours are welcome."""
    return terminal.faint(text) if has_color(stream) else text


def looks_like(true: str | None) -> dict[str, str]:
    """Return the field that says whom a name only looks like, if it does (`Acquaintance.true_one`)."""
    return {} if true is None else {"looks_like": true}


def message_json(message: Message, me: str, true: str | None = None) -> dict[str, Any]:
    """Return a message with the stable field names; `problem` is there only when there is no text.

    `looks_like` is there only when the other person's name is taken for `true`'s. `time` is null where the database
    holds a number that is no time.
    """
    value: dict[str, Any] = {
        "id": message.id_text,
        "from": me if message.outgoing else message.peer,
        "to": message.peer if message.outgoing else me,
        "time": rfc3339(message.time),
        "text": message.text,
        "state": message.state,
        "attachments": [],
    }
    if message.problem is not None:
        value["problem"] = message.problem.value
    return value | looks_like(true)


def clock(unix_ms: int, *, date: bool = False) -> str:
    """Write a time as people here read it, to the minute."""
    return local(unix_ms, "%Y-%m-%d %H:%M" if date else "%H:%M")


def message_line(message: Message, called: Callable[[str], str], *, date: bool = True) -> Shown:
    """Return a message as people read it, without the end of the line. `called` gives what to call its sender."""
    when = clock(message.time, date=date)
    text = f"[{message.problem.sentence}]" if message.problem is not None else message.text or ""
    who = f"you {MARKS[message.state]}" if message.outgoing else called(message.peer)
    return terminal.joined(terminal.line(f"{when} {who}: "), terminal.block(text))


def message_lines(message: Message, called: Callable[[str], str], *, date: bool = True) -> Shown:
    """Return a message as people read it, with the end of the line, for standard output as wide as it is."""
    text = message_line(message, called, date=date)
    if sys.stdout.isatty():
        text = terminal.wrapped(text, os.get_terminal_size(sys.stdout.fileno()).columns or 80)
    return terminal.ended(text)
