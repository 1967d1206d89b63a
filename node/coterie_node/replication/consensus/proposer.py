"""The proposer of slot configurations: rules 5 to 8 of the slot protocol, many slots a round.

One round of a batch uses one ballot for all its slots; a slot that fails a round drops out of it and is tried again
later. Nothing is decided from what is cached: the cache only says where to send.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from coterie_protocol.identifiers import Uid
from coterie_protocol.registers import (
    Ballot,
    Config,
    ConfigAccept,
    ConfigLearn,
    ConfigPrepare,
    ConfigPromise,
    ConfigPromises,
    KnownConfig,
    majority,
    risen,
)

from ...runtime.ports import Peers
from ..configuration import SlotTable, newer
from .acceptors import Members


@dataclass
class Prepared:
    """What a prepare round found for one slot."""

    slot: int
    ballot: Ballot
    best: KnownConfig | None = None
    """The highest configuration by (epoch, ballot) among this round's promises."""
    granted: set[Uid] = field(default_factory=set)

    @property
    def complete(self) -> bool:
        """Say whether the found configuration's own quorum has promised (rule 5)."""
        return self.best is not None and self.best.config.quorum(self.granted)


class Proposer:
    """Runs rounds for configurations. `name` is unique per process start, so that no ballot is ever used twice."""

    def __init__(self, name: str, table: SlotTable, peers: Peers, members: Members, timeout: float) -> None:
        self._name = name
        self._table = table
        self._peers = peers
        self._members = members
        self._timeout = timeout
        self._counter = 0

    def rise_to(self, counter: int) -> None:
        """Propose only above this counter from now on."""
        self._counter = risen(self._counter, counter)

    def _next(self, slots: Iterable[int]) -> Ballot:
        """Return a ballot above all that this node has seen for these slots."""
        for slot in slots:
            known = self._table.known(slot)
            if known is not None:
                self._counter = risen(self._counter, known.ballot.counter)
        self._counter += 1
        return Ballot(self._counter, self._name)

    async def prepare(self, wishes: Mapping[int, tuple[Uid, ...]]) -> dict[int, Prepared]:
        """Prepare slots at their members, recomputing these on the way, and at those wished for (rules 5 and 6).

        Slots whose quorum did not promise are missing from the answer; so are those that nobody knows.
        """
        ballot = self._next(wishes)
        rounds = {slot: Prepared(slot, ballot) for slot in wishes}
        asked: dict[int, set[Uid]] = {slot: set() for slot in wishes}

        def targets(slot: int) -> list[Uid]:
            one = rounds[slot]
            # Both say where to send: what this round found, and what is cached.
            known = {*wishes[slot], *self._table.members(slot)}
            if one.best is not None:
                known |= set(one.best.config.members)
            unasked = sorted(known - asked[slot])
            # The dead cost a time-out: they are asked only where the living are not enough.
            living = [uid for uid in unasked if self._table.live(uid)]
            return living or ([] if one.complete else unasked)

        def answer(uid: Uid, reply: Any) -> None:
            if isinstance(reply, ConfigPromises):
                for promise in reply.items:
                    self._heard(rounds, uid, promise)

        while True:
            batches: dict[Uid, list[tuple[int, Ballot]]] = {}
            for slot in wishes:
                for uid in targets(slot):
                    asked[slot].add(uid)
                    batches.setdefault(uid, []).append((slot, ballot))
            if not batches:
                break
            messages = {uid: ConfigPrepare(items) for uid, items in sorted(batches.items())}
            await self._members.ask_all(messages, self._timeout, answer, lambda: False)
        return {slot: prepared for slot, prepared in rounds.items() if prepared.complete}

    def _heard(self, rounds: dict[int, Prepared], uid: Uid, promise: ConfigPromise) -> None:
        self._counter = risen(self._counter, promise.promised.counter)
        prepared = rounds.get(promise.slot)
        if prepared is None:
            return
        known = None
        if promise.config is not None:
            known = KnownConfig(promise.slot, promise.accepted, promise.config)
            self._table.learn((known,))
        if promise.promised != prepared.ballot:
            return
        prepared.granted.add(uid)
        if known is not None and newer(known, prepared.best):
            prepared.best = known

    async def accept(self, items: Iterable[tuple[Ballot, int, Config]]) -> dict[int, KnownConfig]:
        """Have configurations accepted; return those that their own quorum accepted: they are chosen.

        A joint configuration goes to its new members first and to the old ones only once a majority of the new has it
        (rule 6): a dead *new* then never blocks the slot.
        """
        proposals = {slot: KnownConfig(slot, ballot, config) for ballot, slot, config in items}
        accepted: dict[int, set[Uid]] = {slot: set() for slot in proposals}

        def answer(uid: Uid, reply: Any) -> None:
            if isinstance(reply, ConfigPromises):
                for item in reply.items:
                    self._counter = risen(self._counter, item.promised.counter)
                    if item.slot in proposals and item.accepted == proposals[item.slot].ballot:
                        accepted[item.slot].add(uid)

        async def send(wanted: dict[int, tuple[Uid, ...]], voters: Callable[[Config], tuple[Uid, ...]]) -> None:
            # The living first; the dead, who cost a time-out, only where these are no majority.
            for living in (True, False):
                batches: dict[Uid, list[KnownConfig]] = {}
                for slot, uids in wanted.items():
                    if living or not majority(voters(proposals[slot].config), accepted[slot]):
                        for uid in uids:
                            if self._table.live(uid) is living:
                                batches.setdefault(uid, []).append(proposals[slot])
                messages = {uid: ConfigAccept(batch) for uid, batch in sorted(batches.items())}
                await self._members.ask_all(messages, self._timeout, answer, lambda: False)

        await send({slot: known.config.new for slot, known in proposals.items()}, lambda config: config.new)
        await send(
            {
                slot: tuple(uid for uid in known.config.old if uid not in known.config.new)
                for slot, known in proposals.items()
                if known.config.joint and majority(known.config.new, accepted[slot])
            },
            lambda config: config.old,
        )
        chosen = {slot: known for slot, known in proposals.items() if known.config.quorum(accepted[slot])}
        for known in chosen.values():
            self._table.choose(known)
            self._table.learn((known,))
        return chosen

    def announce(self, chosen: Iterable[KnownConfig], also: Mapping[int, tuple[Uid, ...]]) -> None:
        """Tell members (and those that were members before) what was chosen."""
        batches: dict[Uid, list[KnownConfig]] = {}
        for known in chosen:
            for uid in dict.fromkeys((*known.config.members, *also.get(known.slot, ()))):
                batches.setdefault(uid, []).append(known)
        for uid, items in sorted(batches.items()):
            if uid == self._members.me:
                self._members.learn(items)
            else:
                self._peers.send(uid, ConfigLearn(items))

    async def confirm(self, slots: Iterable[int]) -> dict[int, KnownConfig]:
        """Accept again whatever is found (rule 8): afterwards it is known to be chosen. Return what is chosen."""
        prepared = await self.prepare(dict.fromkeys(slots, ()))
        found = [(one.ballot, one.slot, one.best.config) for one in prepared.values() if one.best is not None]
        return await self.accept(found)

    async def join(self, wishes: Mapping[int, tuple[Uid, ...]]) -> dict[int, KnownConfig]:
        """Take slots from a chosen plain configuration to the joint one with the wished-for members (rule 6).

        Returns the joint configurations that are chosen now, those among them that were found half finished. What is
        found plain and not known to be chosen is accepted again first, under a ballot of its own (rule 8).
        """
        prepared = await self.prepare(wishes)
        unsure = [
            one.slot
            for one in prepared.values()
            if one.best is not None and not one.best.config.joint and not self._table.is_chosen(one.best)
        ]
        if unsure:
            again = [
                (one.ballot, slot, one.best.config) for slot in unsure if (one := prepared.pop(slot)).best is not None
            ]
            confirmed = await self.accept(again)
            prepared |= await self.prepare({slot: wishes[slot] for slot in confirmed})
        proposals = []
        for one in prepared.values():
            if one.best is None or one.best.config.last:
                continue
            config = one.best.config
            wish = wishes[one.slot]
            if config.joint:
                proposals.append((one.ballot, one.slot, config))
            elif self._table.is_chosen(one.best) and majority(wish, one.granted) and self._moves(one.best, wish):
                joint = Config(config.epoch + 1, one.ballot, config.new, wish)
                proposals.append((one.ballot, one.slot, joint))
        return await self.accept(proposals)

    def _moves(self, found: KnownConfig, wish: tuple[Uid, ...]) -> bool:
        """Say whether a wish is worth a hand-over: for other members, or past a newer epoch that no quorum has."""
        known = self._table.known(found.slot)
        overtaken = known is not None and known.config.epoch > found.config.epoch
        return wish != found.config.new or overtaken

    async def settle(self, joints: Iterable[KnownConfig]) -> dict[int, KnownConfig]:
        """Take chosen and synced joint configurations to the plain ones that follow them (rule 7, c)."""
        wanted = {known.slot: known for known in joints}
        prepared = await self.prepare(dict.fromkeys(wanted, ()))
        proposals = []
        for one in prepared.values():
            joint = wanted[one.slot].config
            if one.best is not None and one.best.config.identity == joint.identity and not joint.last:
                plain = Config(joint.epoch + 1, one.ballot, (), joint.new)
                proposals.append((one.ballot, one.slot, plain))
        chosen = await self.accept(proposals)
        self.announce(chosen.values(), {slot: wanted[slot].config.members for slot in chosen})
        return chosen
