"""Receipts on their way from a recipient's owner to the sender's sessions.

Best effort: the truth is the record's state, which a sender may ask for. What comes up in one turn of the event loop
goes to each node in one event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

import structlog

from coterie_node.replication.configuration import SlotTable
from coterie_node.runtime.ports import Handlers, Peers, Tasks
from coterie_protocol.chat import DeliverReceipts, RouteReceipts
from coterie_protocol.errors import CoterieError
from coterie_protocol.identifiers import Uid, slot_of_name
from coterie_protocol.registers import ConfigKnown
from coterie_protocol.weight import FRAME, weight_of_receipt

from ..ports import Routing

log = structlog.get_logger()

Item = tuple[str, str, bytes, int, int]
"""(sender, to, id, state, Unix ms)."""
FRAME_BYTES = 256 * 1024
"""Where a frame of receipts closes."""
LOCATE_TIMEOUT = 6.0
"""Seconds for which receipts wait until it is known who acts for their sender."""
MOST_WAITING = 20_000
"""Receipts that wait for that at once, some 6 MB; more are dropped."""


class Receipts:
    """Routes receipts to the owners of their senders, and from there to the gateways at which these have sessions.

    An owner need not know the slot of a sender: it may hold nothing of it, and after a start knows only its own slots.
    So who acts for it is looked for, as for any request. A node that does not act for a sender passes on once.
    """

    def __init__(
        self,
        table: SlotTable,
        router: Routing,
        peers: Peers,
        handlers: Handlers,
        tasks: Tasks,
        gateways: Callable[[str], Iterable[Uid]],
        deliver: Callable[[Sequence[Item]], None],
    ) -> None:
        self._table = table
        self._router = router
        self._peers = peers
        self._tasks = tasks
        self._gateways = gateways
        self._deliver = deliver
        self._routing: list[Item] = []
        self._waiting: dict[int, list[Item]] = {}
        """By slot: receipts of which the sender's owner is being looked for."""
        self._kept = 0
        """How many these are."""
        self.routed = 0
        """Receipts given out since the start, for metrics."""
        handlers.on_event(RouteReceipts, self._arrived)
        handlers.on_event(DeliverReceipts, lambda _, message: self._deliver(message.items))

    def route(self, items: Sequence[Item]) -> None:
        """Send receipts towards their senders."""
        self.routed += len(items)
        self._route(items)

    def _route(self, items: Sequence[Item]) -> None:
        if items and not self._routing:
            asyncio.get_running_loop().call_soon(self._flush)
        self._routing += items

    def _flush(self) -> None:
        items, self._routing = self._routing, []
        by_owner: dict[Uid, list[Item]] = {}
        for item in items:
            slot = slot_of_name(item[0], self._table.slots)
            owner = self._router.acting(slot)
            if owner is not None:
                by_owner.setdefault(owner, []).append(item)
            else:
                self._keep(slot, item)
        for owner, some in by_owner.items():
            if owner == self._peers.me:
                self._spread(some)
            else:
                self._send(owner, some)

    def _send(self, owner: Uid, items: Sequence[Item], *, passed_on: bool = False) -> None:
        for part in frames_of(items):
            self._peers.send(owner, RouteReceipts(part, passed_on))

    def _keep(self, slot: int, item: Item) -> None:
        if self._kept >= MOST_WAITING:
            return
        self._kept += 1
        if slot not in self._waiting:
            self._waiting[slot] = []
            self._tasks.start(self._locate(slot), "find the owner of a receipt's sender")
        self._waiting[slot].append(item)

    async def _locate(self, slot: int) -> None:
        found = False
        try:
            await self._router.locate(slot, LOCATE_TIMEOUT)
            found = True
        except CoterieError as error:
            # The senders' clients ask for the states by and by.
            log.debug("receipts dropped", slot=slot, code=error.wire_code.name)
        finally:
            items = self._waiting.pop(slot)
            self._kept -= len(items)
        if found:
            self._route(items)

    def _arrived(self, sender: Uid, message: RouteReceipts) -> None:
        """Spread what came to this node as its senders' owner; pass on what is for another, and say who that is."""
        here: list[Item] = []
        by_owner: dict[Uid, list[Item]] = {}
        moved: set[int] = set()
        for item in message.items:
            slot = slot_of_name(item[0], self._table.slots)
            owner = self._router.acting(slot)
            if owner is None or owner in (self._peers.me, sender) or message.passed_on or self._gateways(item[0]):
                here.append(item)
            else:
                by_owner.setdefault(owner, []).append(item)
                moved.add(slot)
        self._spread(here)
        for owner, some in by_owner.items():
            self._send(owner, some, passed_on=True)
        known = [one for slot in moved if (one := self._table.known(slot)) is not None]
        if known and sender != self._peers.me:
            self._peers.send(sender, ConfigKnown(known))

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
