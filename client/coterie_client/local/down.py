"""`coterie down`."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

from coterie_protocol.words import counted

from ..errors import ClientError, UsageError
from ..output import note, out_line
from .place import RingPlace
from .process import STOP_SECONDS, stop_nodes


def down(directory: Path | None, *, purge: bool, yes: bool) -> int:
    """Stop the ring in a directory, detached or not, and delete its data if that is wanted and confirmed."""
    place = RingPlace(directory)
    ring = place.load()
    if ring is None:
        out_line(f"There is no ring in {place.directory}")
        return 0
    if purge and not yes:
        _confirm(place, ring.nodes)
    _stop_worker(place)
    with place.working():
        nodes = [node for node in place.nodes(ring) if node.pid() is not None]
        killed = stop_nodes(nodes)
        if purge:
            place.purge(ring)
    _report(place, len(nodes), killed, purge=purge)
    return 0


def _confirm(place: RingPlace, nodes: int) -> None:
    if not sys.stdin.isatty():
        raise UsageError("--purge deletes the ring's data and nobody is there to ask; add --yes if that is meant")
    sys.stderr.write(
        f"Delete all accounts and messages of the ring in {place.directory} ({counted(nodes, 'node')})? [y/N] "
    )
    sys.stderr.flush()
    typed = sys.stdin.readline()
    if not typed.endswith("\n"):
        sys.stderr.write("\n")  # nobody has ended the prompt's line
    if typed.strip().lower() not in ("y", "yes"):
        raise ClientError("nothing was stopped or deleted")


def _stop_worker(place: RingPlace) -> None:
    """Ask a `coterie up` that holds the ring in the foreground to stop it, and wait for that."""
    pid = place.worker()
    if pid is None:
        return
    deadline = time.monotonic() + STOP_SECONDS + 5
    asked = 0
    while pid is not None and time.monotonic() < deadline:
        if pid not in (0, asked):  # 0: it has not written its pid yet, and would be our own process group
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGTERM)
            asked = pid
        time.sleep(0.05)
        pid = place.worker()


def _report(place: RingPlace, stopped: int, killed: list[str], *, purge: bool) -> None:
    if killed:
        note(f"had to kill {', '.join(killed)}: not done draining after {STOP_SECONDS:.0f} s")
    text = f"Stopped {counted(stopped, 'node')}" if stopped else "No node was running"
    text += f"; the data in {place.directory} are deleted" if purge else f"; the data stay in {place.directory}"
    out_line(text)
