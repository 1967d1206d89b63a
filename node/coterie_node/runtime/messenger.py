"""Messages between gateways and owners, which may be the same node."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from coterie_node.runtime.ports import Peers
from coterie_protocol.identifiers import Uid


class Local(Protocol):
    """Takes messages of this node to itself (`runtime.dispatch.Dispatcher`)."""

    async def request(self, sender: Uid, message: Any) -> Any:
        """Answer, or raise CoterieError."""
        ...

    def event(self, sender: Uid, message: Any) -> None:
        """Hand an event to the room that takes it."""
        ...


class Courier:
    """Reaches any node, this one included."""

    def __init__(self, peers: Peers, local: Local) -> None:
        self._peers = peers
        self._local = local
        self.me = peers.me

    def send(self, uid: Uid, message: Any) -> bool:
        """Send an event, in order for each node; False when there is no link. It may still be lost."""
        if uid == self.me:
            asyncio.get_running_loop().call_soon(self._local.event, uid, message)
            return True
        return self._peers.send(uid, message)

    async def request(self, uid: Uid, message: Any, timeout: float) -> Any:
        """Ask, and return the answer. Raises Unavailable, or the CoterieError that was answered."""
        if uid == self.me:
            return await self._local.request(uid, message)
        return await self._peers.request(uid, message, timeout)
