"""A ring that is played: what a node's page is shown is set by hand (`PageSource`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from coterie_protocol.admin import (
    Member,
    NodeReport,
    Operation,
    Readiness,
    RecordCounts,
    RecoveryReport,
    RingReport,
    SlotCounts,
    SlotReport,
)
from coterie_protocol.admin_page import Trace, TraceHop
from coterie_protocol.errors import Unavailable

SLOTS = 1024


def member(number: int, count: int = 4, state: str = "ready", records: int = 0) -> Member:
    """One of `count` nodes that stand evenly around the ring."""
    uid = f"{number:032x}"
    return Member(
        uid=uid, name=f"node-{number}", position=number * SLOTS // count, position_ratio=number / count,
        arc_share=1 / count, slots=SlotCounts(SLOTS // count, 2 * SLOTS // count, 0),
        records=RecordCounts(records, 0, 0), state=state, slots_under_replicated=0, peer="127.0.0.1:7401",
        client="127.0.0.1:7400", admin="127.0.0.1:7402", successors=[f"{(number + 1) % count:032x}"], predecessor=None,
    )  # fmt: skip


class Stage:
    """A node's view (`NodeView`) that reports what it is told to, and counts how often it is asked."""

    def __init__(self, members: Iterable[Member] = ()) -> None:
        self.members = list(members) or [member(number) for number in range(4)]
        self.ring_uid = "ab" * 16
        self.fault: Exception | None = None
        self.looks = 0
        self.traced: list[int] = []
        self.watchers: list[Callable[[], None]] = []

    def show(self, members: Iterable[Member]) -> None:
        """Show these, and say that something has changed."""
        self.members = list(members)
        for callback in self.watchers:
            callback()

    def watch(self, callback: Callable[[], None]) -> None:
        self.watchers.append(callback)

    def readiness(self) -> Readiness:
        return Readiness(True, "ready", []) if self.ring_uid else Readiness(False, "joining", ["waiting for a ring"])

    async def node_report(self) -> NodeReport:
        me = self.members[0]
        return NodeReport(
            uid=me.uid, name=me.name, version="0.1.0", ring_uid=self.ring_uid, state="ready", reasons=[],
            position=me.position, replication_factor=3, slots=me.slots, records=me.records, sessions=0,
            slots_under_replicated=0, uptime_seconds=1.5, successors=me.successors, predecessor=None,
        )  # fmt: skip

    async def ring_report(self) -> RingReport:
        self.looks += 1
        if self.fault is not None:
            raise self.fault
        if not self.ring_uid:
            raise Unavailable("this node is in no ring yet")
        return RingReport(self.ring_uid, 3, SLOTS, list(self.members), 0, 0)

    def slots(self) -> int:
        if not self.ring_uid:
            raise Unavailable("this node is in no ring yet")
        return SLOTS

    async def lookup(self, slot: int) -> Trace:
        self.traced.append(slot)
        first, second = self.members[:2]
        hop = TraceHop(second.uid, second.name, second.position, True, 0.001)
        return Trace(slot, slot / SLOTS, first.uid, [hop], second.uid, [], [])

    async def slot_reports(self, state: str | None) -> list[SlotReport]:
        return []

    async def operations(self) -> list[Operation]:
        return []

    async def leave(self) -> None: ...

    async def cancel_leave(self) -> None: ...

    async def move(self, position: int) -> None: ...

    async def recover(self, ring_uid: str | None) -> RecoveryReport:
        return RecoveryReport(self.ring_uid, False, {}, [])
