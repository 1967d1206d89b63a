"""`coterie ring`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .. import terminal
from ..addresses import check_admin
from ..errors import Unavailable
from ..output import json_line, out
from . import admin
from .commands import DEFAULT_NODES, DEFAULT_PORT
from .place import RingFile, RingPlace
from .table import ring_lines

if TYPE_CHECKING:
    from coterie_protocol.admin import RingReport


def show_ring(url: str | None, directory: Path | None, *, json: bool) -> int:
    """Print the ring's members; raises Unavailable when no node answers, UsageError when `url` is no address."""
    report = _local_ring(directory) if url is None else admin.ring_report(check_admin(url, "--admin"))
    if json:
        out(*(json_line(member) for member in report.members))
    else:
        out(terminal.lines(ring_lines(report)))
    return 0


def _local_ring(directory: Path | None) -> RingReport:
    """Ask the local ring's nodes in turn: the first may be the one that is down."""
    place = RingPlace(directory)
    known = place.load()
    if known is None and directory is not None:
        raise Unavailable(
            f"there is no ring in {place.directory}; found one with coterie up --dir, or name a node with --admin URL"
        )
    ring = known or RingFile(DEFAULT_NODES, 0, DEFAULT_PORT)
    for node in place.nodes(ring):
        try:
            return admin.ring_report(node.admin_url)
        except Unavailable:
            continue
    raise Unavailable(
        f"no node of the local ring answers (ports {ring.port + 2}, {ring.port + 12}, …); start it with coterie up, "
        "or name another ring's admin port with --admin URL"
    )
