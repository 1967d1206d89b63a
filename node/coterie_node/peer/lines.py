"""What is logged of those at the peer port who are no peers, or bad ones: at a rate that they cannot set."""

from __future__ import annotations

import structlog

from ..logs.ration import Ration

log = structlog.get_logger()


class Lines:
    """The lines of one node's peer port."""

    def __init__(self) -> None:
        self.broke = Ration(log.warning, "a connection to the peer port broke the protocol")
        self.refused = Ration(log.warning, "a peer was refused")
        self.twin = Ration(log.error, "a node runs with a copy of this node's data")
        self.cut = Ration(log.warning, "a peer broke the protocol; the link is cut")
        self.unreadable = Ration(log.warning, "a frame of a peer is not understood")
        self.slow = Ration(log.warning, "a peer takes too little of what is sent to it; the link is cut")

    def tell(self) -> None:
        """Say how many were left out."""
        for ration in (self.broke, self.refused, self.twin, self.cut, self.unreadable, self.slow):
            ration.tell()
