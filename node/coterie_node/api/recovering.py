"""POST /api/v1/recover: slots that lost their majority, and the operator's word that the loss is accepted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import structlog

from coterie_protocol.admin import RecoveredSlot, RecoveryReport, RingReport
from coterie_protocol.errors import CoterieError, ErrorCode
from coterie_protocol.identifiers import Uid

if TYPE_CHECKING:
    from collections.abc import Iterable

    from coterie_node.replication.reconfigure.unsafe_recovery_plan import SlotPlan
    from coterie_protocol.recovery import Kept

log = structlog.get_logger()

AWAY = ("unreachable", "leaving", "left")
"""States of nodes that keep nothing for a slot that begins anew."""


class RecoveryPort(Protocol):
    """What accepts losses (recovery.Recovery)."""

    async def look(self, others: Iterable[Uid]) -> list[SlotPlan]:
        """Say what a recovery would do, and change nothing."""
        ...

    async def accept_loss(self, others: Iterable[Uid]) -> list[tuple[SlotPlan, Kept]]:
        """Begin every slot anew that has no quorum among the nodes that answer."""
        ...


async def recover(recovery: RecoveryPort, ring: RingReport, ring_uid: str | None) -> RecoveryReport:
    """Look (`ring_uid` None), or accept the loss. Raises CoterieError, BAD_REQUEST when the uid is another ring's."""
    if ring_uid is not None and ring_uid != ring.ring_uid:
        raise CoterieError(
            f"this node belongs to ring {ring.ring_uid}, not to {ring_uid or 'none'}; name the ring that has the loss",
            code=ErrorCode.BAD_REQUEST,
        )
    # Also who is shown as unreachable: one of them may only have been slow.
    everybody = [Uid(member.uid) for member in ring.members]
    names = {member.uid: member.name for member in ring.members if member.name}
    if ring_uid is None:
        slots = [_slot(plan, None) for plan in await recovery.look(everybody)]
    else:
        slots = [_slot(plan, kept) for plan, kept in await recovery.accept_loss(everybody)]
        for one in slots:
            log.warning("loss accepted", slot=one.slot, state=one.state, keeper=one.keeper, lost=one.lost)
    there = sum(member.state not in AWAY for member in ring.members)
    return RecoveryReport(ring.ring_uid, ring_uid is not None, names, slots, there, ring.replication_factor)


def _slot(plan: SlotPlan, kept: Kept | None) -> RecoveredSlot:
    config = plan.newest.config if plan.newest is not None else None
    done = kept is not None and not kept.error
    return RecoveredSlot(
        slot=plan.slot,
        state="stuck" if kept is None else "recovered" if done else "failed",
        epoch=-1 if config is None else config.epoch,
        members=[] if config is None else list(config.members),
        lost=list(plan.lost),
        keeper=plan.keeper,
        accounts=kept.accounts if kept is not None and done else plan.accounts,
        records=kept.records if kept is not None and done else plan.records,
        may_be_lost=_may_be_lost(plan),
        given_up=list(kept.damaged) if kept is not None else [],
        error=kept.error if kept is not None else "",
    )


def _may_be_lost(plan: SlotPlan) -> str:
    config = plan.newest.config if plan.newest is not None else None
    if config is None or plan.keeper not in config.members:
        return "every account and message of this slot: no member of it answers; its names become free again"
    return "whatever only the lost members had confirmed: the latest changes of accounts, and messages"
