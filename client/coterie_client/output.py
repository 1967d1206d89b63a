"""Results on standard output, errors on standard error, and how a message looks to people and to scripts."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO

import msgspec

if TYPE_CHECKING:
    from .history import Message

MARKS = {"sending": "…", "stored": "✓", "delivered": "✓✓", "read": "✓✓", "expired": "✗"}
_CONTROLS = {code: 0x2400 + code for code in range(32) if code not in (9, 10)} | dict.fromkeys(range(127, 160), 0xFFFD)
"""Control characters of a message never reach the terminal: they could repaint it."""


def out(text: str) -> None:
    """Write results to standard output, at once."""
    sys.stdout.write(text)
    sys.stdout.flush()


def note(text: str) -> None:
    """Write one line of progress or explanation to standard error."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def complain(error: Exception) -> None:
    """Write an error that ends nothing to standard error, as those that end a command are."""
    note(f"coterie: {error}")


def json_line(value: Mapping[str, Any]) -> str:
    """Write an object as one line of JSON."""
    return msgspec.json.encode(value).decode() + "\n"


def has_color(stream: TextIO) -> bool:
    """Say whether colours are welcome (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def dim(text: str, stream: TextIO) -> str:
    """Return text in a faint colour, where colours are welcome."""
    return f"\x1b[2m{text}\x1b[0m" if has_color(stream) else text


def rfc3339(unix_ms: int) -> str:
    """Write a time as RFC 3339 in UTC, to the millisecond."""
    return datetime.fromtimestamp(unix_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def clean(text: str) -> str:
    """Return a text fit for a terminal: control characters made visible, further lines indented."""
    return text.translate(_CONTROLS).rstrip("\n").replace("\n", "\n    ")


def message_json(message: Message, me: str) -> dict[str, Any]:
    """Return a message with the stable field names; `problem` is there only when there is no text."""
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
    return value


def message_line(message: Message, aliases: Mapping[str, str], *, date: bool = True) -> str:
    """Return a message as people read it, without the end of the line."""
    when = datetime.fromtimestamp(message.time / 1000).astimezone().strftime("%Y-%m-%d %H:%M" if date else "%H:%M")
    text = f"[{message.problem.sentence}]" if message.problem is not None else clean(message.text or "")
    if message.outgoing:
        return f"{when} you {MARKS[message.state]}: {text}"
    alias = aliases.get(message.peer)
    who = f"{clean(alias)} ({message.peer})" if alias else message.peer
    return f"{when} {who}: {text}"
