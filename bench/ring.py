"""A ring of real node processes for the bench: those of `coterie up`, on one core."""

from __future__ import annotations

import contextlib
import os
import pstats
import subprocess
from collections.abc import Iterator
from pathlib import Path

from coterie_client.local.place import NodePlace, RingFile, RingPlace
from coterie_client.local.process import node_command, start_node, stop_nodes
from coterie_client.local.stopping import Stopping
from coterie_client.local.up import wait_until_ready

from .ports import free_port

SETTINGS = {"COTERIE_NODE_BCRYPT_COST": "4", "COTERIE_NODE_SENDS_PER_SECOND": "1000000"}
"""Registering 64 accounts is not what is measured, and one client may be as fast as it can."""


@contextlib.contextmanager
def running_ring(directory: Path, nodes: int, profile: Path | None) -> Iterator[tuple[list[str], list[int]]]:
    """Start a ring on the cores that this process may use just now; yield the nodes' client addresses and pids.

    `profile`: where the first node's profile goes when it stops.
    """
    place = RingPlace(directory)
    ring = RingFile(nodes, min(3, nodes), free_port(nodes))
    place.make()
    os.environ.update(SETTINGS)
    started: list[tuple[NodePlace, subprocess.Popen[bytes]]] = []
    with Stopping() as stopping:
        try:
            for node in place.nodes(ring):
                command = node_command(node, place.nodes(ring), ring, place.token_file)
                if profile is not None and not started:
                    command[1:1] = ["-m", "bench.profiled", str(profile)]
                started.append((node, start_node(node, command, detach=False)))
            wait_until_ready(place, ring, started, stopping)
            if stopping.requested:
                raise KeyboardInterrupt
            urls = [f"ws://127.0.0.1:{node.client_port}" for node, _ in started]
            yield urls, [process.pid for _, process in started]
        finally:
            stop_nodes([node for node, _ in started], [process for _, process in started])


def print_profile(path: Path, lines: int) -> None:
    """Print where the time went: the functions that took most themselves."""
    pstats.Stats(str(path)).strip_dirs().sort_stats("tottime").print_stats(lines)
