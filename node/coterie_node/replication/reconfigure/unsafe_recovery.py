"""Accepting a loss: slots that lost their majority for good begin anew with what one survivor has.

This is the one place that writes a configuration which no quorum has decided. It does so only at an operator's word,
only for slots that cannot reach a quorum among the nodes that answer, and in one transaction of one node: a
configuration whose only member is that node is decided by that node's disk alone. From there the ordinary hand-over
takes the slot to K members again.

What keeps two histories apart: the new configuration is of a new generation (`Config.generation`), far above whatever
the lost members can have decided. Whoever meets it with a register of an older generation puts its accounts of the
slot aside (`acceptor`), says so in its log, and is a member no more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import structlog

from coterie_protocol.bounds import MAX_COUNT
from coterie_protocol.errors import CoterieError, ErrorCode, Unavailable
from coterie_protocol.identifiers import Uid
from coterie_protocol.nodes import Refs, WhoIs
from coterie_protocol.recovery import (
    Keep,
    Kept,
    RecoveryAccounts,
    RecoveryEnd,
    RecoveryFacts,
    RecoveryKeep,
    RecoveryKept,
    RecoveryQuery,
    SlotFact,
)
from coterie_protocol.registers import AccountPromise, AccountPromises, Ballot, Config, ConfigLearn, KnownConfig

from ...runtime.ports import Clock, Handlers, Peers, RegisterDamaged, Store, StoreError, Suggestions, Tx
from ..configuration import SlotTable
from ..consensus import acceptor
from .unsafe_recovery_plan import Facts, SlotPlan, beginning, plan, stuck_slots

log = structlog.get_logger()

PAGE = 512
"""Slots in one answer."""
BATCH = 32
"""Slots that a keeper begins anew in one request."""
ASK_TIMEOUT = 5.0
KEEP_TIMEOUT = 60.0
RESERVED = 120.0
"""Seconds for which a node takes part in one recovery only."""


class Recovery:
    """Runs recoveries at an operator's word, and takes part in those of others."""

    def __init__(
        self,
        name: str,
        table: SlotTable,
        store: Store,
        peers: Peers,
        suggestions: Suggestions,
        handlers: Handlers,
        clock: Clock,
    ) -> None:
        """`name` is unique per process start."""
        self._name = name
        self._table = table
        self._store = store
        self._peers = peers
        self._suggestions = suggestions
        self._clock = clock
        self._run = ""
        self._until = 0.0
        self._runs = 0
        handlers.on_request(RecoveryQuery, self._query)
        handlers.on_request(RecoveryAccounts, self._accounts)
        handlers.on_request(RecoveryKeep, self._keep)
        handlers.on_event(RecoveryEnd, lambda _, message: self._release(message.run))

    # --- the coordinator ---

    async def look(self, others: Iterable[Uid]) -> list[SlotPlan]:
        """Say what a recovery would do, and change nothing. `others` are all nodes that may be alive."""
        return (await self._plan("", others))[1]

    async def accept_loss(self, others: Iterable[Uid]) -> list[tuple[SlotPlan, Kept]]:
        """Begin every slot anew that has no quorum among the nodes that answer; return what came of each.

        Raises BUSY while another recovery is under way.
        """
        self._runs += 1
        run = f"{self._name}/{self._runs}"
        asked = list(others)
        done: list[tuple[SlotPlan, Kept]] = []
        try:
            facts, plans = await self._plan(run, asked)
            log.warning("accepts the loss of slots without a quorum", run=run, slots=len(plans), alive=sorted(facts))
            for keeper in sorted({one.keeper for one in plans}):
                mine = [one for one in plans if one.keeper == keeper]
                for start in range(0, len(mine), BATCH):
                    done += await self._begin(run, facts, keeper, mine[start : start + BATCH])
        finally:
            self._release(run)
            for uid in sorted({*asked, *self._named()} - {self._peers.me}):
                self._peers.send(uid, RecoveryEnd(run))
        return sorted(done, key=lambda one: one[0].slot)

    async def _plan(self, run: str, others: Iterable[Uid]) -> tuple[Facts, list[SlotPlan]]:
        facts = await self._ask_everybody(run, others)
        stuck = stuck_slots(facts, self._table.slots)
        suggested = await self._suggestions.members(stuck) if stuck else {}
        return facts, plan(facts, stuck, suggested)

    async def _ask_everybody(self, run: str, others: Iterable[Uid]) -> Facts:
        """Ask whoever is named, by anybody, until nobody is left: a node that is overlooked would pass for lost."""
        mine = await self._facts(run, self._peers.me)
        assert mine is not None
        facts: dict[Uid, dict[int, SlotFact]] = {self._peers.me: mine}
        asked = {self._peers.me}
        named = {*others, *self._named()}
        while left := sorted(named - asked):
            await self._learn_addresses([uid for uid in left if self._peers.ref(uid) is None], facts)
            answers = await asyncio.gather(*(self._facts(run, uid) for uid in left))
            asked.update(left)
            for uid, answer in zip(left, answers, strict=True):
                if answer is not None:
                    facts[uid] = answer
                    for fact in answer.values():
                        named.update(fact.known.config.members if fact.known is not None else ())
        return facts

    def _named(self) -> set[Uid]:
        """Return whom the configurations name that this node knows."""
        return {uid for slot in self._table.slots_known() for uid in self._table.members(slot)}

    async def _learn_addresses(self, uids: Sequence[Uid], facts: Facts) -> None:
        """Ask those who have answered where others are."""
        if not uids:
            return
        for uid in facts:
            if uid != self._peers.me:
                with suppress(CoterieError):
                    reply = await self._peers.request(uid, WhoIs(list(uids)), ASK_TIMEOUT)
                    if isinstance(reply, Refs):
                        self._peers.learn(reply.nodes)

    async def _facts(self, run: str, uid: Uid) -> dict[int, SlotFact] | None:
        """Return what a node has; None when it does not answer at all."""
        facts: dict[int, SlotFact] = {}
        first = 0
        while first >= 0:
            try:
                reply = await self._ask(uid, RecoveryQuery(run, first), ASK_TIMEOUT)
            except Unavailable:
                if first:
                    raise
                return None
            if not isinstance(reply, RecoveryFacts) or (0 <= reply.next <= first):
                raise CoterieError(f"{uid} answers a recovery's question strangely", code=ErrorCode.UNAVAILABLE)
            facts |= {fact.slot: fact for fact in reply.items}
            first = reply.next
        return facts

    async def _begin(
        self, run: str, facts: Facts, keeper: Uid, plans: Sequence[SlotPlan]
    ) -> list[tuple[SlotPlan, Kept]]:
        tell = tuple(dict.fromkeys((*facts, *(uid for one in plans for uid in one.lost))))
        items = [Keep(beginning(facts, one, run), one.newest, one.sources) for one in plans]
        try:
            reply = await self._ask(keeper, RecoveryKeep(run, items, tell), KEEP_TIMEOUT)
        except CoterieError as error:
            return [(one, Kept(one.slot, 0, 0, [], f"{keeper}: {error.detail}")) for one in plans]
        by_slot = {kept.slot: kept for kept in reply.items} if isinstance(reply, RecoveryKept) else {}
        return [(one, by_slot.get(one.slot) or Kept(one.slot, 0, 0, [], f"{keeper}: no answer")) for one in plans]

    async def _ask(self, uid: Uid, message: RecoveryQuery | RecoveryKeep, timeout: float) -> Any:
        if uid != self._peers.me:
            return await self._peers.request(uid, message, timeout)
        return await (self._query(uid, message) if isinstance(message, RecoveryQuery) else self._keep(uid, message))

    # --- whoever takes part ---

    def _reserve(self, run: str) -> None:
        """Take part in this run and in no other one. Raises BUSY."""
        now = self._clock.now()
        if self._run not in ("", run) and now < self._until:
            raise CoterieError(
                f"another recovery is under way ({self._run}); wait until it has ended", code=ErrorCode.BUSY
            )
        self._run, self._until = run, now + RESERVED

    def _release(self, run: str) -> None:
        if self._run == run:
            self._run = ""

    async def _query(self, _: Uid, message: RecoveryQuery) -> RecoveryFacts:
        if message.run:
            self._reserve(message.run)
        slots = range(message.first, min(message.first + PAGE, self._table.slots))

        def look(tx: Tx) -> list[tuple[int, bool, int, int, bool]]:
            return [(slot, *_held(tx, slot)) for slot in slots]

        found = await self._read(look)
        items = [
            SlotFact(slot, known, own, accounts, records, damaged)
            for slot, own, accounts, records, damaged in found
            if (known := self._table.known(slot)) is not None or own or accounts or records or damaged
        ]
        return RecoveryFacts(items, slots.stop if slots.stop < self._table.slots else -1)

    async def _accounts(self, _: Uid, message: RecoveryAccounts) -> AccountPromises:
        """List the accounts of a slot, whatever its configuration; damaged ones are left out."""
        names = await self._read(lambda tx: tx.account_names(message.slot, message.after, acceptor.LIST_PAGE))

        def look(tx: Tx) -> list[AccountPromise]:
            return [one for name in names if (one := _promise(tx, message.slot, name)) is not None]

        return acceptor.page_of(await self._read(look), more=bool(names) and len(names) == acceptor.LIST_PAGE)

    async def _keep(self, _: Uid, message: RecoveryKeep) -> RecoveryKept:
        self._reserve(message.run)
        results = [await self._keep_one(item) for item in message.items]
        news = [known for _, known in results if known is not None]
        for known in news:
            self._table.stored(known)
            self._table.choose(known)
        if news:
            log.error(
                "slots begin anew with what this node has; whatever only lost nodes had is given up",
                run=message.run,
                slots=len(news),
                first=[known.slot for known in news[:16]],
            )
            for uid in message.tell:
                if uid != self._peers.me:
                    self._peers.send(uid, ConfigLearn(news))
        return RecoveryKept([kept for kept, _ in results])

    async def _keep_one(self, item: Keep) -> tuple[Kept, KnownConfig | None]:
        slot = item.known.slot
        try:
            others: dict[str, AccountPromise] = {}
            for uid in item.sources:
                await self._collect(slot, uid, others)
            known, kept = await self._store.transact(lambda tx: _begin(tx, item, dict(others)))
        except (CoterieError, StoreError) as error:
            return Kept(slot, 0, 0, [], error.detail if isinstance(error, CoterieError) else str(error)), None
        return kept, known

    async def _collect(self, slot: int, uid: Uid, others: dict[str, AccountPromise]) -> None:
        """Add what another survivor has accepted of a slot's accounts, where it is further."""
        after, more = "", True
        while more:
            reply = await self._peers.request(uid, RecoveryAccounts(slot, after), ASK_TIMEOUT)
            if not isinstance(reply, AccountPromises):
                raise Unavailable(f"{uid} answers a recovery's question strangely")
            for one in reply.items:
                held = others.get(one.name)
                if held is None or one.accepted > held.accepted:
                    others[one.name] = one
            more = reply.more and bool(reply.items)
            after = reply.items[-1].name if reply.items else after

    async def _read(self, function: Any) -> Any:
        try:
            return await self._store.read(function)
        except StoreError as error:
            raise CoterieError(f"the store cannot be read: {error}", code=ErrorCode.UNAVAILABLE) from error


def _held(tx: Tx, slot: int) -> tuple[bool, int, int, bool]:
    """Return (whether the own register holds a configuration, accounts, records, whether it is damaged)."""
    accounts, records = tx.account_count(slot), tx.record_count(slot)
    try:
        register = tx.slot_register(slot)
    except RegisterDamaged:
        return False, accounts, records, True
    return register is not None and register.config is not None, accounts, records, False


def _promise(tx: Tx, slot: int, name: str) -> AccountPromise | None:
    try:
        held = tx.account(slot, name)
    except RegisterDamaged:
        return None
    return None if held is None else AccountPromise(name, held.promised, held.accepted, held.value)


def _begin(tx: Tx, item: Keep, others: dict[str, AccountPromise]) -> tuple[KnownConfig, Kept]:
    """Begin a slot anew, all at once; return the configuration with which it has begun, and what is kept.

    Raises CoterieError when this node knows a newer configuration than the one that was judged.
    """
    known = item.known
    slot = known.slot
    try:
        register = tx.slot_register(slot)
    except RegisterDamaged:
        register = None
    if register is not None and register.config is not None:
        newest = item.newest
        ahead = newest is None or (register.config.epoch, register.accepted) > (newest.config.epoch, newest.ballot)
        if ahead:
            raise CoterieError("the slot has moved on meanwhile; look again", code=ErrorCode.BUSY)
        if register.promised >= known.ballot:
            # Proposers that know of a slot of this generation already count from there for all slots.
            known = _above(known, register.promised.counter)
    # First the configuration: a damaged account's floor is reckoned from a readable one.
    tx.put_slot_register(slot, acceptor.register_of(known))
    damaged = []
    for name in _names(tx, slot):
        held = _promise(tx, slot, name)
        other = others.pop(name, None)
        if held is None and other is None:
            damaged.append(name)
            tx.put_account(slot, name, acceptor.BLANK_ACCOUNT)
        elif other is not None and (held is None or other.accepted > held.accepted):
            tx.put_account(slot, name, acceptor.account_of(other))
    for name, other in others.items():
        tx.put_account(slot, name, acceptor.account_of(other))
    return known, Kept(slot, tx.account_count(slot), tx.record_count(slot), damaged, "")


def _above(known: KnownConfig, counter: int) -> KnownConfig:
    """Return the same beginning at a ballot above a counter."""
    ballot = Ballot(min(counter + 1, MAX_COUNT - 1), known.ballot.proposer)
    return KnownConfig(known.slot, ballot, Config(known.config.epoch, ballot, (), known.config.new))


def _names(tx: Tx, slot: int) -> list[str]:
    names: list[str] = []
    after = ""
    while page := tx.account_names(slot, after, acceptor.LIST_PAGE):
        names += page
        after = page[-1]
    return names
