"""Where a node's metrics come from: the rooms, as main puts them together, and what has to be counted at a scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from coterie_node.chat.service import ChatCounts
    from coterie_node.measure import Distribution
    from coterie_node.peer.links import Links
    from coterie_node.peer.rtt import Echo
    from coterie_node.replication.antientropy.repair import Repair
    from coterie_node.replication.antientropy.transfer import Offers
    from coterie_node.replication.append.coordinator import Appender
    from coterie_node.replication.configuration import SlotTable
    from coterie_node.replication.consensus.registers import Accounts
    from coterie_node.replication.expiry.collect import Ageing
    from coterie_node.replication.reconfigure.handover import Handover
    from coterie_node.store.counters import Contents
    from coterie_node.store.store import Store
    from coterie_protocol.identifiers import Uid
    from coterie_protocol.nodes import NodeRef

    from ..slot_roles import Acting, Part

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
    part: Part
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

    def scrape(self) -> None:
        """Begin a scrape: what several metrics need is counted once."""
        if self.parts is not None:
            self.holdings = Holdings(self.parts.part.acting(), self.store.contents())


class Holdings:
    """What a node holds, by role. Everything is counted from memory: nothing is read from the disk."""

    def __init__(self, acting: Acting, contents: Contents) -> None:
        self.acting = acting
        users, backups = acting.slots, acting.backups
        held = (contents.accounts.keys() | contents.records.keys()) - users - backups
        slots = {"users": users, "backups": backups, "held": held}
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
