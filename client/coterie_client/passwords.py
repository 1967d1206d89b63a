"""Where a password comes from: a file or standard input, COTERIE_PASSWORD, or the terminal without echo."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from . import interrupts
from .errors import UsageError
from .kdf import MAX_PASSWORD, check_password
from .output import note

MOST_BYTES = 4 * MAX_PASSWORD + 2
"""Of a password file, with the end of its line; a device has no end."""


def read_password(source: str | None, *, confirm: bool) -> str:
    """Return the password; `source` is --password-file's value; `confirm` asks for a new one, twice.

    Raises UsageError; for a new one that is too short before it is asked for again.
    """
    if source is not None:
        return _from_file(source)
    if "COTERIE_PASSWORD" in os.environ:
        return os.environ["COTERIE_PASSWORD"]
    if not sys.stdin.isatty():
        raise UsageError(
            "there is no terminal to ask for the password on; use --password-file FILE (- for standard input) "
            "or COTERIE_PASSWORD"
        )
    password = _asked("Password (at least 8 characters): " if confirm else "Password: ")
    check_password(password, new=confirm)
    if confirm and _asked("The same again: ") != password:
        raise UsageError("the two passwords differ; run the command again")
    return password


def _asked(prompt: str) -> str:
    import getpass

    try:
        with interrupts.raising():
            return getpass.getpass(prompt)
    except EOFError:
        note("")  # nobody has ended the prompt's line
        raise UsageError("no password was given; run the command again") from None
    except KeyboardInterrupt:
        note("")
        raise


def _from_file(source: str) -> str:
    try:
        with interrupts.raising():
            if source == "-":
                data = sys.stdin.buffer.read(MOST_BYTES + 1)
            else:
                with Path(source).open("rb") as file:
                    data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise UsageError(f"the password has more than {MAX_PASSWORD} characters; check --password-file")
        text = data.decode()
    except OSError as error:
        raise UsageError(f"cannot read the password file {source}: {error.strerror}; check --password-file") from None
    except UnicodeDecodeError:
        raise UsageError("the password is not UTF-8 text; check --password-file") from None
    return text.removesuffix("\n").removesuffix("\r")
