"""A node's part in the slots: which name it, for which it acts, which are on their way.

A thousand slots are gone through for it, and probes, pages and other nodes ask every second: so it is made anew only
when a configuration has changed, or when one of those whom they name has come or gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .handovers import handovers

if TYPE_CHECKING:
    from coterie_node.replication.configuration import SlotTable
    from coterie_protocol.admin import HandOver
    from coterie_protocol.identifiers import Uid
    from coterie_protocol.registers import KnownConfig


@dataclass(frozen=True)
class Acting:
    """The slots for which a node acts, as far as it sees."""

    slots: frozenset[int]
    bitmap: bytes
    """The same as a bitmap, slot 0 in the lowest bit of the first byte."""
    named: frozenset[Uid]
    """Everybody whom a configuration names that names this node, whoever acts."""
    forming: int
    """Those that never yet had as many members as the replication factor."""
    handovers: list[HandOver]
    roles: Mapping[int, str]
    """By slot that names the node: `users` where it acts, `backups` elsewhere."""
    counts: Mapping[str, int]
    """How many slots have each role."""
    backups: frozenset[int]
    """The slots that name the node and for which it does not act."""
    without_quorum: int
    """Those for which it acts and whose members alive are no majority."""
    short: bytes
    """The same as a bitmap; empty when there are none."""
    missing: frozenset[Uid]
    """Members of any slot of the node that has no quorum which are not alive."""
    cut_off: bool
    """Whether the node is a member of slots, and none of them has a quorum."""


class Part:
    """One node's part, kept until it changes."""

    def __init__(self, table: SlotTable, me: Uid) -> None:
        self._table = table
        self._me = me
        self._changes = 0
        self._at = (-1, -1)
        self._configs: list[KnownConfig] = []
        self._forming = 0
        self._fellows: frozenset[Uid] = frozenset()
        self._live: frozenset[Uid] | None = None
        self._acting: Acting
        table.watch(self._changed)

    def _changed(self, _: int, __: KnownConfig) -> None:
        self._changes += 1

    def configs(self) -> list[KnownConfig]:
        """Return the newest configurations that name this node."""
        slots = self._table.own_slots()
        at = (self._changes, len(slots))
        if self._at != at:
            self._at = at
            known = (self._table.known(slot) for slot in slots)
            self._configs = [one for one in known if one is not None and self._me in one.config.members]
            self._forming = sum(not self._table.serving(one.slot) for one in self._configs)
            self._fellows = frozenset(uid for one in self._configs for uid in one.config.members)
            self._live = None
        return self._configs

    @property
    def forming(self) -> int:
        """Return how many slots of this node never yet had as many members as the replication factor."""
        self.configs()
        return self._forming

    def acting(self) -> Acting:
        """Return the slots for which this node acts."""
        configs = self.configs()
        live = frozenset(uid for uid in self._fellows if self._table.live(uid))
        if live != self._live:
            self._live = live
            self._acting = self._act(configs)
        return self._acting

    def _act(self, configs: list[KnownConfig]) -> Acting:
        acted_for = frozenset(self._table.slots_acted_for())
        mine = [one for one in configs if one.slot in acted_for]
        short = frozenset(self._table.without_quorum(acted_for | {one.slot for one in configs}))
        return Acting(
            acted_for,
            self._bitmap(one.slot for one in mine),
            self._fellows,
            sum(not self._table.serving(one.slot) for one in mine),
            handovers(self._me, (one.config for one in mine)),
            {one.slot: "users" if one.slot in acted_for else "backups" for one in configs},
            {"users": len(mine), "backups": len(configs) - len(mine)},
            frozenset(one.slot for one in configs) - acted_for,
            len(short & acted_for),
            self._bitmap(short & acted_for) if short else b"",
            frozenset(uid for slot in short for uid in self._table.members(slot) if not self._table.live(uid)),
            bool(configs) and all(one.slot in short for one in configs),
        )

    def _bitmap(self, slots: Iterable[int]) -> bytes:
        bits = bytearray((self._table.slots + 7) // 8)
        for slot in slots:
            bits[slot // 8] |= 1 << slot % 8
        return bytes(bits)
