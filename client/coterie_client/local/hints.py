"""What to type next, with the paths and ports that are right here."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from coterie_protocol.words import counted

from .commands import DEFAULT_PORT
from .place import default_directory

if TYPE_CHECKING:
    from .place import RingFile, RingPlace


def next_steps(place: RingPlace, ring: RingFile, *, detached: bool) -> str:
    """Return the text that is printed once the ring is ready."""
    coterie = _program()
    rows = [
        (f"export COTERIE_HOME=/tmp/{me}", *_servers(ring), f"{coterie} register {me}", f"{coterie} chat {other}")
        for me, other in (("alice", "bob"), ("bob", "alice"))
    ]
    copies = counted(ring.replication_factor, "copy", "copies")
    nodes = counted(ring.nodes, "node")
    here = "" if place.directory == default_directory() else f" --dir {shlex.quote(str(place.directory))}"
    stop = f"Stop it with: {coterie} down{here}" if detached else "Ctrl-C stops it; the data stay"
    return (
        f"\nThe ring is ready: {nodes}, {copies} of everything, in {place.directory}\n"
        "\nTwo people chat, each in a terminal of their own (COTERIE_HOME keeps them apart on one machine).\n"
        "Both register before either chats; a password has at least 8 characters:\n\n"
        f"{_beside(*rows)}\n{stop}\nWhat the ring looks like: {coterie} ring{here}\n"
        f"                  live: {place.nodes(ring)[0].admin_url}/\n\n"
    )


def _beside(left: Sequence[str], right: Sequence[str]) -> str:
    """Put two terminals' lines side by side, or below each other when they are long."""
    width = max(len(line) for line in left) + 4
    if width > 60:
        # Both accounts before either chat: whoever types line by line finds the other one there.
        chats = (f"{left[-1]}    # in the first terminal", f"{right[-1]}    # in the second one")
        return "".join(f"    {line}".rstrip() + "\n" for line in (*left[:-1], "", *right[:-1], "", *chats))
    return "".join(f"    {one.ljust(width)}{two}\n" for one, two in zip(left, right, strict=True))


def _servers(ring: RingFile) -> list[str]:
    """Return the line that tells a client where the ring is, unless it looks there anyway."""
    if ring.port == DEFAULT_PORT:
        return []
    urls = ",".join(f"ws://127.0.0.1:{ring.port + 10 * i}" for i in range(min(ring.nodes, 5)))
    return [f"export COTERIE_SERVERS={urls}"]


def _program() -> str:
    """Return how `coterie` is called here: by its bare name if that finds this very program."""
    here = Path(sys.argv[0]).absolute()
    found = shutil.which("coterie")
    if here.name != "coterie" or (found and os.path.samefile(found, here)):
        return "coterie"
    return shlex.quote(os.path.relpath(here) if here.is_relative_to(Path.cwd()) else str(here))
