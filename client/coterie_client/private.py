"""Files that are their owner's alone: made 0700 or 0600 whatever the umask, refused where others could meddle.

Whoever may write where the session lies can give its owner another ring, another session or other words of others; so
such a directory or file is not used. One that others can only read is used: what is in it is private by itself.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from .errors import ClientError, UsageError


def make_directory(path: Path) -> None:
    """Create a directory and what is missing above it, each with mode 0700. Raises OSError."""
    missing = [path]
    while not missing[-1].parent.exists():
        missing.append(missing[-1].parent)
    for directory in reversed(missing):
        try:
            os.mkdir(directory, 0o700)
        except FileExistsError:
            if not directory.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(directory)) from None
        else:
            os.chmod(directory, 0o700)  # the umask may have taken from it


def open_private(path: Path, flags: int = os.O_RDWR | os.O_CREAT) -> int:
    """Open a regular file, made with mode 0600, and return its descriptor; no symbolic link is followed.

    Raises OSError, and ClientError when something else lies there.
    """
    try:
        descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise ClientError(f"{path} is not a file but something else, perhaps a link; remove it") from None
        raise
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise ClientError(f"{path} is not a file but something else, perhaps a link; remove it")
        if found.st_size == 0 and found.st_uid == os.geteuid():
            os.fchmod(descriptor, 0o600)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_regular(path: Path, most: int) -> bytes:
    """Read a file of at most `most` bytes, whole; links are followed, as a cluster mounts its files.

    Raises OSError, also for what is no regular file: a pipe could be waited for without end.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a file but something else", str(path))
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(most + 1)
    finally:
        os.close(descriptor)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it has more than {most} bytes", str(path))
    return data


def check_ours(path: Path, what: str) -> None:
    """Raise UsageError if others own a file or directory or may write it; what is not there is nobody's."""
    try:
        found = path.stat()
    except OSError:
        return  # who wants to use it will say what is wrong
    if found.st_uid != os.geteuid():
        raise UsageError(
            f"{what} {path} belongs to another user ({found.st_uid}), who could change it; "
            "set COTERIE_HOME to a directory of your own"
        )
    if found.st_mode & 0o022:
        mode = "700" if stat.S_ISDIR(found.st_mode) else "600"
        raise UsageError(f"{what} {path} can be written by others; run: chmod {mode} {path}")


def is_readable_by_others(path: Path) -> bool:
    """Say whether others may read a file; one that they may write is refused anyhow."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return stat.S_ISREG(mode) and bool(mode & 0o044) and not mode & 0o022
