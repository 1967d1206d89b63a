"""Ctrl-C, at any moment: the command ends with 130 and says nothing.

`take` is called before anything else is imported. Python's own handler raises KeyboardInterrupt between any two
instructions, thus also inside an import, a destructor or a callback, where it is printed instead of raised. This one
ends the process on the spot, which harms nothing: what is on disk is there whole or not at all (SQLite's transactions,
renamed files), and what is printed is not in any buffer. Where an end must be made in good order the handler is told
so: `gently` (a task is cancelled), `raising` (the terminal's echo is off), `local.stopping` (nodes are to stop).

Before this the interpreter starts, some 10 ms in which Ctrl-C is its own affair and shows a traceback.
"""

# What the module `signal` is made of: it imports nothing, and every millisecond counts here.
import _signal as signal  # type: ignore[import-not-found]
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType

INTERRUPTED = 130


class _State:
    pressed = 0
    gently: "Callable[[], None] | None" = None


_now = _State()


def _end(number: int, frame: "FrameType | None") -> None:
    _now.pressed += 1
    if _now.gently is None or _now.pressed > 1:
        os._exit(INTERRUPTED)
    _now.gently()


def take() -> None:
    """Take Ctrl-C, unless it is ignored, as in a script's background. Nothing else may be imported for this."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def leave() -> None:
    """Ignore Ctrl-C: the command is done, and what is left is the interpreter's end."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def pressed() -> bool:
    """Say whether Ctrl-C came and an end in good order is being made."""
    return _now.pressed > 0


def check() -> None:
    """Raise KeyboardInterrupt if Ctrl-C came: for a wait in which nothing else would notice."""
    if _now.pressed and _now.gently is not None:
        raise KeyboardInterrupt


class gently:  # noqa: N801 - used like a function
    """Let the first Ctrl-C within the block call `act` instead of ending the process; a second one ends it."""

    def __init__(self, act: "Callable[[], None]") -> None:
        self._act = act

    def __enter__(self) -> None:
        self._before, _now.gently = _now.gently, self._act

    def __exit__(
        self, kind: "type[BaseException] | None", error: "BaseException | None", trace: "TracebackType | None"
    ) -> None:
        _now.gently = self._before


def raising() -> gently:
    """Let Ctrl-C raise KeyboardInterrupt within the block: something must be put back, as a terminal's echo."""
    return gently(_raise)


def _raise() -> None:
    raise KeyboardInterrupt
