"""A small file that is read anew whenever it changes: a token, a secret.

Where the file is of a Kubernetes Secret that somebody deleted, the one made in its place holds other random bytes, and
appears in the pod by itself; a node that knew only those of its start would be at odds with the others until restarted.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import structlog

log = structlog.get_logger()

MOST_BYTES = 4096
"""What is read of a file."""


class WatchedFile:
    """A file's bytes without white space around them. What was read last stands while the file is gone or no good."""

    def __init__(self, path: Path, good: Callable[[bytes], bool] = bool) -> None:
        """Read it. `good` says whether new contents count. Raises OSError."""
        self._path = path
        self._good = good
        self._seen = self._stamp()
        self._contents = self._read()

    def current(self) -> bytes:
        """Return the contents."""
        try:
            if (stamp := self._stamp()) != self._seen:
                contents = self._read()
                self._seen = stamp
                if contents != self._contents and self._good(contents):
                    log.info("a file of settings has changed", file=str(self._path))
                    self._contents = contents
        except OSError as error:
            log.debug("cannot read a file of settings anew", file=str(self._path), error=str(error))
        return self._contents

    def _stamp(self) -> tuple[int, int, int, int]:
        """Return what changes when the file does: Kubernetes puts another file into its place."""
        found = self._path.stat()
        return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size

    def _read(self) -> bytes:
        with self._path.open("rb") as file:
            return file.read(MOST_BYTES).strip()
