"""Walking the ring: every node is asked for its own line of the table.

No node keeps a picture of the others: the report is walked afresh over successor lists and slot configurations, so it
says who answers now, and who is named by a configuration and does not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
import structlog

from coterie_protocol.admin import Member, RecordCounts, RingReport, SlotCounts
from coterie_protocol.admin_messages import MemberQuery, MemberReport
from coterie_protocol.errors import CoterieError

if TYPE_CHECKING:
    from coterie_node.replication.configuration import SlotTable
    from coterie_node.runtime.ports import Peers
    from coterie_protocol.nodes import NodeRef

log = structlog.get_logger()

ASK_TIMEOUT = 1.0
"""Seconds that a node may take for its line; who takes longer is shown as unreachable."""


async def walk(peers: Peers, own: MemberReport, ring_uid: str, table: SlotTable) -> RingReport:
    """Walk the ring from this node on; who is named and does not answer is `unreachable`."""
    reports: dict[str, MemberReport] = {own.member.uid: own}
    silent: dict[str, NodeRef] = {}
    asked = {own.member.uid}
    asking: dict[asyncio.Task[MemberReport | None], NodeRef] = {}

    def ask(near: Sequence[NodeRef]) -> None:
        for ref in near:
            if ref.uid not in asked:
                asked.add(ref.uid)
                asking[asyncio.ensure_future(_ask(peers, ref))] = ref

    ask(own.near)
    try:
        while asking:  # Whoever is named is asked at once: the silent cost one time-out in all, not one a step.
            done, _ = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                ref, answer = asking.pop(task), task.result()
                if answer is None:
                    silent[ref.uid] = ref
                else:
                    reports[ref.uid] = answer
                    ask(answer.near)
    finally:
        for task in asking:
            task.cancel()
    members = _with_arcs([report.member for report in reports.values()], table.slots)
    acting = served = 0
    every = (1 << table.slots) - 1
    for report in reports.values():
        acts = int.from_bytes(report.acting, "little") & every
        acting |= acts
        served |= acts & ~int.from_bytes(report.short, "little")
    return RingReport(
        ring_uid=ring_uid,
        replication_factor=table.replication_factor,
        slots=table.slots,
        members=[*members, *(_unreachable(ref, table.slots) for ref in silent.values())],
        slots_under_replicated=sum(member.slots_under_replicated for member in members),
        slots_unowned=table.slots - acting.bit_count(),
        slots_forming=sum(member.slots_forming for member in members),
        slots_without_quorum=table.slots - served.bit_count(),
    )


async def _ask(peers: Peers, ref: NodeRef) -> MemberReport | None:
    peers.learn((ref,))
    try:
        answer = await peers.request(ref.uid, MemberQuery(), ASK_TIMEOUT)
    except CoterieError:
        return None
    except Exception:
        log.exception("a node's line of the table failed; it is shown as unreachable", peer=ref.uid)
        return None
    return answer if isinstance(answer, MemberReport) else None


def _with_arcs(members: Sequence[Member], slots: int) -> list[Member]:
    """Return the members by position, with the share of the circle from the one before to each."""
    placed = sorted((member for member in members if member.position >= 0), key=lambda member: member.position)
    others = [member for member in members if member.position < 0]
    shared = [
        msgspec.structs.replace(
            member, arc_share=((member.position - placed[i - 1].position) % slots or slots * (len(placed) == 1)) / slots
        )
        for i, member in enumerate(placed)
    ]
    return [*shared, *others]


def _unreachable(ref: NodeRef, slots: int) -> Member:
    nothing = SlotCounts(0, 0, 0)
    return Member(
        uid=ref.uid,
        name=ref.name,
        position=ref.position,
        position_ratio=ratio(ref.position, slots),
        arc_share=0.0,
        slots=nothing,
        records=RecordCounts(0, 0, 0),
        state="unreachable",
        slots_under_replicated=0,
        peer=ref.address,
        client=address(ref, ref.client_port),
        admin=address(ref, ref.admin_port),
        successors=[],
        predecessor=None,
    )


def ratio(position: int, slots: int) -> float:
    """Return where on the circle a position is, in [0, 1)."""
    return max(position, 0) / slots


def address(ref: NodeRef, port: int) -> str:
    """Return host:port."""
    host = f"[{ref.host}]" if ":" in ref.host else ref.host
    return f"{host}:{port}"
