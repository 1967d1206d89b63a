"""Where a node's metrics come from: the rooms, as main puts them together, and what has to be counted at a scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from coterie_node.chat.service import ChatCounts
    from coterie_node.measure import Distribution
    from coterie_node.peer.echo import Echo
    from coterie_node.peer.links import Links
    from coterie_node.replication.accounts import Accounts
    from coterie_node.replication.ageing import Ageing
    from coterie_node.replication.append import Appender
    from coterie_node.replication.configuration import SlotTable
    from coterie_node.replication.handover import Handover
    from coterie_node.replication.offers import Offers
    from coterie_node.replication.ports import Peers
    from coterie_node.replication.repair import Repair
    from coterie_node.store.store import Store
    from coterie_node.store.tally import Contents
    from coterie_protocol.identifiers import Uid
    from coterie_protocol.nodes import NodeRef

ROLES = ("users", "backups", "held")
"""This node acts for the slot; it is another of its members; it only keeps what is there for the members."""
KINDS = ("account", "pending", "archived", "tombstone")


class LookupsPort(Protocol):
    """How lookups went (ring.lookup.LookupTotals)."""

    hops: Distribution
    seconds: Distribution
    failed: int


class CirclePort(Protocol):
    """What the driver shows of the ring (driver.Driver)."""

    @property
    def me(self) -> NodeRef:
        """Return this node, at its position."""
        ...

    @property
    def arc_share(self) -> float:
        """Return which part of the circle this node owns."""
        ...

    @property
    def size(self) -> int:
        """Return how many nodes the circle has."""
        ...

    @property
    def changes(self) -> Mapping[str, int]:
        """Return how many nodes joined, left, failed and moved."""
        ...

    @property
    def lookups(self) -> LookupsPort:
        """Return how lookups went."""
        ...

    def successors(self) -> Sequence[NodeRef]:
        """Return the successor list."""
        ...

    def predecessor(self) -> NodeRef | None:
        """Return the predecessor."""
        ...

    def fingers(self) -> Sequence[NodeRef]:
        """Return the distinct fingers."""
        ...


@dataclass(frozen=True)
class Parts:
    """The rooms that exist once the node belongs to a ring."""

    ring_uid: str
    ring: CirclePort
    table: SlotTable
    repair: Repair
    offers: Offers
    handover: Handover
    accounts: Accounts
    appender: Appender
    ageing: Ageing
    echo: Echo
    chat: Callable[[], ChatCounts]
    sessions: Callable[[], int]


@dataclass
class Sources:
    """Everything that metrics are read from."""

    me: Callable[[], NodeRef]
    version: str
    state: Callable[[], str]
    store: Store
    links: Links | None = None
    parts: Parts | None = None
    """None until the node belongs to a ring."""
    holdings: Holdings | None = None
    """As the scrape that is under way has counted them."""

    _standing: Standing | None = None

    def scrape(self) -> None:
        """Begin a scrape: what several metrics need is counted once."""
        if self.parts is None or self.links is None:
            return
        if self._standing is None:
            self._standing = Standing(self.parts.table, self.links)
        self.holdings = self._standing.holdings(self.store.contents())


class Standing:
    """Which slots a node acts for and is a member of: a thousand slots to look at, but only when something changed."""

    def __init__(self, table: SlotTable, peers: Peers) -> None:
        self._table = table
        self._own = -1
        self._acting: list[int] = []
        self._short = 0
        self._users: frozenset[int] = frozenset()
        self._backups: frozenset[int] = frozenset()
        table.watch(lambda _, __: self._forget())
        peers.watch(lambda _, __: self._forget())

    def _forget(self) -> None:
        self._own = -1

    def holdings(self, contents: Contents) -> Holdings:
        """Return what the node holds now. Everything is counted from memory: nothing is read from the disk."""
        own = self._table.own_slots()
        if self._own != len(own):
            self._acting = self._table.slots_acted_for()
            self._short = self._table.without_quorum(self._acting)
            self._users = frozenset(self._acting)
            self._backups = frozenset(slot for slot in own if self._table.member_of(slot)) - self._users
            self._own = len(own)
        held = (contents.accounts.keys() | contents.records.keys()) - self._users - self._backups
        return Holdings(
            self._acting, self._short, {"users": self._users, "backups": self._backups, "held": held}, contents
        )


class Holdings:
    """What a node holds, by role."""

    def __init__(
        self, acting: list[int], short: int, slots: Mapping[str, AbstractSet[int]], contents: Contents
    ) -> None:
        self.acting = acting
        """The slots that the node acts for."""
        self.short = short
        """How many of them cannot gather their quorum."""
        self.slots = {role: len(found) for role, found in slots.items()}
        self.records: dict[tuple[str, str], int] = {}
        accounts, records, pending, archived = contents
        for role, found in slots.items():
            total, waiting, kept = (_within(found, counts) for counts in (records, pending, archived))
            by_kind = (_within(found, accounts), waiting, kept, total - waiting - kept)
            self.records |= {(role, kind): number for kind, number in zip(KINDS, by_kind, strict=True)}


def _within(slots: AbstractSet[int], counts: dict[int, int]) -> int:
    return sum(counts[slot] for slot in slots & counts.keys())


def round_trips(parts: Parts) -> Iterator[tuple[tuple[str, ...], float]]:
    """Yield the round trip to each near peer, by its name; two of one name are told apart by their uids."""
    near: dict[Uid, NodeRef] = {ref.uid: ref for ref in near_nodes(parts.ring)}
    taken: set[str] = set()
    for uid, seconds in parts.echo.seconds().items():
        name = near[uid].name if uid in near else ""
        if not name or name in taken:
            name = f"{name}-{uid}" if name else uid
        taken.add(name)
        yield (name,), seconds


def near_nodes(ring: CirclePort) -> list[NodeRef]:
    """Return the successors, the predecessor and the fingers of a node, each once."""
    before = ring.predecessor()
    refs = (*ring.successors(), *((before,) if before is not None else ()), *ring.fingers())
    return list({ref.uid: ref for ref in refs if ref.uid != ring.me.uid}.values())
