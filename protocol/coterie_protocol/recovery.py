"""Messages between nodes by which the loss of slots' majorities is accepted. Tags 130 to 139.

They go past the slots' own consensus on purpose, because that can never be reached again (docs/decisions/0016).
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from .bounds import Count, Items, Name, Nodes, NodeUid, PerSlot, Proposer, Sentence, SlotNumber, SlotOrNone
from .registers import KnownConfig


class RecoveryQuery(msgspec.Struct, array_like=True, frozen=True, tag=130):
    """Ask what a node has of the slots from `first` on. Answered by RecoveryFacts.

    Unless `run` is empty (somebody only looks), the node takes part in no other recovery for a while.
    """

    run: Proposer
    first: SlotNumber


class SlotFact(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a node has of one slot."""

    slot: SlotNumber
    known: KnownConfig | None
    """The newest configuration that it knows."""
    own: bool
    """It holds a sound register of the slot."""
    accounts: Count
    records: Count
    damaged: bool
    """Its own register fails its checksum: it abstains (rule 15)."""


class RecoveryFacts(msgspec.Struct, array_like=True, frozen=True, tag=131):
    """The slots from the first one asked for on; those of which the node knows and holds nothing are missing."""

    items: Annotated[list[SlotFact], PerSlot]
    next: SlotOrNone
    """The slot to ask for next; -1 at the end."""


class Keep(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Begin a slot anew with the asked node alone."""

    known: KnownConfig
    """The configuration to begin with."""
    newest: KnownConfig | None
    """The newest one that the coordinator knew: whoever has a newer one refuses."""
    sources: Annotated[tuple[NodeUid, ...], Nodes]
    """Who else has accounts of the slot."""


class RecoveryKeep(msgspec.Struct, array_like=True, frozen=True, tag=132):
    """Begin slots anew with the asked node alone, and tell these nodes. Answered by RecoveryKept."""

    run: Proposer
    items: Annotated[list[Keep], PerSlot]
    tell: Annotated[tuple[NodeUid, ...], Nodes]


class Kept(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What came of one slot. `error` is empty where it was done."""

    slot: SlotNumber
    accounts: Count
    records: Count
    damaged: Annotated[list[Name], Items]
    """Names whose register failed its checksum here, and of which no other copy was found."""
    error: Sentence


class RecoveryKept(msgspec.Struct, array_like=True, frozen=True, tag=133):
    """What came of each slot."""

    items: Annotated[list[Kept], PerSlot]


class RecoveryAccounts(msgspec.Struct, array_like=True, frozen=True, tag=134):
    """Ask for the accounts that a node has of a slot, under whatever configuration. Answered by AccountPromises."""

    slot: SlotNumber
    after: Name


class RecoveryEnd(msgspec.Struct, array_like=True, frozen=True, tag=135):
    """The run has ended, well or not: another one may begin. An event."""

    run: Proposer


RecoveryMessage = RecoveryQuery | RecoveryFacts | RecoveryKeep | RecoveryKept | RecoveryAccounts | RecoveryEnd
