"""The owner's table of attached sessions: who is there, at which gateways, and who gets mail.

Soft state: gateways build it up again at whoever becomes the acting owner, and renew it every ten seconds.
"""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from coterie_node.replication.configuration import SlotTable
from coterie_node.runtime.ports import Clock, Handlers, Peers
from coterie_protocol.bounds import MAX_COUNT
from coterie_protocol.chat import (
    Attach,
    Attached,
    AttachItem,
    Detach,
    PresenceAnswer,
    PresenceAsk,
    SessionEnd,
    SessionsOver,
    Unsubscribe,
)
from coterie_protocol.client_api import PresenceItem
from coterie_protocol.errors import CoterieError, ErrorCode
from coterie_protocol.identifiers import Uid, slot_of_name
from coterie_protocol.registers import ConfigKnown, KnownConfig

from ...logs.ration import Ration
from ...runtime.messenger import Courier
from ..settings import ChatSettings
from .delivery import Delivery
from .membership import refusal
from .session_cache import Current, Standing

log = structlog.get_logger()

MOST_SEEN = 50_000
MOST_DOUBTS = 16_384
MOST_OF_GATEWAY = 65_536
"""Sessions of one gateway that an owner keeps: a gateway serves 8,192 connections by default."""


class Attachment:
    """A session of a user at one gateway."""

    __slots__ = ("epoch", "let_go_at", "order", "renewed_at", "subscription")

    def __init__(self, epoch: int, renewed_at: float) -> None:
        self.epoch = epoch
        self.subscription = 0
        self.order = 0
        self.renewed_at = renewed_at
        self.let_go_at = renewed_at
        """When its subscription was last renewed to let go of what its client cannot end."""


class Presence:
    """Answers Attach, Detach and PresenceAsk at the owner."""

    def __init__(
        self,
        table: SlotTable,
        current: Current,
        delivery: Delivery,
        courier: Courier,
        peers: Peers,
        handlers: Handlers,
        clock: Clock,
        settings: ChatSettings,
    ) -> None:
        self._table = table
        self._current = current
        self._delivery = delivery
        self._courier = courier
        self._clock = clock
        self._settings = settings
        self._users: dict[str, dict[Uid, Attachment]] = {}
        self._by_slot: dict[int, set[str]] = {}
        self._held: dict[Uid, int] = {}
        """How many sessions each gateway has here."""
        self._crowded = Ration(log.warning, "a gateway names more sessions than any could have", clock.now)
        self._seen: dict[str, int] = {}
        """Unix ms at which users went, as far as this node noticed."""
        self._orders: dict[str, int] = {}
        self._doubts: dict[Uid, float] = {}
        """When (Clock.now) a node was last seen to come or go: others may have acted without us around then."""
        handlers.on_request(Attach, self._attach)
        handlers.on_event(Detach, self._detach)
        handlers.on_request(PresenceAsk, self._ask)
        current.watch(self._standing)
        current.watch_none(self._nobody)
        peers.watch(self._peer)
        table.watch(self._moved)

    def gateways(self, name: str) -> Iterable[Uid]:
        """Return the gateways at which a user has a session."""
        return tuple(self._users.get(name, ()))

    @property
    def users(self) -> int:
        """Return how many users are attached here."""
        return len(self._users)

    async def run(self) -> None:
        """Forget sessions that nobody renews; runs until it is cancelled."""
        while True:
            await self._clock.sleep(self._settings.attachment_life / 6)
            limit = self._clock.now() - self._settings.attachment_life
            for name, attachments in list(self._users.items()):
                for gateway, one in list(attachments.items()):
                    if one.renewed_at < limit:
                        try:
                            self._remove(name, gateway)
                        except Exception:
                            log.exception("a session that nobody renews could not be forgotten", name=name)

    # --- attaching ---

    async def _attach(self, gateway: Uid, request: Attach) -> Attached:
        elsewhere: list[str] = []
        known: list[KnownConfig] = []
        items: list[tuple[int, AttachItem]] = []
        for item in request.items:
            slot = slot_of_name(item.name, self._table.slots)
            if refusal(self._table, slot) is None:
                items.append((slot, item))
                continue
            elsewhere.append(item.name)
            if (config := self._table.known(slot)) is not None:
                known.append(config)
        standings = await self._current.local([item.name for _, item in items])
        answer = Attached([], [], elsewhere, known, [])
        doubtful: list[str] = []
        for at, item in items:
            standing, committed = standings.get(item.name, (None, False))
            if standing is None or standing.epoch < item.epoch:
                doubtful.append(item.name)
            elif standing.epoch > item.epoch or standing.ended:
                if committed:
                    answer.over.append(_end(item.name, standing))
                    continue
                doubtful.append(item.name)
            elif not committed or standing.read_at < self._doubted_at(at):
                doubtful.append(item.name)
            try:
                self._keep(at, gateway, item, answer)
                if (count := self._gateways_of(item)) > 1:
                    answer.shared.append((item.name, count))
            except Exception:
                log.exception("a session could not be attached", name=item.name, gateway=gateway)
        # They are attached meanwhile; if one turns out to be over, its gateway is told.
        self._current.verify(doubtful)
        return answer

    def _gateways_of(self, item: AttachItem) -> int:
        limit = self._clock.now() - self._settings.attachment_life
        return sum(
            one.epoch == item.epoch and one.renewed_at >= limit for one in self._users.get(item.name, {}).values()
        )

    def _keep(self, slot: int, gateway: Uid, item: AttachItem, answer: Attached) -> None:
        name = item.name
        one = self._users.get(name, {}).get(gateway)
        if one is not None and one.epoch > item.epoch:
            return  # An older request that came late.
        if one is None:
            if self._held.get(gateway, 0) >= MOST_OF_GATEWAY:
                self._crowded(gateway, most=MOST_OF_GATEWAY)
                return
            self._held[gateway] = self._held.get(gateway, 0) + 1
        attachments = self._users.setdefault(name, {})
        self._by_slot.setdefault(slot, set()).add(name)
        if one is None or one.epoch != item.epoch:
            if one is not None and one.subscription:
                self._delivery.unsubscribe(name)
            one = attachments[gateway] = Attachment(item.epoch, self._clock.now())
        one.renewed_at = self._clock.now()
        if not item.subscription:
            if one.subscription:
                one.subscription = 0
                self._delivery.unsubscribe(name)
            return
        if one.subscription == item.subscription and self._delivery.has(name, gateway, item.subscription):
            if one.renewed_at - one.let_go_at >= self._settings.renew_interval / 2:  # A gateway may ask in between.
                one.let_go_at = one.renewed_at
                self._delivery.renewed(name)
            answer.orders.append((name, item.subscription, one.order))
            return
        self._subscribe(slot, gateway, item, one, answer)

    def _subscribe(self, slot: int, gateway: Uid, item: AttachItem, one: Attachment, answer: Attached) -> None:
        name = item.name
        order = item.order or min(max(self._orders.get(name, 0) + 1, self._clock.wall_ms()), MAX_COUNT - 1)
        for other, held in self._users[name].items():
            if other == gateway or not held.subscription:
                continue
            if (held.epoch, held.order) > (item.epoch, order):
                self._courier.send(gateway, Unsubscribe([(name, item.subscription)]))
                return
            self._courier.send(other, Unsubscribe([(name, held.subscription)]))
            held.subscription = 0
        self._orders[name] = max(self._orders.get(name, 0), order)
        one.subscription, one.order = item.subscription, order
        answer.orders.append((name, item.subscription, order))
        self._delivery.subscribe(name, slot, item.epoch, gateway, item.subscription)

    def _doubted_at(self, slot: int) -> float:
        return max((self._doubts.get(uid, 0.0) for uid in self._table.members(slot)), default=0.0)

    # --- ending ---

    def _detach(self, gateway: Uid, message: Detach) -> None:
        for name, epoch in message.items:
            one = self._users.get(name, {}).get(gateway)
            if one is not None and one.epoch == epoch:
                self._remove(name, gateway)

    def _remove(self, name: str, gateway: Uid) -> None:
        attachments = self._users[name]
        one = attachments.pop(gateway)
        self._held[gateway] -= 1
        if not self._held[gateway]:
            del self._held[gateway]
        if one.subscription:
            self._delivery.unsubscribe(name)
        if not attachments:
            del self._users[name]
            self._orders.pop(name, None)
            slot = slot_of_name(name, self._table.slots)
            names = self._by_slot[slot]
            names.discard(name)
            if not names:
                del self._by_slot[slot]
            self._seen.pop(name, None)
            self._seen[name] = self._clock.wall_ms()
            if len(self._seen) > MOST_SEEN:
                del self._seen[next(iter(self._seen))]

    def _standing(self, name: str, standing: Standing) -> None:
        """A newer session was taken, or the newest has ended: tell the gateways of the others."""
        for gateway, one in list(self._users.get(name, {}).items()):
            if one.epoch < standing.epoch or (one.epoch == standing.epoch and standing.ended):
                self._courier.send(gateway, SessionsOver([_end(name, standing)]))
                self._remove(name, gateway)

    def _nobody(self, name: str) -> None:
        """There is no such account, whoever named it: only accounts make this table grow."""
        for gateway in list(self._users.get(name, {})):
            self._remove(name, gateway)
        self._seen.pop(name, None)

    def _peer(self, uid: Uid, alive: bool) -> None:
        self._doubts.pop(uid, None)
        self._doubts[uid] = self._clock.now()
        if len(self._doubts) > MOST_DOUBTS:
            del self._doubts[next(iter(self._doubts))]
        if alive:
            return
        for name, attachments in self._users.items():
            one = attachments.get(uid)
            if one is not None and one.subscription:
                # What was pushed last may be lost: when the gateway attaches again, it begins anew.
                one.subscription = 0
                self._delivery.unsubscribe(name)

    def _moved(self, slot: int, known: KnownConfig) -> None:
        """Tell gateways of a slot's new configuration, so that they attach where they should."""
        names = self._by_slot.get(slot)
        if not names:
            return
        for gateway in {gateway for name in names for gateway in self._users[name]}:
            if gateway != self._courier.me:
                self._courier.send(gateway, ConfigKnown([known]))

    # --- presence ---

    async def _ask(self, _: Uid, request: PresenceAsk) -> PresenceAnswer:
        answer = PresenceAnswer([], [], [])
        names: list[str] = []
        for name in request.names:
            slot = slot_of_name(name, self._table.slots)
            if refusal(self._table, slot) is None:
                names.append(name)
                continue
            answer.elsewhere.append(name)
            if (config := self._table.known(slot)) is not None:
                answer.known.append(config)
        standings = await self._current.local(names)
        for name in names:
            if name in standings:
                answer.items.append(self._item(name, standings[name][0]))
                continue
            try:
                answer.items.append(self._item(name, await self._current.get(name, 0.0)))
            except CoterieError as error:
                if error.wire_code is not ErrorCode.NO_SUCH_USER:
                    raise
        return answer

    def _item(self, name: str, standing: Standing) -> PresenceItem:
        if standing.hidden:
            return PresenceItem(name, False, 0)
        limit = self._clock.now() - self._settings.attachment_life
        online = any(one.renewed_at >= limit for one in self._users.get(name, {}).values())
        return PresenceItem(name, online, self._clock.wall_ms() if online else self._seen.get(name, 0))


def _end(name: str, standing: Standing) -> SessionEnd:
    return SessionEnd(name, standing.epoch, standing.at, standing.ended)
