"""Which slots are this node's own, kept as a set: the path of every message asks."""

from __future__ import annotations

from coterie_protocol.identifiers import Uid
from coterie_protocol.registers import KnownConfig

from .configuration import SlotTable


class OwnSlots:
    """The slots of which this node is a member by the newest configuration known, joint ones included."""

    def __init__(self, table: SlotTable, me: Uid) -> None:
        self.slots = {slot for slot in table.slots_known() if table.member_of(slot)}
        self._me = me
        table.watch(self._changed)

    def _changed(self, slot: int, known: KnownConfig) -> None:
        if self._me in known.config.members:
            self.slots.add(slot)
        else:
            self.slots.discard(slot)
