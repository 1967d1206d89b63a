"""What to do about slots that have lost their majority for good: a pure function of what the living nodes have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from coterie_protocol.identifiers import Uid
from coterie_protocol.recovery import SlotFact
from coterie_protocol.registers import GENERATION_BITS, Ballot, Config, KnownConfig

from ..configuration import newer

Facts = Mapping[Uid, Mapping[int, SlotFact]]
"""What each living node has, by uid and slot."""


@dataclass(frozen=True)
class SlotPlan:
    """One slot that cannot reach a quorum any more, and who is to begin it anew."""

    slot: int
    newest: KnownConfig | None
    """The newest configuration that anybody alive knows."""
    lost: tuple[Uid, ...]
    """Its members that are not alive, or whose register of it is damaged."""
    keeper: Uid
    """Who begins it anew."""
    sources: tuple[Uid, ...]
    """Who else alive has accounts of it."""
    accounts: int
    """What the keeper has."""
    records: int


def stuck_slots(facts: Facts, slots: int) -> list[int]:
    """Return the slots whose newest known configuration has no quorum among the living, or that nobody knows.

    Whose register is damaged is alive and yet no voter: where the others are no quorum without it, it cannot be healed.
    """
    found = []
    for slot in range(slots):
        newest = _newest(facts, slot)
        if newest is None or not newest.config.quorum(_voters(facts, slot)):
            found.append(slot)
    return found


def _voters(facts: Facts, slot: int) -> frozenset[Uid]:
    return frozenset(uid for uid, held in facts.items() if slot not in held or not held[slot].damaged)


def plan(facts: Facts, stuck: Sequence[int], suggested: Mapping[int, tuple[Uid, ...]]) -> list[SlotPlan]:
    """Choose who begins each slot anew. `suggested` is whom the ring would have hold it."""
    return [_plan(facts, slot, suggested.get(slot, ())) for slot in stuck]


def _plan(facts: Facts, slot: int, suggested: tuple[Uid, ...]) -> SlotPlan:
    newest = _newest(facts, slot)
    members = newest.config.members if newest is not None else ()
    order = {uid: place for place, uid in enumerate((*members, *suggested))}

    def rank(uid: Uid) -> tuple[bool, bool, bool, int, str]:
        fact = facts[uid].get(slot)
        # A member with a sound register first, in the configuration's order; then whoever has anything of the slot.
        own = fact is not None and fact.own
        has = fact is not None and fact.accounts > 0
        return (not (uid in members and own), not has, uid not in members, order.get(uid, len(order)), uid)

    keeper = min(facts, key=rank)
    held = facts[keeper].get(slot)
    sources = sorted(
        uid for uid, held_there in facts.items() if uid != keeper and (fact := held_there.get(slot)) and fact.accounts
    )
    return SlotPlan(
        slot,
        newest,
        tuple(uid for uid in members if uid not in _voters(facts, slot)),
        keeper,
        tuple(sources),
        0 if held is None else held.accounts,
        0 if held is None else held.records,
    )


def _newest(facts: Facts, slot: int) -> KnownConfig | None:
    newest: KnownConfig | None = None
    for held in facts.values():
        fact = held.get(slot)
        if fact is not None and fact.known is not None and newer(fact.known, newest):
            newest = fact.known
    return newest


def beginning(facts: Facts, one: SlotPlan, proposer: str) -> KnownConfig:
    """Return the configuration with which a slot begins anew.

    Its epoch and ballot are those of a generation that nobody has seen yet, in any slot: so they are above whatever the
    lost members may have decided among themselves, be it ever so much.
    """
    generation = 1 + max(
        (fact.known.config.generation for held in facts.values() for fact in held.values() if fact.known is not None),
        default=0,
    )
    start = generation << GENERATION_BITS
    ballot = Ballot(start, proposer)
    return KnownConfig(one.slot, ballot, Config(start, ballot, (), (one.keeper,)))
