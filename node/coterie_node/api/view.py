"""What the admin API shows and does, over the node's rooms."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

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
from coterie_protocol.admin_messages import MemberQuery, MemberReport
from coterie_protocol.errors import CoterieError, ErrorCode
from coterie_protocol.words import counted, listed

from ..telling import tell
from .ports import Facts, RepairPort, RingPort, StraysPort
from .recovering import RecoveryPort, recover
from .slot_roles import Part
from .tracing import traced
from .walk import address, ratio, walk

if TYPE_CHECKING:
    from coterie_node.replication.configuration import SlotTable
    from coterie_node.runtime.ports import Clock, Handlers, Peers, Store, Tx
    from coterie_protocol.admin_page import Trace
    from coterie_protocol.identifiers import Uid
    from coterie_protocol.nodes import NodeRef
    from coterie_protocol.registers import KnownConfig


class View:
    """The admin API's NodeView over the node's rooms."""

    def __init__(
        self,
        ring: RingPort,
        table: SlotTable,
        repair: RepairPort,
        strays: StraysPort,
        recovery: RecoveryPort,
        peers: Peers,
        store: Store,
        clock: Clock,
        facts: Facts,
    ) -> None:
        self._ring = ring
        self._table = table
        self._repair = repair
        self._strays = strays
        self._recovery = recovery
        self._peers = peers
        self._store = store
        self._clock = clock
        self._facts = facts
        self._started = clock.now()
        self._leaving_since = ""
        self.part = Part(table, peers.me)
        self._watchers: list[Callable[[], None]] = []
        table.watch(lambda _, __: self._tell())
        ring.watch(self._tell)
        peers.watch(lambda _, __: self._tell())

    def register(self, handlers: Handlers) -> None:
        """Answer other nodes that report on the ring."""
        handlers.on_request(MemberQuery, self._answer)

    # --- How this node is -----------------------------------------------------------------------------------------

    def readiness(self) -> Readiness:
        """Say whether this node is ready, and if not, why."""
        state, reasons = self._state()
        if fault := self._facts.store_fault():
            reasons.append(f"the store cannot be written: {fault}")
        partly, cut_off = self._majority(state)
        ready = state == "ready" and not reasons and not cut_off
        return Readiness(ready, state, [*reasons, *partly])

    def _majority(self, state: str) -> tuple[list[str], bool]:
        """Say which slots have no majority, and whether the node is of no use because none has.

        As long as some have, clients are as well served here as elsewhere.
        """
        if state in ("joining", "forming", "left"):
            return [], False
        acting = self.part.acting()
        away = f"cannot reach {self._names(acting.missing)}"
        if acting.cut_off:
            return [f"no slot of this node has a majority of its members: it {away}"], True
        if acting.without_quorum:
            slots = counted(acting.without_quorum, "slot that it acts for has", "slots that it acts for have")
            return [f"{slots} no majority: it {away}"], False
        return [], False

    def _names(self, uids: Iterable[Uid]) -> str:
        refs = {uid: self._peers.ref(uid) for uid in uids}
        return listed(sorted(ref.name if ref is not None and ref.name else uid for uid, ref in refs.items()))

    def _state(self) -> tuple[str, list[str]]:
        me, factor = self._ring.me, self._table.replication_factor
        if returning := self._facts.returning():
            return "joining", [returning]
        members = self.part.configs()
        if me.leaving:
            if members:
                return "leaving", [
                    f"leaving: {counted(len(members), 'slot still names', 'slots still name')} this node"
                ]
            # Who takes a node away that has left takes its disk: nothing may lie on it that others still need.
            if held := self._strays.remaining()[0]:
                return "leaving", [
                    f"leaving: the contents of {counted(held, 'slot')} are still being given to their members"
                ]
            return "left", ["it has left"]
        if not self._facts.ring_uid() or me.position < 0:
            return "joining", [self._facts.waiting_for()]
        if forming := self.part.forming:
            wait = counted(forming, "slot waits", "slots wait")
            return "forming", [f"{wait} until the ring has {counted(factor, 'node')} and they have been handed over"]
        if not members and 1 + len({ref.uid for ref in self._ring.successors()} - {me.uid}) < factor:
            return "forming", [f"the ring has fewer than {counted(factor, 'node')}"]
        if not self._facts.synced():
            return "syncing", ["comparing its records with the other members' after the start"]
        return "ready", []

    def watch(self, callback: Callable[[], None]) -> None:
        """Call back when a neighbour, a link or a slot's members have changed; often, and from within."""
        self._watchers.append(callback)

    def _tell(self) -> None:
        tell(self._watchers)

    async def node_report(self) -> NodeReport:
        """Report on this node."""
        slots, records = await self._counts()
        ready = self.readiness()
        predecessor = self._ring.predecessor()
        return NodeReport(
            uid=self._peers.me,
            name=self._ring.me.name,
            version=self._facts.version,
            ring_uid=self._facts.ring_uid(),
            state=ready.state,
            reasons=ready.reasons,
            position=self._ring.me.position,
            replication_factor=self._table.replication_factor,
            slots=slots,
            records=records,
            sessions=self._facts.sessions(),
            slots_under_replicated=len(self._repair.under_replicated()),
            uptime_seconds=round(self._clock.now() - self._started, 3),
            successors=[ref.uid for ref in self._ring.successors()],
            predecessor=predecessor.uid if predecessor else None,
            slots_without_quorum=self.part.acting().without_quorum,
        )

    async def _counts(self) -> tuple[SlotCounts, RecordCounts]:
        """Count slots and records by role: owner (users), replica (backups), held though no member."""
        contents = await self._store.read(_contents)
        acting = self.part.acting()
        slots = {**acting.counts, "held": 0}
        records = {"users": 0, "backups": 0, "held": 0}
        for slot, (accounts, mail) in contents.items():
            role = acting.roles.get(slot)
            if role is None:
                # No register of its own is here: known to be a member it may be all the same.
                member = self._table.member_of(slot)
                role = "users" if slot in acting.slots else "backups" if member else "held"
                slots[role] += 1
            records[role] += accounts + mail
        return SlotCounts(**slots), RecordCounts(**records)

    # --- The whole ring ---------------------------------------------------------------------------------------------

    async def ring_report(self) -> RingReport:
        """Report on the whole ring, as far as it answers."""
        return await walk(self._peers, await self._report(), self._facts.ring_uid(), self._table)

    async def _answer(self, _: Uid, __: MemberQuery) -> MemberReport:
        return await self._report()

    async def _report(self) -> MemberReport:
        """Report this node's own line."""
        slots, records = await self._counts()
        acting = self.part.acting()
        me, predecessor = self._ring.me, self._ring.predecessor()
        member = Member(
            uid=me.uid,
            name=me.name,
            position=me.position,
            position_ratio=ratio(me.position, self._table.slots),
            arc_share=0.0,
            slots=slots,
            records=records,
            state=self.readiness().state,
            slots_under_replicated=len(self._repair.under_replicated()),
            peer=me.address,
            client=address(me, me.client_port),
            admin=address(me, me.admin_port),
            successors=[ref.uid for ref in self._ring.successors()],
            predecessor=predecessor.uid if predecessor else None,
            slots_forming=acting.forming,
            fingers=[ref.uid for ref in self._ring.fingers()],
            sessions=self._facts.sessions(),
            messages=self._facts.messages(),
            handovers=acting.handovers,
            slots_without_quorum=acting.without_quorum,
        )
        return MemberReport(member, self._near(acting.named), acting.bitmap, acting.short)

    def _near(self, named: Iterable[Uid]) -> list[NodeRef]:
        """Return the neighbours on the circle and everybody whom a configuration names beside this node."""
        predecessor = self._ring.predecessor()
        near = {ref.uid: ref for ref in (*self._ring.successors(), *([predecessor] if predecessor else []))}
        for uid in named:
            if uid not in near and (ref := self._peers.ref(uid)) is not None:
                near[uid] = ref
        near.pop(self._peers.me, None)
        return list(near.values())

    def slots(self) -> int:
        """Return S, into how many slots the circle is cut."""
        return self._table.slots

    async def lookup(self, slot: int) -> Trace:
        """Look up who owns a slot, from this node, hop by hop."""
        return traced(self._table, self._ring.me, slot, *await self._ring.trace(slot))

    # --- Slots and operations -----------------------------------------------------------------------------------------

    async def slot_reports(self, state: str | None) -> list[SlotReport]:
        """Report on the slots of which this node holds a register or records."""
        contents = await self._store.read(_contents)
        under = set(self._repair.under_replicated())
        reports = []
        for slot in sorted({*contents, *self._table.own_slots()}):
            known = self._table.known(slot)
            accounts, records = contents.get(slot, (0, 0))
            found = self._slot_state(slot, known, under, holds=bool(accounts or records))
            if found and state in (None, found):
                reports.append(
                    SlotReport(
                        slot=slot,
                        epoch=known.config.epoch if known else 0,
                        state=found,
                        old=list(known.config.old) if known else [],
                        new=list(known.config.new) if known else [],
                        acting=self._table.acting(slot),
                        accounts=accounts,
                        records=records,
                    )
                )
        return reports

    def _slot_state(self, slot: int, known: KnownConfig | None, under: set[int], *, holds: bool) -> str:
        """Return one of SLOT_STATES, or "" for a slot with which this node has nothing to do any more."""
        if known is None or self._peers.me not in known.config.members:
            return "stray" if holds else ""
        if known.config.joint:
            return "joint"
        return "under_replicated" if slot in under else "plain"

    async def operations(self) -> list[Operation]:
        """Report on what is under way: leaving, slots in hand-over, slots to be repaired, records to be given away."""
        configs = self.part.configs()
        joint = sum(known.config.joint and self._table.acts(known.slot) for known in configs)
        under, strays = len(self._repair.under_replicated()), len(await self.slot_reports("stray"))
        since = self._leaving_since or _now(self._clock)
        found = []
        if self._ring.me.leaving:
            left = len(configs) + strays
            state = "running" if left else "done"
            found.append(
                Operation(
                    "leave", state, self._table.slots - left, self._table.slots, since, f"{counted(left, 'slot')} to go"
                )
            )
        for kind, left, detail in (
            ("handover", joint, "slots in a joint configuration"),
            ("repair", under, "slots whose members are not all live and in sync"),
            ("strays", strays, "slots whose records are kept for their members"),
        ):
            if left:
                found.append(Operation(kind, "running", 0, left, _now(self._clock), detail))
        return found

    # --- Changes ---------------------------------------------------------------------------------------------------

    async def leave(self) -> None:
        """Begin to leave; refused while the rest of the ring could not hold K copies."""
        if self._ring.me.leaving:
            return
        report = await self.ring_report()
        rest = sum(member.state == "ready" for member in report.members if member.uid != self._peers.me)
        if rest < self._table.replication_factor:
            copies = counted(self._table.replication_factor, "copy", "copies")
            raise CoterieError(
                f"the other {counted(rest, 'ready node')} cannot hold {copies}; add a node first",
                code=ErrorCode.BUSY,
            )
        self._leaving_since = _now(self._clock)
        self._ring.leave()

    async def cancel_leave(self) -> None:
        """Stay after all."""
        self._leaving_since = ""
        self._ring.cancel_leave()

    async def move(self, position: int) -> None:
        """Stand at another slot's first identifier."""
        if not 0 <= position < self._table.slots:
            raise CoterieError(
                f"position {position} is no slot of this ring: use 0 to {self._table.slots - 1}",
                code=ErrorCode.BAD_REQUEST,
            )
        await self._ring.move(position)

    async def recover(self, ring_uid: str | None) -> RecoveryReport:
        """Begin slots anew that lost their majority for good; None only looks."""
        return await recover(self._recovery, await self.ring_report(), ring_uid)


def _contents(tx: Tx) -> dict[int, tuple[int, int]]:
    """Return (accounts, records) by slot, empty slots left out."""
    accounts, records = tx.slots_with_accounts(), tx.slots_with_records()
    return {slot: (accounts.get(slot, 0), records.get(slot, 0)) for slot in {*accounts, *records}}


def _now(clock: Clock) -> str:
    return datetime.fromtimestamp(clock.wall_ms() / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
