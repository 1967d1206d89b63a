"""The trace of a lookup: which slot is meant, and which way the ring was asked."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from coterie_protocol.admin_page import Trace, TraceHop
from coterie_protocol.errors import BadName, CoterieError, ErrorCode
from coterie_protocol.identifiers import MAX_NAME_BYTES, RingId, key_of, position_of, user_name

from .walk import ratio

if TYPE_CHECKING:
    from coterie_node.replication.configuration import SlotTable
    from coterie_node.ring import Hop, Owner
    from coterie_protocol.nodes import NodeRef

_IDENTIFIER = re.compile(r"[0-9a-fA-F]{40}", re.ASCII)
_SLOT = re.compile(r"[0-9]{1,7}", re.ASCII)


def key_wanted(name: str | None, key: str | None, slots: int) -> RingId:
    """Return the identifier that a question means: a user's name, a slot's number, or 40 hexadecimal digits.

    A name is hashed and nothing else: no store is asked, so the answer is the same whether it is taken or free.
    Raises CoterieError BAD_REQUEST, and BadName for what can be no name.
    """
    if (name is None) == (key is None):
        raise CoterieError("ask for one of ?name=USER and ?key=SLOT or IDENTIFIER", code=ErrorCode.BAD_REQUEST)
    if name is not None:
        if len(name) > 4 * MAX_NAME_BYTES:
            raise BadName(name[:32] + "...", f"longer than {MAX_NAME_BYTES} bytes")
        return key_of(user_name(name))
    assert key is not None
    if _IDENTIFIER.fullmatch(key):
        return RingId(int(key, 16))
    if _SLOT.fullmatch(key) and int(key) < slots:
        return position_of(int(key), slots)
    raise CoterieError(
        f"{key[:48]!r} is no key of this ring: use a slot, 0 to {slots - 1}, or an identifier of 40 hexadecimal digits",
        code=ErrorCode.BAD_REQUEST,
    )


def traced(table: SlotTable, me: NodeRef, slot: int, owner: Owner | None, path: list[Hop]) -> Trace:
    """Put what a lookup found and the way it took into words."""
    return Trace(
        slot=slot,
        position_ratio=ratio(slot, table.slots),
        start=me.uid,
        hops=[
            TraceHop(hop.node.uid, hop.node.name, hop.node.position, hop.answered, round(hop.ended - hop.asked, 6))
            for hop in path
        ],
        owner=owner.owner.uid if owner is not None else None,
        successors=[ref.uid for ref in owner.successors] if owner is not None else [],
        holders=list(table.members(slot)),
    )
