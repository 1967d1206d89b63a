"""What the admin port shows before the node has its rooms: that it lives, and what it waits for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from coterie_protocol.admin import (
    NodeReport,
    Operation,
    Readiness,
    RecordCounts,
    RecoveryReport,
    RingReport,
    SlotCounts,
    SlotReport,
)
from coterie_protocol.admin_page import Trace
from coterie_protocol.errors import Unavailable
from coterie_protocol.nodes import NodeRef

from ..telling import tell

if TYPE_CHECKING:
    from ..api.admin import NodeView


class LateView:
    """The admin API's NodeView: a short answer at first, the whole one once the node takes part in a ring."""

    def __init__(self, me: Callable[[], NodeRef], version: str, waiting: Callable[[], str]) -> None:
        self._me = me
        self._version = version
        self._waiting = waiting
        self._view: NodeView | None = None
        self._watchers: list[Callable[[], None]] = []

    def become(self, view: NodeView) -> None:
        """Answer as this view does from now on."""
        self._view = view
        for callback in self._watchers:
            view.watch(callback)
        tell(self._watchers)

    def watch(self, callback: Callable[[], None]) -> None:
        """Call back when the ring has changed nearby."""
        self._watchers.append(callback)
        if self._view is not None:
            self._view.watch(callback)

    def readiness(self) -> Readiness:
        """Say whether this node is ready, and if not, why."""
        if self._view is not None:
            return self._view.readiness()
        return Readiness(False, "joining", [self._waiting()])

    async def node_report(self) -> NodeReport:
        """Report on this node."""
        if self._view is not None:
            return await self._view.node_report()
        me = self._me()
        return NodeReport(
            uid=me.uid,
            name=me.name,
            version=self._version,
            ring_uid="",
            state="joining",
            reasons=[self._waiting()],
            position=me.position,
            replication_factor=0,
            slots=SlotCounts(0, 0, 0),
            records=RecordCounts(0, 0, 0),
            sessions=0,
            slots_under_replicated=0,
            uptime_seconds=0.0,
            successors=[],
            predecessor=None,
        )

    async def ring_report(self) -> RingReport:
        """Report on the whole ring. Raises Unavailable before there is one."""
        return await self._ready().ring_report()

    def slots(self) -> int:
        """Return S. Raises Unavailable before there is a ring."""
        return self._ready().slots()

    async def lookup(self, slot: int) -> Trace:
        """Look up who owns a slot."""
        return await self._ready().lookup(slot)

    async def slot_reports(self, state: str | None) -> list[SlotReport]:
        """Report on slots."""
        return await self._ready().slot_reports(state)

    async def operations(self) -> list[Operation]:
        """Report on long work."""
        return [] if self._view is None else await self._view.operations()

    async def leave(self) -> None:
        """Begin to leave."""
        await self._ready().leave()

    async def cancel_leave(self) -> None:
        """Stay after all."""
        await self._ready().cancel_leave()

    async def move(self, position: int) -> None:
        """Stand elsewhere."""
        await self._ready().move(position)

    async def recover(self, ring_uid: str | None) -> RecoveryReport:
        """Begin slots anew that lost their majority for good."""
        return await self._ready().recover(ring_uid)

    def _ready(self) -> NodeView:
        if self._view is None:
            raise Unavailable(f"this node is in no ring yet: {self._waiting()}")
        return self._view
