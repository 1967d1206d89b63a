"""Files that are replaced whole: written beside their place, locked meanwhile, and renamed into it in one step.

A writer that is killed before the rename leaves its file beside the place. The kernel releases the lock, and so the
next writer of the same place knows that nobody writes it any more, and removes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import tempfile
import time
from pathlib import Path

_RANDOM = re.compile(r"[a-z0-9_]{8}")
"""How names that tempfile makes end."""
_UNLOCKED_FOR = 86_400.0
"""Seconds after which a file of the version before, which locked nothing, is surely nobody's any more."""


class Replacement:
    """A file that takes the place of another whole, or not at all. A context manager: what was not put is removed."""

    def __init__(self, path: Path) -> None:
        """Make the file beside `path`, with mode 0600, and remove what killed writers left there. Raises OSError."""
        _remove_leftovers(path)
        self._path = path
        self._temporary: Path | None = None
        while True:  # a sweeper may come between the file and its lock
            descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
            self._temporary, self._file = Path(name), os.fdopen(descriptor, "r+b")
            try:
                with contextlib.suppress(OSError):  # where files have no locks nobody removes what others left
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
                os.fchmod(descriptor, 0o600)
                if os.fstat(descriptor).st_nlink:
                    return
            except BaseException:
                self.close()
                raise
            self._file.close()

    def write(self, data: bytes) -> None:
        """Make this the file's content and fsync it, without giving up the room that it had. Raises OSError."""
        self._file.seek(0)
        self._file.write(data)
        self._file.truncate()
        self._file.flush()
        os.fsync(self._file.fileno())

    def put(self) -> None:
        """Put the file into its place; raises OSError."""
        assert self._temporary is not None
        os.replace(self._temporary, self._path)
        self._temporary = None
        self.close()

    def close(self) -> None:
        """Remove what was not put."""
        if self._temporary is not None:
            with contextlib.suppress(OSError):
                self._temporary.unlink()
            self._temporary = None
        with contextlib.suppress(OSError):  # what could not be written is tried again
            self._file.close()

    def __enter__(self) -> Replacement:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def replace(path: Path, data: bytes) -> None:
    """Put a file with this content and mode 0600 in the place of another; raises OSError, and then nothing changes."""
    with Replacement(path) as file:
        file.write(data)
        file.put()


def _remove_leftovers(path: Path) -> None:
    """Remove what killed writers of `path` left beside it; what cannot be removed stays for the next one."""
    kinds = ((f".{path.name}-", 0.0), (f".{path.stem}-", _UNLOCKED_FOR))
    with contextlib.suppress(OSError), os.scandir(path.parent) as entries:
        for entry in entries:
            for prefix, age in kinds:
                name = entry.name.removeprefix(prefix)
                if name != entry.name and _RANDOM.fullmatch(name) and entry.is_file(follow_symlinks=False):
                    with contextlib.suppress(OSError):
                        _remove_leftover(entry.path, age)


def _remove_leftover(path: str, age: float) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        found = os.fstat(descriptor)
        if found.st_uid == os.geteuid() and time.time() - found.st_mtime >= age:
            os.unlink(path)
    finally:
        os.close(descriptor)
