"""Messages of the ring's maintenance and lookups (docs/protocol.md, "The ring"). Tags 10 to 39."""

from __future__ import annotations

import msgspec

from .nodes import NodeRef


class FindOwner(msgspec.Struct, array_like=True, frozen=True, tag=10):
    """One step of an iterative lookup of a slot's position. The room `ring` extends this file."""

    slot: int
    token: int
    origin: NodeRef


RingMessage = FindOwner
