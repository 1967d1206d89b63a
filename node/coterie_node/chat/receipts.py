"""Receipts on their way from a recipient's owner to the sender's sessions.

Best effort: the truth is the record's state, which a sender may ask for. What comes up in one turn of the event loop
goes to each node in one event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

from coterie_node.replication.configuration import SlotTable
from coterie_node.replication.ports import Handlers, Peers
from coterie_protocol.chat import DeliverReceipts, RouteReceipts
from coterie_protocol.identifiers import Uid, slot_of_name
from coterie_protocol.weight import FRAME, weight_of_receipt

from .ports import Routing

Item = tuple[str, str, bytes, int, int]
"""(sender, to, id, state, Unix ms)."""
FRAME_BYTES = 256 * 1024
"""Where a frame of receipts closes."""


class Receipts:
    """Routes receipts to the owners of their senders, and from there to the gateways at which these have sessions."""

    def __init__(
        self,
        table: SlotTable,
        router: Routing,
        peers: Peers,
        handlers: Handlers,
        gateways: Callable[[str], Iterable[Uid]],
        deliver: Callable[[Sequence[Item]], None],
    ) -> None:
        self._table = table
        self._router = router
        self._peers = peers
        self._gateways = gateways
        self._deliver = deliver
        self._routing: list[Item] = []
        self.routed = 0
        """Receipts given out since the start, for metrics."""
        handlers.on_event(RouteReceipts, lambda _, message: self._spread(message.items))
        handlers.on_event(DeliverReceipts, lambda _, message: self._deliver(message.items))

    def route(self, items: Sequence[Item]) -> None:
        """Send receipts towards their senders."""
        if items and not self._routing:
            asyncio.get_running_loop().call_soon(self._flush)
        self._routing += items
        self.routed += len(items)

    def _flush(self) -> None:
        items, self._routing = self._routing, []
        by_owner: dict[Uid, list[Item]] = {}
        for item in items:
            owner = self._router.acting(slot_of_name(item[0], self._table.slots))
            if owner is not None:
                by_owner.setdefault(owner, []).append(item)
        for owner, some in by_owner.items():
            if owner == self._peers.me:
                self._spread(some)
            else:
                for part in frames_of(some):
                    self._peers.send(owner, RouteReceipts(part))

    def _spread(self, items: Sequence[Item]) -> None:
        by_gateway: dict[Uid, list[Item]] = {}
        for item in items:
            for gateway in self._gateways(item[0]):
                by_gateway.setdefault(gateway, []).append(item)
        for gateway, some in by_gateway.items():
            if gateway == self._peers.me:
                self._deliver(some)
            else:
                for part in frames_of(some):
                    self._peers.send(gateway, DeliverReceipts(part))


def frames_of(items: Sequence[Item]) -> list[list[Item]]:
    """Cut receipts into what one frame carries each."""
    parts: list[list[Item]] = []
    size = FRAME_BYTES
    for item in items:
        weight = weight_of_receipt(item[0], item[1], item[2])
        if size + weight > FRAME_BYTES:
            parts.append([])
            size = FRAME
        parts[-1].append(item)
        size += weight
    return parts
