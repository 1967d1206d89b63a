"""Messages between nodes by which the loss of slots' majorities is accepted. Tags 130 to 139.

They go past the slots' own consensus on purpose, because that can never be reached again (docs/decisions/0016).
"""

from __future__ import annotations

import msgspec

from .identifiers import Uid
from .registers import KnownConfig


class RecoveryQuery(msgspec.Struct, array_like=True, frozen=True, tag=130):
    """Ask what a node has of the slots from `first` on. Answered by RecoveryFacts.

    Unless `run` is empty (somebody only looks), the node takes part in no other recovery for a while.
    """

    run: str
    first: int


class SlotFact(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a node has of one slot."""

    slot: int
    known: KnownConfig | None
    """The newest configuration that it knows."""
    own: bool
    """It holds a sound register of the slot."""
    accounts: int
    records: int
    damaged: bool
    """Its own register fails its checksum: it abstains (rule 15)."""


class RecoveryFacts(msgspec.Struct, array_like=True, frozen=True, tag=131):
    """The slots from the first one asked for on; those of which the node knows and holds nothing are missing."""

    items: list[SlotFact]
    next: int
    """The slot to ask for next; -1 at the end."""


class Keep(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Begin a slot anew with the asked node alone."""

    known: KnownConfig
    """The configuration to begin with."""
    newest: KnownConfig | None
    """The newest one that the coordinator knew: whoever has a newer one refuses."""
    sources: tuple[Uid, ...]
    """Who else has accounts of the slot."""


class RecoveryKeep(msgspec.Struct, array_like=True, frozen=True, tag=132):
    """Begin slots anew with the asked node alone, and tell these nodes. Answered by RecoveryKept."""

    run: str
    items: list[Keep]
    tell: tuple[Uid, ...]


class Kept(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What came of one slot. `error` is empty where it was done."""

    slot: int
    accounts: int
    records: int
    damaged: list[str]
    """Names whose register failed its checksum here, and of which no other copy was found."""
    error: str


class RecoveryKept(msgspec.Struct, array_like=True, frozen=True, tag=133):
    """What came of each slot."""

    items: list[Kept]


class RecoveryAccounts(msgspec.Struct, array_like=True, frozen=True, tag=134):
    """Ask for the accounts that a node has of a slot, under whatever configuration. Answered by AccountPromises."""

    slot: int
    after: str


class RecoveryEnd(msgspec.Struct, array_like=True, frozen=True, tag=135):
    """The run has ended, well or not: another one may begin. An event."""

    run: str


RecoveryMessage = RecoveryQuery | RecoveryFacts | RecoveryKeep | RecoveryKept | RecoveryAccounts | RecoveryEnd
