"""What the admin API asks of the node's rooms; main hands them in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from coterie_protocol.admin import MessageCounts
from coterie_protocol.nodes import NodeRef

if TYPE_CHECKING:
    from coterie_node.ring import Hop, Owner


class RingPort(Protocol):
    """What the driver says and does (driver.Driver)."""

    @property
    def me(self) -> NodeRef:
        """Return this node, at its position."""
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

    def watch(self, callback: Callable[[], None]) -> None:
        """Call back when this node's reference, its predecessor or its successors have changed."""
        ...

    async def trace(self, slot: int) -> tuple[Owner | None, list[Hop]]:
        """Look up who owns a slot; return that, if anybody could tell, and each step."""
        ...

    def leave(self) -> None:
        """Suggest nothing to this node any more."""
        ...

    def cancel_leave(self) -> None:
        """Take leave back."""
        ...

    async def move(self, position: int) -> None:
        """Stand elsewhere."""
        ...


class RepairPort(Protocol):
    """What repair says (repair.Repair)."""

    def under_replicated(self) -> list[int]:
        """Return the slots that this node acts for and whose members are not all live and in sync."""
        ...


class StraysPort(Protocol):
    """What holding for others says (strays.Strays)."""

    def remaining(self) -> tuple[int, int]:
        """Return how many slots' contents, and how many records, this node still holds for others."""
        ...


@dataclass(frozen=True)
class Facts:
    """What main knows and nobody else."""

    ring_uid: Callable[[], str]
    """Empty while the node belongs to no ring."""
    version: str
    sessions: Callable[[], int]
    """Sessions of which this node is the gateway."""
    synced: Callable[[], bool]
    """Whether the sync of the start is done (or had its time)."""
    store_fault: Callable[[], str]
    """Why the store cannot be written; empty while it can."""
    waiting_for: Callable[[], str]
    """What a node that has joined no circle yet waits for."""
    returning: Callable[[], str] = str
    """What a node that was away for too long still has to find out; empty otherwise."""
    messages: Callable[[], MessageCounts] = lambda: MessageCounts(0, 0, 0)
    """What became of messages since the start."""
