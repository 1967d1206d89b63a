"""Messages between nodes by which one node can report on the whole ring. Tags 120 to 129."""

from __future__ import annotations

from typing import Annotated

import msgspec

from .admin import Member
from .bounds import Bitmap, Nodes
from .nodes import NodeRef


class MemberQuery(msgspec.Struct, array_like=True, frozen=True, tag=120):
    """Ask a node how it is. Answered by MemberReport."""


class MemberReport(msgspec.Struct, array_like=True, frozen=True, tag=121):
    """A node's own line of the ring's table, and what the asking node needs to walk on."""

    member: Member
    near: Annotated[list[NodeRef], Nodes]
    """Its predecessor, its successors, and every node that a configuration names beside it."""
    acting: Bitmap
    """A bitmap, slot 0 in the lowest bit of the first byte: the slots that it acts for."""
    short: Bitmap = b""
    """Likewise those of them whose members alive, as it sees, are no quorum; empty for none."""


AdminMessage = MemberQuery | MemberReport
