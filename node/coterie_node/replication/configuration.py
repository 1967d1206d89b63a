"""What this node knows of slot configurations: its own registers' copy in memory, and a cache of what it learnt.

The registers themselves live in the store. This copy says where to send and who acts; it never decides anything
(rule 5 of the slot protocol): an acceptor checks inside its transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from coterie_protocol.identifiers import Uid
from coterie_protocol.registers import KnownConfig, SlotRegister
from coterie_protocol.words import counted

from ..runtime.ports import Peers
from ..telling import tell


def newer(one: KnownConfig, two: KnownConfig | None) -> bool:
    """Say whether `one` is newer than `two` by (epoch, ballot)."""
    return two is None or (one.config.epoch, one.ballot) > (two.config.epoch, two.ballot)


class SlotTable:
    """Newest known configurations by slot. Wakes those who wait for a change."""

    def __init__(self, peers: Peers, slots: int, replication_factor: int) -> None:
        self.slots = slots
        self.replication_factor = replication_factor
        self._peers = peers
        self._known: dict[int, KnownConfig] = {}
        self._own: dict[int, KnownConfig] = {}
        self._chosen: dict[int, KnownConfig] = {}
        self._watchers: list[Callable[[int, KnownConfig], None]] = []
        self.damaged: set[int] = set()
        """Slots of which a register (its own or an account's) fails its checksum on this node's disk (`scrub`)."""

    def watch(self, callback: Callable[[int, KnownConfig], None]) -> None:
        """Call back with each newer configuration of a slot."""
        self._watchers.append(callback)

    def load(self, registers: Iterable[tuple[int, SlotRegister]]) -> None:
        """Take what the store held at the start."""
        for slot, register in registers:
            if register.config is not None:
                self.stored(KnownConfig(slot, register.accepted, register.config))

    def stored(self, known: KnownConfig) -> None:
        """Note that this node's own register now holds this configuration (after its fsync)."""
        if newer(known, self._own.get(known.slot)):
            self._own[known.slot] = known
        self.learn((known,))

    def learn(self, items: Iterable[KnownConfig]) -> list[KnownConfig]:
        """Take what others know; return what was news."""
        news = []
        for known in items:
            if known.slot < self.slots and newer(known, self._known.get(known.slot)):
                self._known[known.slot] = known
                news.append(known)
        for known in news:
            tell(self._watchers, known.slot, known)
        return news

    def choose(self, known: KnownConfig) -> None:
        """Note that a configuration is chosen: an accept round for it succeeded here, or a proposer said so."""
        held = self._chosen.get(known.slot)
        if held is None or known.config.epoch >= held.config.epoch:
            self._chosen[known.slot] = known

    def is_chosen(self, known: KnownConfig) -> bool:
        """Say whether this very configuration is known to be chosen."""
        held = self._chosen.get(known.slot)
        return held is not None and held.config.identity == known.config.identity

    def chosen(self, slot: int) -> KnownConfig | None:
        """Return the newest configuration known to be chosen, at the ballot of its choice."""
        return self._chosen.get(slot)

    def known(self, slot: int) -> KnownConfig | None:
        """Return the newest configuration known of a slot."""
        return self._known.get(slot)

    def own(self, slot: int) -> KnownConfig | None:
        """Return what this node's own register holds."""
        return self._own.get(slot)

    def own_slots(self) -> list[int]:
        """Return the slots whose register this node holds with a configuration (member or not)."""
        return list(self._own)

    def slots_known(self) -> list[int]:
        """Return the slots of which some configuration is known."""
        return list(self._known)

    def members(self, slot: int) -> tuple[Uid, ...]:
        """Return the members by the newest configuration known; empty when none is."""
        known = self._known.get(slot)
        return known.config.members if known else ()

    def member_of(self, slot: int) -> bool:
        """Say whether this node is a member by the newest configuration known."""
        return self._peers.me in self.members(slot)

    def live(self, uid: Uid) -> bool:
        """Say whether a node is this one or alive."""
        return uid == self._peers.me or self._peers.alive(uid)

    def acting(self, slot: int) -> Uid | None:
        """Return the acting owner: the first live member in the configuration's order."""
        return self._first_live(self.members(slot))

    def acts(self, slot: int) -> bool:
        """Say whether this node is the slot's acting owner, as far as it sees."""
        return self.acting(slot) == self._peers.me

    def slots_acted_for(self) -> list[int]:
        """Return the slots whose acting owner this node is, as far as it sees.

        Who acts depends on the members alone, and a ring has few different ones: asking slot by slot takes longer.
        """
        acts: dict[tuple[Uid, ...], bool] = {}
        found = []
        for slot, known in self._known.items():
            members = known.config.members
            if members not in acts:
                acts[members] = self._first_live(members) == self._peers.me
            if acts[members]:
                found.append(slot)
        return found

    def without_quorum(self, slots: Iterable[int]) -> list[int]:
        """Return those of some known slots that cannot gather their quorum from the living."""
        short: dict[tuple[tuple[Uid, ...], tuple[Uid, ...]], bool] = {}
        found = []
        for slot in slots:
            config = self._known[slot].config
            members = (config.old, config.new)
            if members not in short:
                short[members] = not config.quorum({uid for uid in config.members if self.live(uid)})
            if short[members]:
                found.append(slot)
        return found

    def lacks(self, slot: int) -> str:
        """Say how many of a slot's members can be reached from here, when they are no quorum; empty when they are."""
        known = self._known.get(slot)
        if known is None:
            return ""
        members = known.config.members
        live = {uid for uid in members if self.live(uid)}
        if known.config.quorum(live):
            return ""
        return f"no majority: {len(live)} of the {counted(len(members), 'node')} that hold this name can be reached"

    def _first_live(self, members: tuple[Uid, ...]) -> Uid | None:
        return next((uid for uid in members if self.live(uid)), None)

    def serving(self, slot: int) -> bool:
        """Say whether the slot has reached its replication factor once: a founder's lone slot takes nothing.

        One that has begun anew after an accepted loss had: its messages go to stand-ins meanwhile.
        """
        known = self._known.get(slot)
        if known is None:
            return False
        config = known.config
        if config.generation:
            return True
        members = config.old if config.joint else config.new
        return len(members) >= self.replication_factor
