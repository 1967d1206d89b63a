"""Whether this node may coordinate for a slot: the owner's first question, about every message."""

from __future__ import annotations

from coterie_node.replication.configuration import SlotTable
from coterie_protocol.errors import CoterieError, ErrorCode, StaleEpoch
from coterie_protocol.words import counted


def refusal(table: SlotTable, slot: int) -> CoterieError | None:
    """Return why this node cannot coordinate for a slot: UNKNOWN_SLOT, STALE_EPOCH or FORMING; None when it can.

    A member that is not the acting owner can: gateways may see another member dead than this node does.
    """
    known = table.known(slot) if 0 <= slot < table.slots else None
    if known is None:
        return CoterieError("this node knows nothing of the slot", code=ErrorCode.UNKNOWN_SLOT)
    if not table.member_of(slot):
        return StaleEpoch((known,))
    if not table.serving(slot):
        nodes = counted(table.replication_factor, "node has", "nodes have")
        return CoterieError(
            f"the ring is forming: it takes messages once {nodes} joined",
            code=ErrorCode.FORMING,
        )
    return None


def check(table: SlotTable, slot: int) -> None:
    """Raise why this node cannot coordinate for a slot."""
    if (error := refusal(table, slot)) is not None:
        raise error
