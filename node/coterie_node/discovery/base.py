"""What every way of discovery offers: addresses at which a node of the ring may answer.

An address is a hint. Who answers there, and whether it belongs to the ring, is for the handshake of the link to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ..config.settings import Address


class Discovery(Protocol):
    """A way to find other nodes. It is asked again and again, more often while the node is alone."""

    async def start(self) -> None:
        """Begin; the node's own peer port is open by now. Raises ListenError."""
        ...

    async def close(self) -> None:
        """End."""
        ...

    async def addresses(self) -> Sequence[Address]:
        """Return where other nodes' peer ports may be, best first. Empty when nothing is known just now."""
        ...

    def describe(self) -> str:
        """Say for people where it looks, such as "the seeds 10.0.0.1:7401"; for a node that waits for its ring."""
        ...
