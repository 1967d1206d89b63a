"""Rules broken on purpose, one at a time, in the real code: whoever tests it must notice.

Each mutation is a context manager that puts one wrong rule in place and takes it away again. The scripted scenarios use
them row by row; `python -m tests.sim.mutations` lets the random walks look for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

from tests.sim.memory_store import MemoryStore
from tests.sim.watched import NotingTx

from coterie_client.history import History, Message
from coterie_client.ordering import HoldBack
from coterie_node.replication.antientropy.liveness import SETTLED
from coterie_node.replication.antientropy.nonmembers import Outsiders
from coterie_node.replication.append.coordinator import Appender
from coterie_node.replication.append.replica import Holder
from coterie_node.replication.configuration import SlotTable
from coterie_node.replication.consensus import acceptor
from coterie_node.replication.consensus.acceptors import Members
from coterie_node.replication.consensus.proposer import Prepared, Proposer
from coterie_node.replication.consensus.registers import Accounts, _Found
from coterie_node.replication.expiry.collect import Ageing
from coterie_node.replication.expiry.slot_clock import Calendar
from coterie_node.replication.handoff import Strays
from coterie_node.replication.reconfigure.state_transfer import Sync
from coterie_node.runtime.ports import FIRST, NO_LIMIT_MS, RegisterDamaged, Tx
from coterie_protocol.client_api import MailItem
from coterie_protocol.errors import StaleEpoch
from coterie_protocol.identifiers import Uid
from coterie_protocol.records import Version
from coterie_protocol.registers import (
    AccountAccept,
    AccountAccepted,
    AccountBallot,
    AccountList,
    AccountPromises,
    Ballot,
    Config,
    ConfigPromise,
    KnownConfig,
    SlotRegister,
    majority,
)
from coterie_protocol.replication import DropTombstones, SyncState, SyncStates

RUNNING: set[asyncio.Task[None]] = set()
"""Transactions whose results have been returned ahead of them."""
Mutation = Callable[[], AbstractContextManager[None]]


@contextmanager
def replaced(target: Any, name: str, value: Any) -> Iterator[None]:
    """Have something else under a name of a class or module for a while."""
    absent = object()
    real = vars(target).get(name, absent)
    setattr(target, name, value)
    try:
        yield
    finally:
        if real is absent:
            delattr(target, name)
        else:
            setattr(target, name, real)


# --- configurations --------------------------------------------------------------------------------------------------


def promised_by_the_new_is_enough() -> AbstractContextManager[None]:
    """Break rule 5 (and with it 7): the new members' majority counts as the joint configuration's quorum."""
    return replaced(
        Prepared, "complete", property(lambda one: one.best is not None and majority(one.best.config.new, one.granted))
    )


@contextmanager
def plain_follows_any_joint() -> Iterator[None]:
    """Break rule 7a: a joint configuration that a round finds is taken for chosen and for synced.

    Both: a sync asks a majority of the old that is at the joint one, so it would find out.
    """
    real = Proposer.join

    async def trusting(self: Proposer, wishes: Mapping[int, tuple[Uid, ...]]) -> dict[int, KnownConfig]:
        prepared = await self.prepare(wishes)
        found = {slot: one.best for slot, one in prepared.items() if one.best is not None and one.best.config.joint}
        return found | await real(self, {slot: wishes[slot] for slot in prepared.keys() - found.keys()})

    with replaced(Proposer, "join", trusting), sync_is_skipped():
        yield


def sync_is_skipped() -> AbstractContextManager[None]:
    """Break rule 7b: the plain configuration follows though its members were not brought up to date."""

    async def nothing(self: Sync, joints: Sequence[KnownConfig]) -> list[KnownConfig]:
        return list(joints)

    return replaced(Sync, "run", nothing)


def found_plain_is_chosen() -> AbstractContextManager[None]:
    """Break rule 8: a plain configuration that a round finds is taken for chosen, and built upon."""
    return replaced(SlotTable, "is_chosen", lambda self, known: True)


def joint_is_replaced() -> AbstractContextManager[None]:
    """Break rule 7: a joint configuration is answered by another one when the ring has changed its mind."""
    real = Proposer.join

    async def replacing(self: Proposer, wishes: Mapping[int, tuple[Uid, ...]]) -> dict[int, KnownConfig]:
        prepared = await self.prepare(wishes)
        proposals = []
        for one in prepared.values():
            assert one.best is not None
            config, wish = one.best.config, wishes[one.slot]
            if config.joint and config.new != wish:
                proposals.append((one.ballot, one.slot, Config(config.epoch + 1, one.ballot, config.old, wish)))
        others = {slot: wishes[slot] for slot in prepared.keys() - {slot for _, slot, _ in proposals}}
        return await self.accept(proposals) | await real(self, others)

    return replaced(Proposer, "join", replacing)


def unknown_is_empty() -> AbstractContextManager[None]:
    """Break rule 3: where everybody answers 'none', a proposer creates the slot with those that it wishes for."""
    real = Proposer.join

    async def creating(self: Proposer, wishes: Mapping[int, tuple[Uid, ...]]) -> dict[int, KnownConfig]:
        chosen = await real(self, wishes)
        ballot = self._next(wishes)
        blank = {slot: wish for slot, wish in wishes.items() if self._table.known(slot) is None}
        return chosen | await self.accept((ballot, slot, Config(2, ballot, wish, wish)) for slot, wish in blank.items())

    return replaced(Proposer, "join", creating)


def removed_member_forgets() -> AbstractContextManager[None]:
    """Break rule 1: a removed member that has handed everything over forgets the slot's register, too."""
    real = Strays._finish

    async def forgetting(self: Strays, slot: int) -> bool:
        done = await real(self, slot)

        def forget(tx: Tx) -> None:
            register = tx.slot_register(slot)
            if register is not None and register.config is not None and self._me not in register.config.members:
                tx.forget_slot_register(slot)  # type: ignore[attr-defined]

        if done:
            await self._store.transact(forget)
        return done

    return replaced(Strays, "_finish", forgetting)


def healed_by_anything() -> AbstractContextManager[None]:
    """Break rule 15: a damaged acceptor abstains only until somebody writes its register again."""
    accept = acceptor.config_accept

    def heals(tx: Tx, items: Sequence[KnownConfig]) -> list[ConfigPromise]:
        for item in items:
            try:
                tx.slot_register(item.slot)
            except RegisterDamaged:
                tx.put_slot_register(item.slot, SlotRegister(item.ballot, item.ballot, item.config))
        return accept(tx, items)

    return replaced(acceptor, "config_accept", heals)


def register_quorum_of_one() -> AbstractContextManager[None]:
    """Let one member's word be a quorum, of configurations and accounts."""
    return replaced(Config, "quorum", lambda self, granted: any(uid in granted for uid in self.members))


# --- accounts --------------------------------------------------------------------------------------------------------


def epoch_is_a_number() -> AbstractContextManager[None]:
    """Break rule 9: the fence compares epochs, not configurations."""

    def by_number(tx: Tx, slot: int, epoch: int, cid: Ballot) -> None:
        held = tx.slot_register(slot)
        if held is None or held.config is None or held.config.epoch != epoch:
            raise StaleEpoch()

    return replaced(acceptor, "_fence", by_number)


def accept_unfenced() -> AbstractContextManager[None]:
    """Break rule 9: only the promise is fenced."""
    real = acceptor.account_accept

    def unfenced(tx: Tx, request: AccountAccept) -> AccountAccepted:
        own = _own(tx, request.slot)
        return real(tx, request if own is None else AccountAccept(request.slot, *own.identity, request.items))

    return replaced(acceptor, "account_accept", unfenced)


def ballots_without_epoch() -> AbstractContextManager[None]:
    """Break rule 2: only the counter says which of an account's values is newer."""
    ballot = Accounts._ballot

    def without_epoch(self: Accounts, config: KnownConfig) -> AccountBallot:
        real = ballot(self, config)
        return AccountBallot(0, real.counter, real.proposer)

    return replaced(Accounts, "_ballot", without_epoch)


@contextmanager
def list_unfenced() -> Iterator[None]:
    """Break rule 12: accounts are listed by a majority of the old, whether or not it is at the joint configuration."""
    state, listed = acceptor.sync_state, acceptor.account_list

    def any_state(tx: Tx, request: SyncState) -> SyncStates:
        owned = {slot: own.identity for slot, _, _ in request.items if (own := _own(tx, slot)) is not None}
        return state(tx, SyncState([(slot, *owned.get(slot, asked)) for slot, *asked in request.items]))

    def any_list(tx: Tx, request: AccountList) -> AccountPromises:
        own = _own(tx, request.slot)
        return listed(tx, request if own is None else AccountList(request.slot, *own.identity, request.after))

    with replaced(acceptor, "sync_state", any_state), replaced(acceptor, "account_list", any_list):
        yield


def reads_need_no_agreement() -> AbstractContextManager[None]:
    """Take the highest value that a quorum answers for committed, though only one of them may have it."""
    return replaced(_Found, "unanimous", property(lambda self: True))


def _own(tx: Tx, slot: int) -> Config | None:
    try:
        register = tx.slot_register(slot)
    except RegisterDamaged:
        return None
    return None if register is None else register.config


# --- records and disks -----------------------------------------------------------------------------------------------


def append_quorum_of_one() -> AbstractContextManager[None]:
    """Break rule 14: one copy on disk is acknowledged."""
    return replaced(Appender, "_majority", property(lambda self: 1, lambda self, value: None))


def give_up_by_slot() -> AbstractContextManager[None]:
    """Break rule 14: what was confirmed lets the whole slot go, and what has come since."""
    give_up = NotingTx.give_up

    def of_the_slot(self: NotingTx, versions: Sequence[Version]) -> int:
        slots = {version.slot for version in versions}
        return give_up(self, [one for slot in slots for one in self.versions(slot, None, FIRST, 1000, NO_LIMIT_MS)])

    return replaced(NotingTx, "give_up", of_the_slot)


def held_before_fsync() -> AbstractContextManager[None]:
    """Have a replica say that it holds records before its disk has them."""
    real = Holder._commit

    async def early(self: Holder) -> None:
        self._answer(list(self._taken), ok=True)
        await real(self)

    return replaced(Holder, "_commit", early)


def answered_before_fsync() -> AbstractContextManager[None]:
    """Have an acceptor answer before its disk has what it promised or accepted."""

    async def early(self: Members, function: Callable[[Tx], Any]) -> Any:
        return await _ahead(self._store.transact, function)

    return replaced(Members, "_commit", early)


def fsync_lies() -> AbstractContextManager[None]:
    """Have a store return before its fsync."""
    real = MemoryStore.transact

    async def lying(self: MemoryStore, function: Callable[[Tx], Any]) -> Any:
        return await _ahead(partial(real, self), function)

    return replaced(MemoryStore, "transact", lying)


async def _ahead(transact: Callable[[Callable[[Tx], Any]], Awaitable[Any]], function: Callable[[Tx], Any]) -> Any:
    """Return a transaction's result while it is still to be committed."""
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def answering(tx: Tx) -> Any:
        result = function(tx)
        if not answer.done():
            answer.set_result(result)
        return result

    async def commit() -> None:
        try:
            await transact(answering)
        except Exception as error:
            if not answer.done():
                answer.set_exception(error)

    task = asyncio.ensure_future(commit())
    RUNNING.add(task)
    task.add_done_callback(RUNNING.discard)
    return await answer


@contextmanager
def tombstone_dropped() -> Iterator[None]:
    """Let those members that are there drop a tombstone, whatever the others hold."""

    async def whoever_is_there(
        self: Ageing, slot: int, config: Config, versions: Sequence[Version], *, now: bool
    ) -> list[Version]:
        ask = DropTombstones(slot, config.epoch, config.cid, list(versions), now)
        for uid in config.new:
            if self._table.live(uid):
                await self._ask(uid, ask)
        return list(versions)

    with (
        replaced(Ageing, "_everywhere", whoever_is_there),
        replaced(Ageing, "_settled", lambda self, config: not config.joint),
    ):
        yield


@contextmanager
def who_is_back_is_not_asked() -> Iterator[None]:
    """Have whoever acts for a slot wait for what others hand over by themselves, for a while."""

    came_at: dict[tuple[Outsiders, Uid], float] = {}

    def waited(self: Outsiders, slot: int, uids: Iterable[Uid], since: float) -> bool:
        return all(self._clock.now() - came_at.get((self, uid), 0.0) > SETTLED for uid in uids)

    def came(self: Outsiders, uid: Uid, alive: bool) -> None:
        came_at[self, uid] = self._clock.now()

    with replaced(Outsiders, "compared", waited), replaced(Outsiders, "_peer", came):
        yield


def own_clock_is_believed() -> AbstractContextManager[None]:
    """Let a node tell the age of messages by its own clock."""
    return replaced(Calendar, "agreed_ms", lambda self, members: self._clock.wall_ms())


# --- what people see -------------------------------------------------------------------------------------------------


def dedupe_left_out() -> AbstractContextManager[None]:
    """Have a device take mail that it has saved already for new."""
    real = History.save

    def save(self: History, items: Iterable[MailItem]) -> list[Message]:
        items = list(items)
        real(self, items)
        return [one for item in items if (one := self.get(item.sender, item.id)) is not None]

    return replaced(History, "save", save)


def shown_is_forgotten() -> AbstractContextManager[None]:
    """Have a device not remember what it has shown when it starts again."""
    return replaced(History, "mark_shown", lambda self, messages: None)


def order_left_out() -> AbstractContextManager[None]:
    """Have a device show mail as it comes."""
    return replaced(HoldBack, "_gap", lambda self, sender, held, message: False)
