"""Chat put together: both halves, gateway and owner, of one node."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from coterie_node.measure import Distribution
from coterie_node.replication.commits import Arrivals
from coterie_node.replication.configuration import SlotTable
from coterie_node.runtime.dispatch import Dispatcher
from coterie_node.runtime.ports import Clock, Peers, Store, Tasks
from coterie_protocol.records import OUTGOING, Record, State

from ..runtime.messenger import Courier
from .gateway.conversation import Gateway, NodeFacts
from .gateway.forwarding import Forwarder
from .gateway.logins import LoginCounts, Passwords, Registration
from .gateway.names import Names
from .gateway.queries import Questions
from .gateway.sessions import Sessions
from .owner.account_requests import AccountDesk
from .owner.archive import Archive
from .owner.attachments import Presence
from .owner.delivery import Delivery
from .owner.mailbox import Mailbox
from .owner.quotas import Boxes
from .owner.receipts import Receipts
from .owner.session_cache import Current
from .ports import AccountRegisters, Ages, Appending, CatchingUp, Routing
from .settings import ChatSettings


@dataclass(frozen=True)
class ChatCounts:
    """Totals since the start, for metrics."""

    accepted: int
    """Messages taken from clients here."""
    stored: int
    """... and stored on a majority."""
    delays: Distribution
    """... and delivered, by the seconds from its storing until its recipient's client had saved it and said so."""
    logins: LoginCounts


class Chat:
    """A node's chat. It registers its handlers at once; `start` begins the renewing of sessions."""

    def __init__(
        self,
        *,
        table: SlotTable,
        router: Routing,
        accounts: AccountRegisters,
        appender: Appending,
        repair: CatchingUp,
        ages: Ages,
        arrivals: Arrivals,
        store: Store,
        peers: Peers,
        dispatcher: Dispatcher,
        clock: Clock,
        tasks: Tasks,
        passwords: Passwords,
        facts: NodeFacts,
        settings: ChatSettings,
    ) -> None:
        self._tasks = tasks
        self._clock = clock
        courier = Courier(peers, dispatcher)
        names = Names(table.slots)
        current = Current(accounts, store, table, clock, tasks, settings)
        AccountDesk(accounts, current, clock, dispatcher)
        boxes = Boxes(accounts, current, store, table, ages, clock, tasks, settings)
        mailbox = Mailbox(table, boxes, current, appender, peers, dispatcher, ages, tasks, settings)
        self._delivery = Delivery(store, repair, arrivals, courier, ages, clock, tasks, settings)
        self._presence = Presence(table, current, self._delivery, courier, peers, dispatcher, clock, settings)
        self._sessions = Sessions(table, router, courier, peers, dispatcher, clock, tasks, settings)
        receipts = Receipts(table, router, peers, dispatcher, tasks, self._presence.gateways, self._sessions.receipts)
        self._archive = Archive(
            table, current, store, appender, repair, receipts, ages, dispatcher, clock, tasks, settings
        )
        arrivals.watch(partial(_tell_expired, table, receipts))
        self._forwarder = Forwarder(table, router, mailbox, peers, dispatcher, clock, tasks, settings)
        table.watch(self._forwarder.configured)
        self._registration = Registration(router, names, passwords, clock, settings)
        questions = Questions(table, router, names, settings)
        self.gateway = Gateway(
            facts,
            self._registration,
            self._sessions,
            self._forwarder,
            questions,
            names,
            clock,
            tasks,
            settings,
        )
        """What api.client hands clients' connections to."""

    def start(self) -> None:
        """Begin to renew sessions and to forget those that are not renewed."""
        self._tasks.keep(self._sessions.run, "renew sessions")
        self._tasks.keep(self._presence.run, "forget sessions")

    @property
    def sessions(self) -> int:
        """Return how many sessions this node is the gateway of."""
        return len(self._sessions)

    def counts(self) -> ChatCounts:
        """Return totals since the start."""
        return ChatCounts(
            self._forwarder.accepted,
            self._forwarder.stored,
            self._archive.delays,
            self._registration.counts,
        )

    async def finish(self, timeout: float) -> bool:
        """Wait until every message taken from clients has its result; say whether all have within `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._forwarder.idle()
        except TimeoutError:
            return False
        return True


def _tell_expired(table: SlotTable, receipts: Receipts, records: Sequence[Record]) -> None:
    """Tell the senders of messages that have expired here, if this node acts for them."""
    receipts.route(
        [
            (record.sender, record.owner, record.id, int(State.EXPIRED), record.changed_at)
            for record in records
            if record.state == State.EXPIRED
            and record.sender != OUTGOING
            and not record.part
            and table.acts(record.slot)
        ]
    )
