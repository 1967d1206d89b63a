"""Accounts: one CASPaxos register a name, under its slot's configuration (rules 9 to 13 of the slot protocol).

After Rystsov, "CASPaxos: Replicated State Machines without logs" (2018, arXiv 1802.07000). Prepare and accept carry the
configuration and share one epoch; whoever meets a newer configuration drops promises and values, and starts anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from coterie_protocol.errors import CoterieError, ErrorCode, StaleEpoch, Unavailable
from coterie_protocol.identifiers import Uid, slot_of_name
from coterie_protocol.registers import (
    ACCOUNT_ZERO,
    AccountAccept,
    AccountAccepted,
    AccountBallot,
    AccountPrepare,
    AccountPromise,
    AccountPromises,
    AccountRead,
    ConfigLearn,
    KnownConfig,
    majority_of,
    risen,
)
from coterie_protocol.words import counted

from ...runtime.ports import Clock, Peers
from ..configuration import SlotTable
from ..settings import ReplicationSettings
from .acceptors import Members

if TYPE_CHECKING:
    import random

Change = Callable[[bytes | None], bytes | None]
"""A pure function from an account's value to its next one. It may run several times, also on its own result: an
operation that must happen once carries an id and recognises itself. It refuses by raising a CoterieError."""

WRITE_AGAIN = 16
"""Accounts in one round of `write_again`: all values come in one answer, and nobody knows how large they are."""


@dataclass
class _Found:
    """What a prepare or read round found for one name."""

    granted: set[Uid] = field(default_factory=set)
    accepted: dict[Uid, AccountBallot] = field(default_factory=dict)
    ballot: AccountBallot = ACCOUNT_ZERO
    value: bytes | None = None

    def hear(self, uid: Uid, item: AccountPromise) -> None:
        self.granted.add(uid)
        self.accepted[uid] = item.accepted
        if item.accepted > self.ballot:
            self.ballot, self.value = item.accepted, item.value

    @property
    def unanimous(self) -> bool:
        """Say whether all who answered have accepted the same ballot."""
        return len(set(self.accepted.values())) == 1


class Accounts:
    """Reads and changes accounts as a proposer. `name` is unique per process start."""

    def __init__(
        self,
        name: str,
        table: SlotTable,
        peers: Peers,
        members: Members,
        clock: Clock,
        rng: random.Random,
        settings: ReplicationSettings,
    ) -> None:
        self._name = name
        self._table = table
        self._peers = peers
        self._members = members
        self._clock = clock
        self._rng = rng
        self._settings = settings
        self._counter = 0
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self.conflicts = 0
        """Rounds that lost against another proposer."""

    async def read(self, name: str) -> bytes | None:
        """Return an account's value, linearizably. Raises Unavailable."""
        config = self._config(slot_of_name(name, self._table.slots))
        found = _Found()
        request = AccountRead(config.slot, *config.config.identity, [name])
        await self._round(config, request, {name: found})
        if config.config.quorum(found.granted) and found.unanimous:
            # A quorum has accepted one ballot: its value is chosen, and no later one was chosen before we asked.
            return found.value
        return await self.change(name, lambda value: value)

    async def change(self, name: str, function: Change) -> bytes | None:
        """Change an account and return the value that is committed.

        Raises what the function raises, but never on a value that might still be lost: it is committed first. Raises
        Unavailable when the time is over; the change may have happened all the same.
        """
        slot = slot_of_name(name, self._table.slots)
        deadline = self._clock.now() + self._settings.account_timeout
        lock = self._locks.setdefault(name, asyncio.Lock())
        async with lock:
            for attempt in range(1 << 30):
                if attempt:
                    await self._clock.sleep(
                        self._rng.uniform(0.2, 1.0) * self._settings.conflict_pause * min(attempt, 8)
                    )
                if self._clock.now() > deadline:
                    break
                config = self._config(slot)
                ballot, promised = await self._prepare(config, [name])
                if name not in promised:
                    continue
                found = promised[name]
                refusal: CoterieError | None = None
                try:
                    value = function(found.value)
                except CoterieError as error:
                    refusal, value = error, found.value
                # A refusal, or a change that changes nothing, rests on a value that may not be chosen yet.
                settled = found.unanimous and value == found.value
                if settled or await self._accept(config, ballot, [(name, value)]):
                    if refusal is not None:
                        raise refusal
                    return value
        raise Unavailable(self._table.lacks(slot) or f"those who hold {name!r} do not agree just now; try again")

    def rise_to(self, counter: int) -> None:
        """Propose only above this counter from now on."""
        self._counter = risen(self._counter, counter)

    async def write_again(self, config: KnownConfig, names: Sequence[str]) -> None:
        """Re-accept accounts, those without a value too, so that a damaged register is written again (rule 15).

        Every member takes the accept, and only what a quorum without the damaged one has promised is proposed.
        """
        for start in range(0, len(names), WRITE_AGAIN):
            ballot, found = await self._prepare(config, names[start : start + WRITE_AGAIN])
            await self._accept(config, ballot, [(name, one.value) for name, one in found.items()])

    async def accept_again(self, config: KnownConfig, names: Sequence[str]) -> bool:
        """Re-accept accounts under a (joint) configuration, an identity change each (rule 12); say whether all were."""
        for attempt in range(self._settings.sync_attempts):
            if attempt:
                await self._clock.sleep(self._rng.uniform(0.2, 1.0) * self._settings.conflict_pause)
            ballot, found = await self._prepare(config, names)
            values = [(name, one.value) for name, one in found.items() if one.ballot != ACCOUNT_ZERO]
            if len(found) == len(names) and await self._accept(config, ballot, values):
                return True
        return False

    def _config(self, slot: int) -> KnownConfig:
        known = self._table.known(slot)
        if known is None:
            raise CoterieError("this node knows nothing of the slot", code=ErrorCode.UNKNOWN_SLOT)
        if self._members.me not in known.config.members:
            raise StaleEpoch((known,))
        factor = self._table.replication_factor
        if not self._table.serving(slot):
            raise CoterieError(
                f"the ring is forming: it takes accounts once {counted(factor, 'node has', 'nodes have')} joined",
                code=ErrorCode.FORMING,
            )
        copies, needed = len(known.config.new), majority_of(factor)
        if known.config.generation and copies < needed:
            raise Unavailable(
                f"this name begins anew after an accepted loss and is on {copies} of the {counted(needed, 'node')} "
                "that it needs; start another node, or try again while it is copied"
            )
        return known

    def _ballot(self, config: KnownConfig) -> AccountBallot:
        self._counter += 1
        return AccountBallot(config.config.epoch, self._counter, self._name)

    async def _prepare(self, config: KnownConfig, names: Sequence[str]) -> tuple[AccountBallot, dict[str, _Found]]:
        """Return the round's ballot and what a quorum promised, by name; names that no quorum promised are missing."""
        ballot = self._ballot(config)
        found = {name: _Found() for name in names}
        request = AccountPrepare(config.slot, *config.config.identity, [(name, ballot) for name in names])
        await self._round(config, request, found, ballot)
        promised = {name: one for name, one in found.items() if config.config.quorum(one.granted)}
        self.conflicts += len(found) - len(promised)
        return ballot, promised

    async def _accept(
        self, config: KnownConfig, ballot: AccountBallot, values: Sequence[tuple[str, bytes | None]]
    ) -> bool:
        """Have values accepted; say whether a quorum took each: then they are committed."""
        accepted: dict[str, set[Uid]] = {name: set() for name, _ in values}

        def answer(uid: Uid, reply: Any) -> None:
            if isinstance(reply, AccountAccepted):
                for name, promised in reply.items:
                    self._counter = risen(self._counter, promised.counter)
                    if promised == ballot and name in accepted:
                        accepted[name].add(uid)
            else:
                self._stale(config, uid, reply)

        def enough() -> bool:
            return all(config.config.quorum(granted) for granted in accepted.values())

        if values:
            request = AccountAccept(
                config.slot, *config.config.identity, [(name, ballot, value) for name, value in values]
            )
            await self._ask(config, request, answer, enough)
        return enough()

    async def _round(
        self,
        config: KnownConfig,
        request: AccountPrepare | AccountRead,
        found: dict[str, _Found],
        ballot: AccountBallot | None = None,
    ) -> None:
        def answer(uid: Uid, reply: Any) -> None:
            if isinstance(reply, AccountPromises):
                for item in reply.items:
                    self._counter = risen(self._counter, item.promised.counter)
                    # A read asks for no promise: every answer counts.
                    if item.name in found and (ballot is None or item.promised == ballot):
                        found[item.name].hear(uid, item)
            else:
                self._stale(config, uid, reply)

        def enough() -> bool:
            return all(config.config.quorum(one.granted) for one in found.values())

        await self._ask(config, request, answer, enough)

    async def _ask(
        self,
        config: KnownConfig,
        request: Any,
        answer: Callable[[Uid, Any], None],
        enough: Callable[[], bool],
    ) -> None:
        members = config.config.members
        living = [uid for uid in members if self._table.live(uid)]
        timeout = self._settings.round_timeout
        await self._members.ask_all(dict.fromkeys(living, request), timeout, answer, enough)
        rest = [uid for uid in members if uid not in living]
        if rest and not enough():
            await self._members.ask_all(dict.fromkeys(rest, request), timeout, answer, enough)

    def _stale(self, config: KnownConfig, uid: Uid, reply: Any) -> None:
        """Help a member that lags behind a chosen configuration. (What is newer the table has learnt already.)"""
        if not isinstance(reply, StaleEpoch) or uid == self._members.me:
            return
        theirs = max((known.config.epoch for known in reply.known), default=-1)
        if theirs < config.config.epoch and self._table.is_chosen(config):
            self._peers.send(uid, ConfigLearn([config]))
