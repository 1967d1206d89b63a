"""How a node logs: one event a line to standard error, as console text or JSON. Never a secret, never a message.

What the standard library's logging brings (asyncio's and aiohttp's complaints) takes the same form. Only a traceback,
on a console, has lines of its own.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
from typing import TextIO, cast

import structlog

from coterie_protocol.words import counted

QUOTED = frozenset(" \t=\r\n\"'")
"""A value with one of these is written by its repr, which escapes it; an event's own text never is."""

MOST_CHARACTERS = 1000
"""What is written of a value; a traceback is whole."""


class LossyText(io.TextIOBase):
    """A text stream that drops what cannot be written.

    The log often lies on the disk that is full; whoever logs that (the store's writer, of all) must not die of it.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, or drop it."""
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, or drop it."""
        with contextlib.suppress(OSError):
            self._stream.flush()


def set_up(level: str, form: str, stream: TextIO) -> None:
    """Set up structlog, and the standard library's logging for what others log. `form` is console or json."""
    out = cast("TextIO", LossyText(stream))
    colours = stream.isatty() and not os.environ.get("NO_COLOR")
    shared: list[structlog.types.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        bounded,
    ]
    last: list[structlog.types.Processor]
    if form == "json":
        last = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        plain = structlog.dev.plain_traceback
        last = [printable, structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=plain)]
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(file=out),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)


def bounded(_: object, __: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    """Cut what is too long to be a reason or a name: those come from other machines too."""
    for key, value in event.items():
        if isinstance(value, str) and len(value) > MOST_CHARACTERS:
            event[key] = f"{value[:MOST_CHARACTERS]}… ({counted(len(value), 'character')})"
    return event


def printable(_: object, __: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    """Escape what would break the line or move the cursor: reasons and names come from other machines too."""
    for key, value in event.items():
        if not isinstance(value, str) or value.isprintable():
            continue
        if key == "event" or QUOTED.isdisjoint(value):
            event[key] = clean(value)
    return event


def clean(text: str) -> str:
    """Escape every character that would break a line or move the cursor of a terminal."""
    return text if text.isprintable() else "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)
