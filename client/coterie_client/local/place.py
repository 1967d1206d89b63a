"""A local ring's directory: what it is made of, and who is running in it.

    ring.json       how many nodes, the replication factor, the first port, and the ring's uid once it is founded
    admin-token     the admin token of all nodes (0600)
    up.lock         held by `coterie up` for as long as it works
    node-1/         a node's data directory
    node-1.log      what the node printed
    node-1.lock     held by the node's process for as long as it lives; holds its pid

Whoever holds a lock lives: the kernel lets go of it when the process ends, however it ends, and a pid that was given
to another process in the meantime cannot deceive. A node inherits its lock's descriptor from `coterie up`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from coterie_protocol.bounds import Copies, LocalNodes, OpenPort, RingUidOrNone

from ..errors import ClientError
from ..private import make_directory, open_private, read_regular

MAX_FILE_BYTES = 65_536
"""ring.json takes some 100 bytes; what is larger is something else."""
MOST_PID = 2**22
"""No Linux gives a greater one."""


class RingFile(msgspec.Struct):
    """What ring.json says."""

    nodes: LocalNodes
    replication_factor: Copies
    port: OpenPort
    ring_uid: RingUidOrNone = ""
    """Empty until the first start has founded the ring."""


@dataclass(frozen=True, slots=True)
class NodePlace:
    """One node of a local ring: its files and its ports on 127.0.0.1."""

    name: str
    data: Path
    log: Path
    lock: Path
    client_port: int

    @property
    def peer_port(self) -> int:
        """Return the port for other nodes."""
        return self.client_port + 1

    @property
    def admin_port(self) -> int:
        """Return the admin port."""
        return self.client_port + 2

    @property
    def admin_url(self) -> str:
        """Return the address of the admin API."""
        return f"http://127.0.0.1:{self.admin_port}"

    def pid(self) -> int | None:
        """Return the pid of the node's process (0: it is not written yet), None when it does not run."""
        return _holder(self.lock)


def default_directory() -> Path:
    """Return where the local ring is kept: not in COTERIE_HOME, for all users of this machine's ring share it."""
    import platformdirs

    return platformdirs.user_data_path("coterie") / "ring"


class RingPlace:
    """A local ring's directory."""

    def __init__(self, directory: Path | None) -> None:
        self.directory = (directory or default_directory()).expanduser().absolute()
        self._file = self.directory / "ring.json"
        self._up_lock = self.directory / "up.lock"
        self.token_file = self.directory / "admin-token"

    def load(self) -> RingFile | None:
        """Return what ring.json says, None when there is no ring here. Raises ClientError when it cannot be read."""
        try:
            return msgspec.json.decode(read_regular(self._file, MAX_FILE_BYTES), type=RingFile)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise ClientError(f"cannot read {self._file}: {error}; mend it, or use another --dir") from None

    def save(self, ring: RingFile) -> None:
        """Write ring.json whole or not at all."""
        new = self._file.with_suffix(".new")
        descriptor = open_private(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        with open(descriptor, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(ring)) + b"\n")
        new.replace(self._file)

    def make(self) -> None:
        """Create the directory and the admin token, readable by their owner only. Raises ClientError."""
        try:
            make_directory(self.directory)
            if not self.token_file.exists():
                descriptor = open_private(self.token_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                with open(descriptor, "w") as file:
                    file.write(secrets.token_urlsafe(32) + "\n")
        except OSError as error:
            raise ClientError(
                f"cannot use {self.directory} for a ring: {error.strerror}; name a writable one with --dir"
            ) from None

    def nodes(self, ring: RingFile) -> list[NodePlace]:
        """Return the ring's nodes in order."""
        return [self._node(number, ring.port) for number in range(1, ring.nodes + 1)]

    def _node(self, number: int, port: int) -> NodePlace:
        at = self.directory / f"node-{number}"
        return NodePlace(at.name, at, at.with_suffix(".log"), at.with_suffix(".lock"), port + 10 * (number - 1))

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Be the only `coterie up` or `down` in this directory; raises ClientError when there is another."""
        descriptor = take_lock(self._up_lock)
        if descriptor is None:
            pid = self.worker()
            who = f" (coterie up, process {pid})" if pid else ""
            raise ClientError(
                f"a ring is running in {self.directory} already{who}; use it, stop it with Ctrl-C there or with "
                "coterie down, or name another --dir and --port"
            )
        try:
            write_pid(descriptor, os.getpid())
            yield
        finally:
            os.close(descriptor)

    def worker(self) -> int | None:
        """Return the pid of the `coterie up` that works here, None when there is none."""
        return _holder(self._up_lock)

    def purge(self, ring: RingFile) -> None:
        """Delete what belongs to the ring, and the directory if nothing else is in it."""
        for node in self.nodes(ring):
            shutil.rmtree(node.data, ignore_errors=True)
            for path in (node.log, node.log.with_suffix(".log.1"), node.lock):
                path.unlink(missing_ok=True)
        for path in (self.token_file, self._file, self._up_lock):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.directory.rmdir()


def take_lock(path: Path) -> int | None:
    """Take a lock and return its descriptor, None when somebody holds it."""
    descriptor = open_private(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def write_pid(descriptor: int, pid: int) -> None:
    """Write a pid into a lock that is held."""
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, b"%d\n" % pid, 0)


def _holder(path: Path) -> int | None:
    """Return the pid in a lock that is held, None when nobody holds it.

    0 when none is written yet, or none that could be: signals to 0 and below go to groups of processes.
    """
    try:
        descriptor = open_private(path, os.O_RDWR)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(descriptor, 32, 0).strip()
        pid = int(text) if text.isdigit() else 0
        return pid if 0 < pid <= MOST_PID else 0
    finally:
        os.close(descriptor)
    return None
