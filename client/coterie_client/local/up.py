"""`coterie up`: a ring of real node processes on this machine."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from coterie_protocol.words import counted

from .. import terminal
from ..errors import ClientError, UsageError
from ..output import note, out, out_line
from . import admin
from .commands import DEFAULT_NODES, DEFAULT_PORT
from .hints import next_steps
from .live import LiveTable
from .place import NodePlace, RingFile, RingPlace
from .process import check_ports, last_words, node_command, start_node, stop_nodes
from .stopping import Stopping
from .table import without_quorum

if TYPE_CHECKING:
    from coterie_protocol.admin import RingReport

START_SECONDS = 60.0
POLL_SECONDS = 0.05
REFRESH_SECONDS = 1.0

Started = list[tuple[NodePlace, subprocess.Popen[bytes]]]


def up(directory: Path | None, nodes: int | None, factor: int | None, port: int | None, *, detach: bool) -> int:
    """Found a ring or start it again; return the exit code. Raises ClientError."""
    place = RingPlace(directory)
    old = place.load()
    ring = _settle(old, nodes, factor, port)
    if old is None and place.worker() is None:
        check_ports(place.nodes(ring))  # before anything is made that would be left over
    place.make()
    with place.working(), Stopping() as stopping:
        down = [node for node in place.nodes(ring) if node.pid() is None]
        if len(down) < ring.nodes:
            if old is not None and ring.port != old.port:
                raise UsageError(
                    f"the ring in {place.directory} is running at port {old.port}; to move it run first: "
                    f"coterie down --dir {shlex.quote(str(place.directory))}"
                )
            detach = True  # some run already, detached: those that join them shall live as long
        if not down:
            out_line(f"The ring in {place.directory} is running already: {counted(ring.nodes, 'node')}")
            return 0
        check_ports(down)
        place.save(ring)
        started: Started = []
        try:
            note(f"Starting {counted(len(down), 'node')} in {place.directory}")
            started.extend(
                (node, start_node(node, node_command(node, place.nodes(ring), ring, place.token_file), detach=detach))
                for node in down
                if not stopping.requested
            )
            wait_until_ready(place, ring, started, stopping)
            if stopping.requested:
                return stopping.exit_code
            out(terminal.lines(next_steps(place, ring, detached=detach).splitlines()))
            if detach:
                started.clear()
                return 0
            _show(place.nodes(ring), started, stopping)
            return stopping.exit_code
        finally:
            if started:
                _stop(started, stopping)


def _settle(old: RingFile | None, nodes: int | None, factor: int | None, port: int | None) -> RingFile:
    """Return the ring's settings: what was asked for, else what it had, else the defaults. Raises UsageError."""
    count = nodes or (old.nodes if old else DEFAULT_NODES)
    k = factor or (old.replication_factor if old else 3 if count >= 3 else 1)
    first = port or (old.port if old else DEFAULT_PORT)
    if old and old.ring_uid and k != old.replication_factor:
        raise UsageError(
            f"this ring was founded with the replication factor {old.replication_factor}, which stays; "
            "for another one start a new ring with --dir"
        )
    if old and count < old.nodes:
        raise UsageError(
            f"this ring has {counted(old.nodes, 'node')}, some of whose copies would be missing with {count}; "
            "start all of them, or start a new ring with --dir"
        )
    if count < 1 or k < 1 or k > count:
        raise UsageError(
            f"{counted(count, 'node')} cannot keep {counted(k, 'copy', 'copies')} of everything; "
            f"use --nodes {max(count, k, 1)} or a smaller --replication-factor"
        )
    if not 1 <= first <= 65535 - 10 * count:
        raise UsageError(f"--port {first} leaves no room for {counted(count, 'node')} below 65536; use a lower one")
    return RingFile(count, k, first, old.ring_uid if old else "")


def wait_until_ready(place: RingPlace, ring: RingFile, started: Started, stopping: Stopping) -> None:
    """Wait until accounts can be made, and note the ring's uid. Raises ClientError saying what is missing."""
    nodes = place.nodes(ring)
    deadline = time.monotonic() + START_SECONDS
    waiting = list(nodes)
    why = "no node answers"
    while not stopping.requested:
        _check_running(started)
        if time.monotonic() > deadline:
            raise ClientError(
                f"the ring is not ready after {START_SECONDS:.0f} s: {why}; see the logs in {place.directory}"
            )
        try:
            while waiting:
                found = admin.readiness(waiting[0].admin_url)
                if not found.ready:
                    why = f"{waiting[0].name} is {found.state} ({'; '.join(found.reasons) or 'no reason given'})"
                    break
                waiting.pop(0)
            else:
                report = admin.ring_report(nodes[0].admin_url)
                ready = sum(member.state == "ready" for member in report.members)
                if ready >= ring.nodes and not report.slots_forming and not without_quorum(report):
                    if ring.ring_uid != report.ring_uid:
                        ring.ring_uid = report.ring_uid
                        place.save(ring)
                    return
                forming = counted(report.slots_forming, "slot")
                why = f"{ready} of {counted(ring.nodes, 'node')} ready, {forming} still forming"
        except ClientError as error:
            why = str(error)
        stopping.wait(POLL_SECONDS)


def _check_running(started: Started) -> None:
    for node, process in started:
        code = process.poll()
        if code is not None:
            raise ClientError(
                f"{node.name} stopped while starting (exit code {code}): {last_words(node.log)} (its log: {node.log})"
            )


def _show(nodes: list[NodePlace], started: Started, stopping: Stopping) -> None:
    """Show the ring until it is to stop, or until no node is left."""
    table = LiveTable(sys.stdout)
    lost: set[str] = set()
    while not stopping.requested:
        for node, process in started:
            code = process.poll()
            if code is not None and node.name not in lost:
                lost.add(node.name)
                table.note(f"{node.name} has stopped (exit code {code}); the next coterie up starts it again")
        if len(lost) == len(started):
            raise ClientError(f"all nodes have stopped: {last_words(nodes[0].log)} (log: {nodes[0].log})")
        table.show(_report(nodes, lost))
        stopping.wait(REFRESH_SECONDS)
    table.close()


def _report(nodes: list[NodePlace], lost: set[str]) -> RingReport | None:
    for node in nodes:
        if node.name not in lost:
            try:
                return admin.ring_report(node.admin_url, timeout=2.0)
            except ClientError:
                continue
    return None


def _stop(started: Started, stopping: Stopping) -> None:
    running = sum(process.poll() is None for _, process in started)
    note(f"Stopping {counted(running, 'node')}; the data stay")
    presses = stopping.count
    killed = stop_nodes(
        [node for node, _ in started], [process for _, process in started], lambda: stopping.count > presses
    )
    if killed:
        note(f"had to kill {', '.join(killed)}; nothing that was acknowledged is lost by that")
