"""Consensus state: ballots, slot configurations and account values, and the messages that decide them.

The rules are those of docs/protocol.md ("The slot protocol"), after CASPaxos (Rystsov 2018, arXiv 1802.07000).
Registers are never merged, only re-accepted through a proposer.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from .bounds import MAX_COUNT, AccountBytes, Count, Items, Members, Name, NodeUid, PerSlot, Proposer, SlotNumber
from .identifiers import Uid


class Ballot(msgspec.Struct, array_like=True, frozen=True, order=True, gc=False):
    """A ballot of a slot's configuration register. `proposer` is unique per process start."""

    counter: Count
    proposer: Proposer


class AccountBallot(msgspec.Struct, array_like=True, frozen=True, order=True, gc=False):
    """A ballot of an account register; the configuration's epoch comes first."""

    epoch: Count
    counter: Count
    proposer: Proposer


ZERO = Ballot(0, "")
ACCOUNT_ZERO = AccountBallot(0, 0, "")
MOST_COUNTED = MAX_COUNT // 2
"""Beyond what any proposer's counter gets in honesty."""
GENERATION_BITS = 32
"""An epoch's upper bits say how often its slot has begun anew after an accepted loss: its generation."""


class Config(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A slot's configuration: plain when `old` is empty, joint (`old` going over to `new`) otherwise.

    The epoch rises by one at a joint configuration and again at the plain one that follows it. `cid` is the ballot
    that first proposed this configuration. Members stand in order, the owner first.
    """

    epoch: Count
    cid: Ballot
    old: Annotated[tuple[NodeUid, ...], Members]
    new: Annotated[tuple[NodeUid, ...], Members]

    @property
    def joint(self) -> bool:
        """Say whether this is a joint configuration."""
        return bool(self.old)

    @property
    def members(self) -> tuple[Uid, ...]:
        """Return all members once: those of `old` (while joint), then those of `new` that are not among them."""
        if not self.old:
            return self.new
        return self.old + tuple(uid for uid in self.new if uid not in self.old)

    @property
    def identity(self) -> tuple[int, Ballot]:
        """Return (epoch, cid): what requests carry and members compare."""
        return (self.epoch, self.cid)

    @property
    def last(self) -> bool:
        """Say whether no epoch can follow: some node's word, for no slot has been reconfigured so often."""
        return self.epoch >= MAX_COUNT - 2

    @property
    def generation(self) -> int:
        """Say how often the slot has begun anew after an accepted loss (`recover --accept-loss`)."""
        return self.epoch >> GENERATION_BITS

    def quorum(self, granted: set[Uid] | frozenset[Uid]) -> bool:
        """Say whether `granted` holds a majority of the members (while joint: of old and of new)."""
        return majority(self.new, granted) and (not self.old or majority(self.old, granted))


def risen(counter: int, heard: int) -> int:
    """Return the counter above which a proposer goes on after it has heard of one.

    One counter serves all of a node's registers. So it does not follow what no proposer has counted to: a register
    that holds it is lost to proposals, and the next ballot, which nobody could read, would lose all others with it.
    """
    return heard if counter < heard < MOST_COUNTED else counter


def majority_of(members: int) -> int:
    """Return how many are more than half of so many."""
    return members // 2 + 1


def majority(members: tuple[Uid, ...], granted: set[Uid] | frozenset[Uid]) -> bool:
    """Say whether `granted` holds more than half of `members`."""
    return sum(1 for uid in members if uid in granted) * 2 > len(members)


class KnownConfig(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A configuration of a slot that a node has accepted or learnt, with the ballot it has it at."""

    slot: SlotNumber
    ballot: Ballot
    config: Config


class SlotRegister(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An acceptor's state of one slot's configuration. Never deleted, not even after the node is a member no more."""

    promised: Ballot
    accepted: Ballot
    config: Config | None


class AccountRegister(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An acceptor's state of one account. `value` is an encoded account (None: no value accepted yet)."""

    promised: AccountBallot
    accepted: AccountBallot
    value: AccountBytes | None


# --- Slot configurations: batches, one item a slot -------------------------------------------------------------


class ConfigPrepare(msgspec.Struct, array_like=True, frozen=True, tag=40):
    """Rule 3: promise `ballot` for each slot. Answered by ConfigPromises."""

    items: Annotated[list[tuple[SlotNumber, Ballot]], PerSlot]


class ConfigPromise(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One slot's answer. `promised` is the acceptor's promise after the request: granted when it equals the ballot.

    A node that never heard of the slot answers `config` None: a promise, never a value.
    """

    slot: SlotNumber
    promised: Ballot
    accepted: Ballot
    config: Config | None


class ConfigPromises(msgspec.Struct, array_like=True, frozen=True, tag=41):
    """The answers to ConfigPrepare and ConfigAccept, in the order of the items."""

    items: Annotated[list[ConfigPromise], PerSlot]


class ConfigAccept(msgspec.Struct, array_like=True, frozen=True, tag=42):
    """Rule 4: accept each configuration at its ballot. Accepted where the answer's `accepted` equals the ballot."""

    items: Annotated[list[KnownConfig], PerSlot]


class ConfigLearn(msgspec.Struct, array_like=True, frozen=True, tag=43):
    """Rule 4: these configurations were chosen at these ballots. An event: no answer."""

    items: Annotated[list[KnownConfig], PerSlot]


class ConfigQuery(msgspec.Struct, array_like=True, frozen=True, tag=44):
    """Ask what a node knows of some slots (an answer says only where to send: rule 5)."""

    slots: Annotated[list[SlotNumber], PerSlot]


class ConfigKnown(msgspec.Struct, array_like=True, frozen=True, tag=45):
    """The configurations that the node knows; slots that it knows nothing of are missing."""

    items: Annotated[list[KnownConfig], PerSlot]


class ConfigEpochs(msgspec.Struct, array_like=True, frozen=True, tag=52):
    """Tell a fellow member the epochs that one has of shared slots: (slot, epoch). An event.

    Whoever has a newer configuration answers with ConfigLearn (where it knows it as chosen) or ConfigKnown.
    """

    items: Annotated[list[tuple[SlotNumber, Count]], PerSlot]


# --- Accounts: fenced by (epoch, cid) --------------------------------------------------------------------------


class AccountPrepare(msgspec.Struct, array_like=True, frozen=True, tag=46):
    """Rule 9: promise each account's ballot, under exactly this configuration. Answered by AccountPromises."""

    slot: SlotNumber
    epoch: Count
    cid: Ballot
    items: Annotated[list[tuple[Name, AccountBallot]], Items]


class AccountPromise(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One account's answer: granted when `promised` equals the ballot asked for."""

    name: Name
    promised: AccountBallot
    accepted: AccountBallot
    value: AccountBytes | None


class AccountPromises(msgspec.Struct, array_like=True, frozen=True, tag=47):
    """The answers to AccountPrepare, AccountRead and AccountList."""

    items: Annotated[list[AccountPromise], Items]
    more: bool = False
    """AccountList only: there are more names after the last one."""


class AccountAccept(msgspec.Struct, array_like=True, frozen=True, tag=48):
    """Rule 9: accept each value at its ballot, under exactly this configuration. Answered by AccountAccepted."""

    slot: SlotNumber
    epoch: Count
    cid: Ballot
    items: Annotated[list[tuple[Name, AccountBallot, AccountBytes | None]], Items]


class AccountAccepted(msgspec.Struct, array_like=True, frozen=True, tag=49):
    """For each item, the acceptor's promise afterwards: accepted when it equals the item's ballot."""

    items: Annotated[list[tuple[Name, AccountBallot]], Items]


class AccountRead(msgspec.Struct, array_like=True, frozen=True, tag=50):
    """Read accepted values without a promise; a quorum that agrees on one accepted ballot has chosen it."""

    slot: SlotNumber
    epoch: Count
    cid: Ballot
    names: Annotated[list[Name], Items]


class AccountList(msgspec.Struct, array_like=True, frozen=True, tag=51):
    """Rule 12: page through all accounts of a slot, those accepted but not committed included."""

    slot: SlotNumber
    epoch: Count
    cid: Ballot
    after: Name
