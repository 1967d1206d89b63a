"""The data directory and its lock: two processes never share one store."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from .errors import DirectoryLocked, DirectoryUnusable

LOCK_NAME = "lock"
ADMIN_NAME = "admin-url"
"""The file of the data directory in which a node leaves its admin port's address."""


class DirectoryLock:
    """An exclusive flock(2) on DIR/lock. The kernel releases it with the process, so it is never stale."""

    def __init__(self, directory: Path) -> None:
        """Make the directory if needed, and lock it. Raises DirectoryLocked and DirectoryUnusable."""
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._handle = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise DirectoryUnusable(directory, error.strerror or str(error)) from None
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(self._handle, 32, 0).strip()
            os.close(self._handle)
            raise DirectoryLocked(directory, int(holder) if holder.isdigit() else 0) from None
        try:
            os.ftruncate(self._handle, 0)
            os.pwrite(self._handle, b"%d\n" % os.getpid(), 0)
        except OSError:
            # A full disk must not keep the node from starting: the number is only a courtesy to the reader of an error.
            pass

    def release(self) -> None:
        """Let another process in."""
        os.close(self._handle)
