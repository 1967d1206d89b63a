"""How a node is named and reached."""

from __future__ import annotations

from typing import Annotated

import msgspec

from .bounds import (
    Boot,
    Copies,
    Count,
    Host,
    Label,
    Nodes,
    NodeUid,
    Port,
    RingUidOrNone,
    SlotCount,
    SlotOrNone,
    UidText,
    WireVersion,
)


class NodeRef(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A node as others know it. Of two references to one uid the one with the greater incarnation is right.

    `position` is the number of the slot at whose first identifier the node stands (-1 before it has one).
    `incarnation` is the Unix time in milliseconds at which the node started or last changed anything of this.
    """

    uid: NodeUid
    name: Label
    """For people: a pod's or a data directory's name."""
    position: SlotOrNone
    host: Host
    peer_port: Port
    client_port: Port
    admin_port: Port
    incarnation: Count
    leaving: bool = False
    """The node wants to leave: suggest nothing to it."""

    @property
    def address(self) -> str:
        """Return host:port for peers."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.peer_port}"


class PeerHello(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """The first frame of each side on a link between nodes. `probe`: the link only confirms that the node lives."""

    version_low: WireVersion
    version_high: WireVersion
    ring_uid: RingUidOrNone
    """Empty while the node belongs to no ring."""
    replication_factor: Copies
    slots: SlotCount
    node: NodeRef
    boot: Boot
    """Unique per process start."""
    probe: bool = False


class Ping(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """Are you there? Answered by Pong."""


class Pong(msgspec.Struct, array_like=True, frozen=True, tag=3):
    """I am, and so I look."""

    node: NodeRef


class Heartbeat(msgspec.Struct, array_like=True, frozen=True, tag=4):
    """Sent on every link a few times a second; silence is a suspicion. An event: no answer."""


class Refs(msgspec.Struct, array_like=True, frozen=True, tag=5):
    """Addresses worth knowing (an event; a hint, never a proof)."""

    nodes: Annotated[list[NodeRef], Nodes]


class WhoIs(msgspec.Struct, array_like=True, frozen=True, tag=6):
    """Ask for the newest references that a node has of these uids. Answered by Refs."""

    uids: Annotated[list[UidText], Nodes]
