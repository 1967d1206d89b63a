"""One receiver an account: a lock that the kernel releases when its holder dies.

The file holds the holder's pid for people. It is never removed: a removed file could be locked by one process while
another locks its successor of the same name.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from .errors import AlreadyReceiving
from .private import open_private


@contextlib.contextmanager
def receiver_lock(path: Path) -> Iterator[None]:
    """Hold the receiver's lock; raises AlreadyReceiving, naming the process that has it."""
    descriptor = open_private(path)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyReceiving(_pid_in(descriptor), path) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        yield
    finally:
        os.close(descriptor)


def _pid_in(descriptor: int) -> int:
    try:
        return int(os.pread(descriptor, 32, 0))
    except ValueError:
        return 0
