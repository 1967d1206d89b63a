"""Asking members of a slot, this node among them, and answering as one.

The one place where a request to an acceptor becomes either a transaction of the own store or a message to a peer, so
that a proposer treats itself like any other member.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import structlog

from coterie_protocol.errors import CoterieError, ErrorCode, StaleEpoch
from coterie_protocol.identifiers import Uid
from coterie_protocol.registers import (
    AccountAccept,
    AccountList,
    AccountPrepare,
    AccountRead,
    Ballot,
    ConfigAccept,
    ConfigEpochs,
    ConfigKnown,
    ConfigLearn,
    ConfigPrepare,
    ConfigPromises,
    ConfigQuery,
    KnownConfig,
    SlotRegister,
)
from coterie_protocol.replication import SyncState

from ...runtime.ports import Handlers, Peers, Store, StoreError, Tasks, Tx
from ..configuration import SlotTable
from . import acceptor

log = structlog.get_logger()


class Members:
    """Acceptors by uid. Messages to this node's own uid run in its own store."""

    def __init__(self, table: SlotTable, store: Store, peers: Peers, handlers: Handlers, tasks: Tasks) -> None:
        self._table = table
        self._store = store
        self._peers = peers
        self._tasks = tasks
        self._own: dict[type, Callable[[Any], Coroutine[Any, Any, Any]]] = {
            ConfigPrepare: self._prepare,
            ConfigAccept: self._accept,
            AccountPrepare: self._transaction(acceptor.account_prepare),
            AccountAccept: self._transaction(acceptor.account_accept),
            AccountRead: self._transaction(acceptor.account_read),
            AccountList: self._transaction(acceptor.account_list),
            SyncState: self._transaction(acceptor.sync_state),
        }
        for kind, handler in self._own.items():
            handlers.on_request(kind, _without_sender(handler))
        handlers.on_request(ConfigQuery, self._query)
        handlers.on_event(ConfigLearn, lambda _, message: self.learn(message.items))
        handlers.on_event(ConfigKnown, self._hint)
        handlers.on_event(ConfigEpochs, self._compare)

    @property
    def me(self) -> Uid:
        """Return this node's uid."""
        return self._peers.me

    async def ask(self, uid: Uid, message: Any, timeout: float) -> Any:
        """Ask a member, which may be this node. Raises Unavailable or what it answered."""
        if uid == self._peers.me:
            return await self._own[type(message)](message)
        return await self._peers.request(uid, message, timeout)

    async def ask_all(
        self,
        messages: dict[Uid, Any],
        timeout: float,
        answer: Callable[[Uid, Any], None],
        enough: Callable[[], bool],
    ) -> None:
        """Ask several members at once; return when `enough()` holds after an answer, or nobody is left to answer.

        `answer(uid, reply)` takes each reply, or the CoterieError in its place. Whoever answers later is not heard,
        but what was asked of it goes on: an own acceptor is never stopped in the middle.
        """
        pending = {asyncio.ensure_future(self._answer(uid, message, timeout)): uid for uid, message in messages.items()}
        for task in pending:
            self._tasks.start(task, "ask a member")
        while pending:
            done, _ = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            # In the order of asking, so that a simulation replays.
            for task in [task for task in pending if task in done]:
                answer(pending.pop(task), task.result())
            if enough():
                return

    async def _answer(self, uid: Uid, message: Any, timeout: float) -> Any:
        try:
            return await self.ask(uid, message, timeout)
        except CoterieError as error:
            if isinstance(error, StaleEpoch):
                self._table.learn(error.known)
            return error

    def learn(self, items: Iterable[KnownConfig]) -> None:
        """Take configurations that were chosen into the own register (rule 4)."""
        self._tasks.start(self._learn(list(items)), "learn configurations")

    async def _learn(self, items: list[KnownConfig]) -> None:
        mine = [item for item in items if item.slot < self._table.slots]
        news = await self._store.transact(lambda tx: acceptor.config_learn(tx, mine))
        self._say_passed_over(news)
        for known in news:
            self._table.stored(known)
        for known in mine:
            self._table.choose(known)
        self._table.learn(mine)

    async def found(self, ballot: Ballot, register: SlotRegister) -> None:
        """Create every slot with this node alone: the founder's first act."""
        slots = self._table.slots
        await self._store.transact(lambda tx: acceptor.found(tx, slots, ballot, register))
        if register.config is not None:
            for slot in range(slots):
                known = KnownConfig(slot, ballot, register.config)
                self._table.stored(known)
                self._table.choose(known)

    async def _prepare(self, message: ConfigPrepare) -> ConfigPromises:
        self._check(slot for slot, _ in message.items)
        return ConfigPromises(await self._commit(lambda tx: acceptor.config_prepare(tx, message.items)))

    async def _accept(self, message: ConfigAccept) -> ConfigPromises:
        self._check(item.slot for item in message.items)
        answers = await self._commit(lambda tx: acceptor.config_accept(tx, message.items))
        taken = [item for item, answer in zip(message.items, answers, strict=True) if answer.accepted == item.ballot]
        self._say_passed_over(taken)
        for item, answer in zip(message.items, answers, strict=True):
            if answer.accepted == item.ballot:
                self._table.stored(item)
        return ConfigPromises(answers)

    def _say_passed_over(self, taken: Iterable[KnownConfig]) -> None:
        """Log which slots have begun anew without this node, which was a member of them."""
        slots = [
            known.slot
            for known in taken
            if (own := self._table.own(known.slot)) is not None
            and own.config.generation < known.config.generation
            and self._peers.me in own.config.members
        ]
        if slots:
            log.error(
                "slots have begun anew without this node, with an accepted loss; what it had of their accounts is put "
                "aside in its store and not used any more",
                slots=len(slots),
                first=slots[:16],
            )

    def _transaction(self, function: Callable[[Tx, Any], Any]) -> Callable[[Any], Coroutine[Any, Any, Any]]:
        async def run(message: Any) -> Any:
            return await self._commit(lambda tx: function(tx, message))

        return run

    async def _commit(self, function: Callable[[Tx], Any]) -> Any:
        try:
            return await self._store.transact(function)
        except StoreError as error:
            raise CoterieError(f"the store cannot commit: {error}", code=ErrorCode.UNAVAILABLE) from error

    async def _query(self, _: Uid, message: ConfigQuery) -> ConfigKnown:
        return ConfigKnown([known for slot in message.slots if (known := self._table.known(slot)) is not None])

    def _hint(self, _: Uid, message: ConfigKnown) -> None:
        self._table.learn(message.items)

    def _compare(self, sender: Uid, message: ConfigEpochs) -> None:
        """Tell a fellow member what it lacks, and ask it for what this node lacks: both may have missed anything."""
        chosen, hints, behind = [], [], []
        for slot, epoch in message.items:
            own = self._table.own(slot)
            if 0 <= slot < self._table.slots and (own is None or own.config.epoch < epoch):
                behind.append((slot, 0 if own is None else own.config.epoch))
            known = self._table.known(slot)
            if known is None or known.config.epoch <= epoch:
                continue
            best = self._table.chosen(slot)
            if best is not None and best.config.epoch > epoch:
                chosen.append(best)
            if not self._table.is_chosen(known):
                hints.append(known)
        if chosen:
            self._peers.send(sender, ConfigLearn(chosen))
        if hints:
            self._peers.send(sender, ConfigKnown(hints))
        if behind:
            self._peers.send(sender, ConfigEpochs(behind))

    def _check(self, slots: Iterable[int]) -> None:
        if any(not 0 <= slot < self._table.slots for slot in slots):
            raise CoterieError("no such slot", code=ErrorCode.BAD_REQUEST)


def _without_sender(
    handler: Callable[[Any], Coroutine[Any, Any, Any]],
) -> Callable[[Uid, Any], Coroutine[Any, Any, Any]]:
    async def run(_: Uid, message: Any) -> Any:
        return await handler(message)

    return run
