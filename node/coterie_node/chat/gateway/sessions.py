"""The gateway's sessions: which users are connected here, and where they are attached.

A session is attached at the acting owner of its user's slot and renewed there; when the owner dies or another one acts,
it is attached at the next at once. Its subscription then gets a new number, and so begins anew: nothing that was
pushed is ever assumed to have arrived.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Sequence
from typing import Protocol

import structlog

from coterie_node.replication.configuration import SlotTable
from coterie_node.runtime.ports import Clock, Handlers, Peers, Tasks
from coterie_node.telling import tell
from coterie_protocol.chat import (
    Attach,
    Attached,
    AttachItem,
    Deliver,
    Detach,
    Push,
    SessionEnd,
    SessionsOver,
    Unsubscribe,
)
from coterie_protocol.client_api import Drained, Event, Mail, Receipt, Superseded, Unsubscribed
from coterie_protocol.errors import CoterieError
from coterie_protocol.identifiers import Uid, slot_of_name
from coterie_protocol.registers import KnownConfig

from ...runtime.messenger import Courier
from ..accounts import ended, superseded_at
from ..owner.receipts import Item as ReceiptItem
from ..ports import Routing
from ..settings import ChatSettings
from .allowance import Allowance

log = structlog.get_logger()

ATTACH_ITEMS = 2000
"""Sessions in one Attach: some 150 KB."""
MOST_ALLOWANCES = 8192
"""Users of whom is remembered what they have asked lately."""
RETRY = 0.1
LOCATE_TIMEOUT = 2.0


class Client(Protocol):
    """A client's connection, as its session sees it."""

    def push(self, event: Event) -> None:
        """Queue an event."""
        ...

    def push_mail(self, event: Mail | Drained) -> bool:
        """Queue mail; False when the client is too slow to take it now (`Sessions.ready` follows later)."""
        ...

    def end(self) -> None:
        """The session is over: close the connection once what is queued has gone."""
        ...


class Session:
    """A user's session at this gateway."""

    __slots__ = (
        "allowance", "attached", "attaching", "clients", "epoch", "locating", "name", "order", "over", "owner",
        "pressed_at", "slot", "subscriber", "subscription", "waiting",
    )  # fmt: skip

    def __init__(self, name: str, slot: int, epoch: int, allowance: Allowance) -> None:
        self.name = name
        self.slot = slot
        self.epoch = epoch
        self.allowance = allowance
        self.clients: dict[Client, None] = {}
        self.subscriber: Client | None = None
        self.subscription = 0
        self.order = 0
        self.owner: Uid | None = None
        """Where it is attached."""
        self.attached: tuple[Uid | None, int] = (None, 0)
        """Owner and subscription number of the last Attach that was answered."""
        self.waiting: list[tuple[int, asyncio.Future[None]]] = []
        """Who waits for which subscription number to be attached."""
        self.locating = False
        """Its owner is being looked for."""
        self.attaching = 0
        """Attempts to attach it that are under way. Only the last to end tries again, or they would grow in number."""
        self.over: CoterieError | None = None
        self.pressed_at = -math.inf
        """When it last asked too much and its owner was asked at how many gateways it is."""


class Sessions:
    """All sessions of this gateway; one for a user at most, the newest."""

    def __init__(
        self,
        table: SlotTable,
        router: Routing,
        courier: Courier,
        peers: Peers,
        handlers: Handlers,
        clock: Clock,
        tasks: Tasks,
        settings: ChatSettings,
    ) -> None:
        self._table = table
        self._router = router
        self._courier = courier
        self._clock = clock
        self._tasks = tasks
        self._settings = settings
        self._sessions: dict[str, Session] = {}
        self._allowances: dict[str, Allowance] = {}
        self._by_slot: dict[int, dict[Session, None]] = {}
        self._dirty: dict[Session, None] = {}
        """Like sets, but in an order that a simulation repeats."""
        self._numbers = clock.wall_ms()
        handlers.on_event(Deliver, self._deliver)
        handlers.on_event(SessionsOver, lambda _, message: self._over(message.items))
        handlers.on_event(Unsubscribe, self._unsubscribe)
        peers.watch(self._peer)
        table.watch(self._configured)

    def __len__(self) -> int:
        """Return how many sessions there are."""
        return len(self._sessions)

    # --- clients ---

    def join(self, client: Client, name: str, epoch: int) -> Session:
        """Take a client with a valid session. Raises SUPERSEDED if a newer one is here."""
        session = self._sessions.get(name)
        if session is not None and session.epoch > epoch:
            raise superseded_at(0)
        if session is not None and session.epoch < epoch:
            self._end(session, Superseded(self._clock.wall_ms()), superseded_at(self._clock.wall_ms()))
            session = None
        if session is None:
            slot = slot_of_name(name, self._table.slots)
            session = self._sessions[name] = Session(name, slot, epoch, self._allowance(name))
            self._by_slot.setdefault(slot, {})[session] = None
        session.clients[client] = None
        if session.owner is None:
            self._touch(session)
        return session

    def _allowance(self, name: str) -> Allowance:
        """Return what a user may ask here: who connects anew does not begin anew."""
        allowance = self._allowances.pop(name, None) or Allowance(self._settings)
        self._allowances[name] = allowance
        if len(self._allowances) > MOST_ALLOWANCES:
            del self._allowances[next(iter(self._allowances))]
        return allowance

    def leave(self, client: Client, session: Session) -> None:
        """A client's connection is gone; with the last one the session leaves this gateway."""
        session.clients.pop(client, None)
        if session.over is not None:
            return
        if session.subscriber is client:
            session.subscriber = None
            session.subscription = 0
            session.order = 0
            if session.clients:
                self._touch(session)
        if not session.clients:
            self._forget(session)
            if session.owner is not None:
                self._courier.send(session.owner, Detach([(session.name, session.epoch)]))

    async def subscribe(self, client: Client, session: Session) -> None:
        """Have the session's mail pushed to this client; returns once it is attached.

        Raises SUPERSEDED, and TimeoutError when no owner answers: it is tried on all the same.
        """
        older = session.subscriber
        if older is not None and older is not client:
            older.push(Unsubscribed())
        session.subscriber = client
        session.order = 0
        self._renumber(session)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        session.waiting.append((session.subscription, future))
        async with asyncio.timeout(self._settings.account_timeout):
            await future

    def pressed(self, session: Session) -> None:
        """A session asks too much: learn, once in a while, at how many gateways it does so."""
        now = self._clock.now()
        if session.over is None and session.clients and now - session.pressed_at >= self._settings.share_look:
            session.pressed_at = now
            self._touch(session)

    def ready(self, client: Client, session: Session) -> None:
        """A client that was too slow has caught up: begin its subscription anew."""
        if session.over is None and session.subscriber is client:
            self._renumber(session)

    def _renumber(self, session: Session) -> None:
        self._numbers += 1
        session.subscription = self._numbers
        self._touch(session)

    def _forget(self, session: Session) -> None:
        if self._sessions.get(session.name) is session:
            del self._sessions[session.name]
        some = self._by_slot[session.slot]
        some.pop(session, None)
        if not some:
            del self._by_slot[session.slot]
        self._dirty.pop(session, None)

    def _end(self, session: Session, event: Event | None, error: CoterieError) -> None:
        self._forget(session)
        session.over = error
        for _, future in session.waiting:
            if not future.done():
                future.set_exception(error)
        session.waiting.clear()
        for client in list(session.clients):
            if event is not None:
                client.push(event)
            client.end()

    # --- attaching ---

    async def run(self) -> None:
        """Renew all sessions at their owners; runs until it is cancelled."""
        while True:
            await self._clock.sleep(self._settings.renew_interval)
            self._touch_all(self._sessions.values())

    def _touch_all(self, sessions: Iterable[Session]) -> None:
        for session in list(sessions):
            self._touch(session)

    def _touch(self, session: Session) -> None:
        """Attach (or renew) a session in the loop's next turn, with all others that need it."""
        if not self._dirty:
            asyncio.get_running_loop().call_soon(self._flush)
        self._dirty[session] = None

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, {}
        by_owner: dict[Uid | None, list[Session]] = {}
        for session in dirty:
            by_owner.setdefault(self._router.acting(session.slot), []).append(session)
        for session in by_owner.pop(None, ()):
            if session.locating:
                continue
            session.locating = True
            self._tasks.start(self._locate(session), "find a session's owner")
        for owner, sessions in by_owner.items():
            assert owner is not None
            for start in range(0, len(sessions), ATTACH_ITEMS):
                self._tasks.start(self._attach(owner, sessions[start : start + ATTACH_ITEMS]), "attach sessions")

    async def _locate(self, session: Session) -> None:
        try:
            await self._router.locate(session.slot, LOCATE_TIMEOUT)
        except CoterieError:
            await self._clock.sleep(RETRY)
        finally:
            session.locating = False
        self._retry((session,))

    async def _attach(self, owner: Uid, sessions: Sequence[Session]) -> None:
        for session in sessions:
            session.attaching += 1
        try:
            if again := await self._attached(owner, sessions):
                await self._clock.sleep(RETRY)
        finally:
            for session in sessions:
                session.attaching -= 1
        self._retry(session for session in again if not session.attaching)

    async def _attached(self, owner: Uid, sessions: Sequence[Session]) -> Sequence[Session]:
        """Attach sessions; return those that are not, or not as they are by now."""
        for session in sessions:
            if session.attached[0] not in (None, owner) and session.attached[1] == session.subscription != 0:
                # Another owner: begin anew there, under a number of its own.
                self._numbers += 1
                session.subscription = self._numbers
        items = [AttachItem(one.name, one.epoch, one.subscription, one.order) for one in sessions]
        try:
            answer = await self._courier.request(owner, Attach(items), self._settings.attach_timeout)
        except CoterieError as error:
            log.debug("sessions not attached", owner=owner, code=error.wire_code.name)
            return sessions
        except Exception:
            log.exception("sessions could not be attached", owner=owner, sessions=len(sessions))
            return sessions
        if not isinstance(answer, Attached):
            log.warning("an owner answered Attach with something else", owner=owner, kind=type(answer).__name__)
            return sessions
        self._table.learn(answer.known)
        self._over(answer.over)
        elsewhere = set(answer.elsewhere)
        shared = dict(answer.shared)
        left: dict[Uid, list[tuple[str, int]]] = {}
        for session, item in zip(sessions, items, strict=True):
            if session.over is not None or session.name in elsewhere or not session.clients:
                continue
            before, session.owner = session.owner, owner
            session.attached = (owner, item.subscription)
            session.allowance.shared(shared.get(session.name, 1))
            if before is not None and before != owner:
                left.setdefault(before, []).append((session.name, session.epoch))
            self._served(session, item.subscription)
        for name, number, order in answer.orders:
            held = self._sessions.get(name)
            if held is not None and held.subscription == number:
                held.order = order
        for uid, names in left.items():
            self._courier.send(uid, Detach(names))
        return [
            one
            for one in sessions
            if one.name in elsewhere or one.attached != (self._router.acting(one.slot), one.subscription)
        ]

    def _served(self, session: Session, number: int) -> None:
        """Wake who waited for this subscription or an older one."""
        if number:
            for waiting, future in session.waiting:
                if waiting <= number and not future.done():
                    future.set_result(None)
            session.waiting = [one for one in session.waiting if not one[1].done()]

    def _retry(self, sessions: Iterable[Session]) -> None:
        self._touch_all(one for one in sessions if one.over is None and one.clients)

    def _peer(self, uid: Uid, alive: bool) -> None:
        for session in list(self._sessions.values()):
            if session.owner == uid and not alive:
                session.owner = None
                session.attached = (None, 0)
                if session.subscription:
                    self._numbers += 1
                    session.subscription = self._numbers
                self._touch(session)
            elif alive and session.owner != uid and self._router.acting(session.slot) == uid:
                self._touch(session)

    def _configured(self, slot: int, _: KnownConfig) -> None:
        for session in self._by_slot.get(slot, ()):
            if self._router.acting(session.slot) != session.owner:
                self._touch(session)

    # --- what owners say ---

    def _deliver(self, _: Uid, message: Deliver) -> None:
        for push in message.pushes:
            try:
                self._pushed(push)
            except Exception:
                log.exception("mail could not be handed to a client", name=push.name)

    def _pushed(self, push: Push) -> None:
        session = self._sessions.get(push.name)
        client = session.subscriber if session is not None else None
        if session is None or client is None or session.subscription != push.subscription:
            return  # An older wish; the newer one begins anew.
        if push.items and not client.push_mail(Mail(push.items)):
            return
        if push.drained:
            client.push_mail(Drained(push.certain))

    def _over(self, items: Iterable[SessionEnd]) -> None:
        for item in items:
            session = self._sessions.get(item.name)
            if session is None or session.epoch > item.current:
                continue
            try:
                if session.epoch < item.current:
                    self._end(session, Superseded(item.at), superseded_at(item.at))
                elif item.ended:
                    self._end(session, None, ended())
            except Exception:
                log.exception("a session could not be ended", name=item.name)

    def _unsubscribe(self, _: Uid, message: Unsubscribe) -> None:
        for name, number in message.items:
            session = self._sessions.get(name)
            if session is not None and session.subscription == number and session.subscriber is not None:
                subscriber, session.subscriber = session.subscriber, None
                session.subscription = session.order = 0
                self._touch(session)
                tell((subscriber.push,), Unsubscribed())

    def receipts(self, items: Sequence[ReceiptItem]) -> None:
        """Push receipts to all connections of their senders' sessions."""
        by_sender: dict[str, list[tuple[str, bytes, int, int]]] = {}
        for sender, to, mid, state, at in items:
            by_sender.setdefault(sender, []).append((to, mid, state, at))
        for sender, some in by_sender.items():
            session = self._sessions.get(sender)
            tell((client.push for client in (session.clients if session is not None else ())), Receipt(some))
