"""Node processes: started, watched and stopped."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ClientError
from ..private import open_private
from .place import take_lock, write_pid

if TYPE_CHECKING:
    from .place import NodePlace, RingFile

STOP_SECONDS = 10.0
"""How long a node may drain after SIGTERM (its own promise) before it is killed."""
KILL_SECONDS = 10.0
"""How long the kernel may take to end what was killed."""
MAX_LOG_BYTES = 10 * 1024 * 1024
_PR_SET_PDEATHSIG = 1


def check_ports(nodes: Iterable[NodePlace]) -> None:
    """Raise ClientError, naming the port and the remedy, when one that is needed is taken."""
    for node in nodes:
        for port in (node.client_port, node.peer_port, node.admin_port):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError as error:
                    why = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used: {error.strerror}"
                    raise ClientError(
                        f"port {port} on 127.0.0.1, which {node.name} needs, {why}; stop what uses it, "
                        "or choose others with --port"
                    ) from None


def start_node(node: NodePlace, command: Sequence[str], *, detach: bool) -> subprocess.Popen[bytes]:
    """Start a node's process (see node_command). Unless detached it ends with us, whatever ends us (on Linux).

    Raises ClientError when the node runs already.
    """
    lock = take_lock(node.lock)
    if lock is None:
        raise ClientError(f"{node.name} is running already (process {node.pid()}); stop it with: coterie down")
    try:
        _turn_log(node.log)
        with open(open_private(node.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), "ab") as log:
            process = subprocess.Popen(  # noqa: S603  # our own program and our own words
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(lock,),
                start_new_session=True,  # Ctrl-C is for us: we stop the nodes in good order
                preexec_fn=None if detach else _die_with(os.getpid()),  # noqa: PLW1509  # there are no threads here
            )
        write_pid(lock, process.pid)
        return process
    except OSError as error:
        raise ClientError(f"cannot start {node.name}: {error}") from None
    finally:
        os.close(lock)


def node_command(node: NodePlace, seeds: Sequence[NodePlace], ring: RingFile, token_file: Path) -> list[str]:
    """Return the command line of a node's process."""
    command = [sys.executable, *node_program(), "run", "--data-dir", str(node.data)]
    command += ["--listen-client", f"127.0.0.1:{node.client_port}"]
    command += ["--listen-peer", f"127.0.0.1:{node.peer_port}"]
    command += ["--listen-admin", f"127.0.0.1:{node.admin_port}"]
    command += ["--advertise", "127.0.0.1", "--admin-token-file", str(token_file)]
    command += ["--replication-factor", str(ring.replication_factor)]
    for seed in seeds:
        if seed.name != node.name:
            command += ["--seed", f"127.0.0.1:{seed.peer_port}"]
    if ring.ring_uid:
        command += ["--ring-uid", ring.ring_uid]
    elif node.name == seeds[0].name:
        # Only while the ring's uid is not recorded: a first node that has lost its data must join, not found again.
        command.append("--found")
    return command


def node_program() -> list[str]:
    """Return what Python runs as a node: the script that was installed beside ours, or else the module."""
    for beside in (sys.argv[0], sys.executable):
        script = Path(beside).absolute().with_name("coterie-node")
        if script.exists():
            return [str(script)]
    return ["-m", "coterie_node.cli.main"]


def _die_with(parent: int) -> Callable[[], None] | None:
    """Return what a child does before it becomes the node: ask Linux for SIGTERM when `parent` is gone."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it went before we could ask
            os._exit(1)

    return ask


def _turn_log(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > MAX_LOG_BYTES:
            path.replace(path.with_suffix(".log.1"))


def last_words(path: Path) -> str:
    """Return the last line that a node printed."""
    try:
        with open(open_private(path, os.O_RDONLY), "rb") as file:
            file.seek(max(0, path.stat().st_size - 4096))
            lines = file.read().decode(errors="replace").strip().splitlines()
    except (OSError, ClientError):
        return ""
    return lines[-1].strip() if lines else ""


def stop_nodes(
    nodes: Sequence[NodePlace],
    processes: Sequence[subprocess.Popen[bytes]] = (),
    hurry: Callable[[], bool] = lambda: False,
) -> list[str]:
    """Stop nodes: SIGTERM, and SIGKILL after STOP_SECONDS (or when `hurry()`); return the names that had to be killed.

    `processes` are those that are our own children, to be reaped. Raises ClientError for one that outlives SIGKILL.
    """
    for node in nodes:
        _signal(node, signal.SIGTERM)
        _signal(node, signal.SIGCONT)  # a frozen node would not hear it
    deadline = time.monotonic() + STOP_SECONDS
    while any(node.pid() is not None for node in nodes) and time.monotonic() < deadline and not hurry():
        time.sleep(0.02)
    killed = [node for node in nodes if node.pid() is not None]
    for node in killed:
        _signal(node, signal.SIGKILL)
    deadline = time.monotonic() + KILL_SECONDS
    while left := [node for node in killed if node.pid() is not None]:
        if time.monotonic() >= deadline:
            raise ClientError(f"{left[0].name} does not end: a process holds {left[0].lock}; end it, then try again")
        time.sleep(0.02)
    for process in processes:
        process.wait()
    return [node.name for node in killed]


def _signal(node: NodePlace, number: int) -> None:
    pid = node.pid()
    if pid:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
