"""Looks at the ring for all open pages of a node: one look a second however many pages are open, none without a page.

A look walks the whole ring, so it is made for everybody at once, and kept. Streams do not get a queue each: they ask
for what is newer than what they have sent, so a reader that is slow skips looks instead of piling them up.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

import msgspec
import structlog

from coterie_protocol.admin import RingReport
from coterie_protocol.admin_page import Change, LiveMember, Seat, Snapshot
from coterie_protocol.errors import CoterieError, Unavailable
from coterie_protocol.words import counted

from .seats import Seats

if TYPE_CHECKING:
    from coterie_protocol.admin import Member, NodeReport, Readiness

log = structlog.get_logger()

MOST_STREAMS = 32
"""Pages that may be open at a node, shared by those who look (`seats`); more are told to look from another one."""
EVERY = 1.0
"""Seconds between two looks while all is quiet."""
EVERY_MEMBER = 0.04
"""Seconds that each member adds to that above the first 25, so that a large ring costs no more than a small one."""
AT_MOST_EVERY = 0.25
"""Seconds between two looks however much happens: a hand-over changes a thousand slots one after the other."""
SETTLE = 0.05
"""Seconds from a change to the look at it: what comes together is seen together."""

_NOTHING = RingReport("", 0, 0, [], 0, 0)
_encode = msgspec.json.encode


class RingSource(Protocol):
    """Where a look comes from: the node's view, or a stage that plays a ring."""

    def readiness(self) -> Readiness:
        """Say whether this node is ready, and if not, why."""
        ...

    async def node_report(self) -> NodeReport:
        """Report on this node."""
        ...

    async def ring_report(self) -> RingReport:
        """Report on the whole ring. Raises Unavailable while the node is in none."""
        ...

    def watch(self, callback: Callable[[], None]) -> None:
        """Call back when something has changed that deserves a look; often, and from within."""
        ...


@dataclass(frozen=True)
class Look:
    """How the ring was at one moment."""

    number: int
    """Counts the looks that differed from the one before."""
    snapshot: Snapshot


class Gatherer:
    """The looks of one node, and who waits for them."""

    def __init__(self, source: RingSource) -> None:
        self._source = source
        self._seats = Seats(
            MOST_STREAMS,
            lambda seats: (
                f"{counted(seats, 'page')} look at the ring from here already; close one, or look from another node"
            ),
            lambda seats: (
                f"your address has {seats} of the {MOST_STREAMS} pages that may look at the ring from here, "
                "and the others need the rest; close one, or look from another node"
            ),
        )
        self._look: Look | None = None
        self._number = 0
        self._before: tuple[float, dict[str, Member]] = (0.0, {})
        self._newer = asyncio.Event()
        self._changed = asyncio.Event()
        self._work: asyncio.Task[None] | None = None
        self._told: tuple[int, int, bytes] = (0, 0, b"")
        self.closed = False
        self._node: NodeReport | None = None
        """Who this node is; asked once each time that the looks begin."""
        self._failing = False
        source.watch(self._changed.set)

    @property
    def streams(self) -> int:
        """Return how many streams are open."""
        return self._seats.taken

    @contextlib.contextmanager
    def seat(self, source: str) -> Iterator[None]:
        """Count a stream of a source (`origins.source_of`); the first sets the looks going and the last ends them.

        Raises Unavailable.
        """
        if self.closed:
            raise Unavailable("the node is stopping; look at the ring from another one")
        try:
            with self._seats.seat(source):
                if self._work is None:
                    self._work = asyncio.get_running_loop().create_task(self._go_on_looking(), name="ring page")
                yield
        finally:
            if not self._seats.taken:
                self._rest()

    async def after(self, number: int) -> Look | None:
        """Wait for a look with a greater number; None when the node stops."""
        while not self.closed and (self._look is None or self._look.number <= number):
            await self._newer.wait()
        return None if self.closed else self._look

    def change(self, before: Look, now: Look) -> bytes:
        """Return the event that leads from one look to another; made once for all streams that need it."""
        if self._told[:2] != (before.number, now.number):
            self._told = (before.number, now.number, event("change", difference(before.snapshot, now.snapshot)))
        return self._told[2]

    def close(self) -> None:
        """Look no more, and let every stream end."""
        self.closed = True
        self._rest()
        self._newer.set()

    def _rest(self) -> None:
        if self._work is not None:
            self._work.cancel()
            self._work = None
        self._look = None
        self._before = (0.0, {})

    async def _go_on_looking(self) -> None:
        loop = asyncio.get_running_loop()
        self._node = None
        while True:
            began = loop.time()
            self._changed.clear()
            self._take(await self._try_to_see(began))
            members = len(self._look.snapshot.members) if self._look is not None else 0
            await asyncio.sleep(began + AT_MOST_EVERY - loop.time())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(began + EVERY + EVERY_MEMBER * max(0, members - 25)):
                    await self._changed.wait()
                    await asyncio.sleep(SETTLE)

    def _take(self, snapshot: Snapshot) -> None:
        before = self._look
        if before is not None and same(before.snapshot, snapshot):
            return
        self._number += 1
        self._look = Look(self._number, snapshot)
        self._newer.set()
        self._newer = asyncio.Event()

    async def _try_to_see(self, now: float) -> Snapshot:
        """Look at the ring, or say why that cannot be: an open page must not take what was for what is."""
        try:
            found = await self._see(now)
        except Exception as error:
            if not self._failing:
                log.exception("the ring page cannot look at the ring")
            self._failing = True
            ready = self._source.readiness()
            why = f"the node cannot look at the ring ({type(error).__name__}); its log says how"
            return self._snapshot(now, ready.state, [*ready.reasons, why], _NOTHING)
        self._failing = False
        return found

    async def _see(self, now: float) -> Snapshot:
        if self._node is None:
            self._node = await self._source.node_report()
        ready = self._source.readiness()
        try:
            ring = await self._source.ring_report()
        except CoterieError as error:
            log.debug("no ring to look at", reason=error.detail)
            ring = _NOTHING
        return self._snapshot(now, ready.state, ready.reasons, ring)

    def _snapshot(self, now: float, state: str, reasons: list[str], ring: RingReport) -> Snapshot:
        node = self._node
        return Snapshot(
            at=_now(),
            seat=Seat(
                node.uid if node else "", node.name if node else "", node.version if node else "", state, reasons
            ),
            ring_uid=ring.ring_uid,
            replication_factor=ring.replication_factor,
            slots=ring.slots,
            slots_under_replicated=ring.slots_under_replicated,
            slots_unowned=ring.slots_unowned,
            slots_forming=ring.slots_forming,
            members=self._with_rates(now, ring.members),
            slots_without_quorum=ring.slots_without_quorum,
        )

    def _with_rates(self, now: float, members: list[Member]) -> list[LiveMember]:
        then, before = self._before
        self._before = (now, {member.uid: member for member in members if member.state != "unreachable"})
        return [_live(member, before.get(member.uid), now - then) for member in members]


def _live(member: Member, before: Member | None, seconds: float) -> LiveMember:
    """Add what a member has done since the look before. A node that was restarted counts from 0 again."""
    known = msgspec.structs.asdict(member)
    if before is None or member.state == "unreachable" or before.messages.accepted > member.messages.accepted:
        return LiveMember(**known)
    return LiveMember(
        **known,
        stored_per_second=round((member.messages.stored - before.messages.stored) / seconds, 1),
        delivered_per_second=round(max(0, member.messages.delivered - before.messages.delivered) / seconds, 1),
        records_per_second=round((_records(member) - _records(before)) / seconds, 1),
    )


def _records(member: Member) -> int:
    return member.records.users + member.records.backups + member.records.held


def same(one: Snapshot, two: Snapshot) -> bool:
    """Say whether two looks saw the same, whenever they were."""
    return msgspec.structs.replace(one, at=two.at) == two


def difference(before: Snapshot, now: Snapshot) -> Change:
    """Return what is different."""
    changed = {
        name: getattr(now, name)
        for name in Snapshot.__struct_fields__
        if name not in ("at", "members") and getattr(now, name) != getattr(before, name)
    }
    old = {member.uid: member for member in before.members}
    members = [member for member in now.members if old.pop(member.uid, None) != member]
    there = {member.uid for member in now.members}
    gone = [uid for uid in old if uid not in there]
    if members:
        changed["members"] = members
    if gone:
        changed["gone"] = gone
    return Change(at=now.at, **changed)


def event(kind: str, value: object) -> bytes:
    """Write an event as the stream carries it. JSON has no line breaks, whatever text is in it."""
    return b"event: " + kind.encode() + b"\ndata: " + _encode(value) + b"\n\n"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
