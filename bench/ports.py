"""Ports for rings that exist only for a while."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket

LOWEST, HIGHEST, BLOCK = 10000, 32000, 200
_candidates = itertools.cycle(range(LOWEST, HIGHEST, BLOCK))
next(itertools.islice(_candidates, os.getpid() % 100, None))  # other processes begin elsewhere


def free_port(nodes: int) -> int:
    """Return a first client port such that all ports that `nodes` nodes need are free just now; each time others.

    They lie below the range from which the system takes ports for outgoing connections.
    """
    for first in itertools.islice(_candidates, (HIGHEST - LOWEST) // BLOCK):
        with contextlib.ExitStack() as stack:
            try:
                for port in (first + 10 * i + j for i in range(nodes) for j in range(3)):
                    stack.enter_context(socket.create_server(("127.0.0.1", port)))
            except OSError:
                continue
            return first
    raise RuntimeError("no free ports")
