"""Pushing pending records to subscribed sessions: what waits (the drain), then what comes.

Any member pushes what it learns to the subscriptions that are attached to it. A subscription reads the mailbox page by
page in the order of (stored_at, key hash), `cursor` being how far it has come. Records that come while it still reads
(or while its window is full) pull the cursor back; what is pushed and not yet archived (`unacked`, the window) is
not pushed again. So nothing is missed, whatever order records come in, and memory is bounded by the window.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import structlog

from coterie_node.replication.commits import Arrivals
from coterie_node.runtime.ports import FIRST, Clock, Store, Tasks, Tx
from coterie_protocol.chat import Deliver, Push
from coterie_protocol.errors import Unavailable
from coterie_protocol.identifiers import Uid
from coterie_protocol.records import OUTGOING, Record, State, key_hash
from coterie_protocol.weight import FRAME, weight_of_mail_item

from ...runtime.messenger import Courier
from ..ports import Ages, CatchingUp
from ..settings import ChatSettings
from .archive import caught_up, mail_item
from .session_cache import read_store

if TYPE_CHECKING:
    from coterie_protocol.client_api import MailItem

log = structlog.get_logger()

READS_TOGETHER = 8
"""Subscriptions whose pages one read of the store gathers: some 2 MiB."""
RETRY = 0.5
"""Seconds until a failed read is tried again."""
LOOK = 0.2
"""Seconds between two looks at whether a slot is complete ..."""
LOOK_AGAIN = 1.0
"""... and, once it is, at whether that is certain: few wait for this, and it may take two minutes."""
_AFTER_ALL = b"\xff" * 32
"""Greater than every key hash."""

Key = tuple[str, bytes, int]


class Subscription:
    """One session's wish for mail at one gateway."""

    __slots__ = (
        "certain", "closed", "complete", "cursor", "drained", "epoch", "gateway", "more", "name", "number", "reading",
        "rewound", "slot", "tell", "unacked", "unacked_bytes",
    )  # fmt: skip

    def __init__(self, name: str, slot: int, epoch: int, gateway: Uid, number: int) -> None:
        self.name = name
        self.slot = slot
        self.epoch = epoch
        self.gateway = gateway
        self.number = number
        self.cursor: tuple[int, bytes] = FIRST
        self.more = False
        """There may be records after the cursor that were not pushed."""
        self.reading = True
        """A page is being read, or, in the beginning, the first one is still to be: what comes has to wait for that."""
        self.rewound: tuple[int, bytes] | None = None
        """Where a record came in while a page was being read."""
        self.unacked: dict[Key, int] = {}
        """Pushed, and pending still, with what they weigh."""
        self.unacked_bytes = 0
        self.complete = False
        """This node has all that was acknowledged in the slot before and can be had: the drain may be called so."""
        self.certain = False
        """Nodes that are away cannot have anything else."""
        self.drained = False
        self.tell = False
        """The next push says that the drain is complete, and whether that is certain."""
        self.closed = False

    def pushed(self, key: Key, size: int) -> None:
        """Count a record into the window."""
        self.unacked[key] = size
        self.unacked_bytes += size

    def done(self, key: Key) -> bool:
        """Take a record out of the window; say whether it was in."""
        size = self.unacked.pop(key, None)
        if size is None:
            return False
        self.unacked_bytes -= size
        return True

    def rewind(self, stored_at: int) -> None:
        """See to it that a record of that time is read (again)."""
        place = (stored_at, b"")
        if self.reading:
            self.rewound = place if self.rewound is None else min(self.rewound, place)
        else:
            self.cursor = min(self.cursor, place)
            self.more = True


class Delivery:
    """Pushes mail to the subscriptions that are attached to this node; one for a user at most."""

    def __init__(
        self,
        store: Store,
        repair: CatchingUp,
        arrivals: Arrivals,
        courier: Courier,
        ages: Ages,
        clock: Clock,
        tasks: Tasks,
        settings: ChatSettings,
    ) -> None:
        self._store = store
        self._repair = repair
        self._courier = courier
        self._ages = ages
        self._clock = clock
        self._tasks = tasks
        self._settings = settings
        self._subscriptions: dict[str, Subscription] = {}
        self._due: list[Subscription] = []
        self._out: dict[Uid, dict[Subscription, list[MailItem]]] = {}
        self._flushing = False
        self._unacked = 0
        """Records in all windows together."""
        arrivals.watch(self._arrived)

    def subscribe(self, name: str, slot: int, epoch: int, gateway: Uid, number: int) -> None:
        """Begin a subscription anew, in place of any other of this user."""
        self.unsubscribe(name)
        subscription = Subscription(name, slot, epoch, gateway, number)
        self._subscriptions[name] = subscription
        self._tasks.start(self._begin(subscription), "drain a mailbox")

    def has(self, name: str, gateway: Uid, number: int) -> bool:
        """Say whether this very subscription stands."""
        held = self._subscriptions.get(name)
        return held is not None and (held.gateway, held.number) == (gateway, number)

    def unsubscribe(self, name: str) -> None:
        """Stop pushing to a user."""
        subscription = self._subscriptions.pop(name, None)
        if subscription is not None:
            subscription.closed = True
            self._unacked -= len(subscription.unacked)

    def renewed(self, name: str) -> None:
        """The subscription was renewed: let go of own copies that its client could not bring to an end.

        They stay pending, perhaps for another device, and must not fill the window for good.
        """
        subscription = self._subscriptions.get(name)
        if subscription is not None:
            for key in [key for key in subscription.unacked if key[0] == OUTGOING]:
                self._done(subscription, key)
            self._pump(subscription)

    def _done(self, subscription: Subscription, key: Key) -> bool:
        if not subscription.done(key):
            return False
        self._unacked -= 1
        return True

    async def _begin(self, subscription: Subscription) -> None:
        """Drain once this node has caught up: what was archived while it was away must not come as new.

        A slot that has lost its majority gives what it has after a while, but is never called drained: a client that
        lacks a message before one that it has rests on that. For its sake it is told again when the drain is certain.
        """
        since = self._clock.now()
        await caught_up(self._repair, subscription.slot, self._settings.caught_up_timeout)
        subscription.more, subscription.reading, subscription.rewound = True, False, None
        self._pump(subscription)
        while not subscription.closed:
            await caught_up(self._repair, subscription.slot, self._settings.attachment_life)
            if self._repair.is_complete(subscription.slot):
                subscription.certain = self._repair.is_certain(subscription.slot, since)
                if subscription.certain or not subscription.complete:
                    subscription.complete, subscription.drained = True, False
                    self._pump(subscription)
                if subscription.certain:
                    return
            await self._clock.sleep(LOOK_AGAIN if subscription.complete else LOOK)

    # --- what comes ---

    def _arrived(self, records: Sequence[Record]) -> None:
        subscriptions = self._subscriptions
        if not subscriptions:
            return
        young_from = self._ages.young_from()
        for record in records:
            subscription = subscriptions.get(record.owner)
            if subscription is None:
                continue
            try:
                if record.state == State.PENDING:
                    if record.stored_at < young_from and record.stored_at < self._ages.expired_before(record.slot):
                        continue  # It came late from a node that was away.
                    self._came(subscription, record)
                elif self._done(subscription, (record.sender, record.id, record.part)):
                    self._pump(subscription)
            except Exception:
                log.exception("a record could not be given out", owner=record.owner, id=record.id.hex())

    def _came(self, subscription: Subscription, record: Record) -> None:
        if record.sender == OUTGOING and record.epoch == subscription.epoch:
            return  # The session itself is just sending it.
        key = (record.sender, record.id, record.part)
        if key in subscription.unacked:
            return
        if subscription.reading or subscription.more or not self._room(subscription):
            subscription.rewind(record.stored_at)
            return
        self._push(subscription, record)
        subscription.cursor = max(subscription.cursor, (record.stored_at, b""))

    def _room(self, subscription: Subscription) -> bool:
        settings = self._settings
        most = settings.window_records if self._unacked < settings.windows_records else settings.window_least
        return len(subscription.unacked) < most and subscription.unacked_bytes < settings.window_bytes

    # --- what waits ---

    def _pump(self, subscription: Subscription) -> None:
        """Read on if there is more and room for it; say that it is drained when it is."""
        if subscription.closed or subscription.reading:
            return
        if not subscription.more:
            if subscription.complete and not subscription.drained:
                subscription.drained = subscription.tell = True
                self._outgoing(subscription)
            return
        if self._room(subscription):
            subscription.reading = True
            if not self._due:
                self._tasks.start(self._read(), "read mailboxes")
            self._due.append(subscription)

    async def _read(self) -> None:
        due, self._due = self._due, []
        for start in range(0, len(due), READS_TOGETHER):
            some = [one for one in due[start : start + READS_TOGETHER] if not one.closed]
            try:
                reads = [(one.slot, one.name, self._start(one)) for one in some]
                pages: list[list[Record] | None] = [*await read_store(self._store, partial(self._pages, reads))]
            except Exception as error:
                if not isinstance(error, Unavailable):
                    log.exception("mailboxes cannot be read", names=[one.name for one in some])
                await self._clock.sleep(RETRY)
                pages = [None] * len(some)
            for one, page in zip(some, pages, strict=True):
                try:
                    if page is None:
                        one.reading = False
                        self._pump(one)
                    else:
                        self._take(one, page)
                except Exception:
                    log.exception("a mailbox could not be given out", name=one.name)

    def _start(self, subscription: Subscription) -> tuple[int, bytes]:
        """Return after which place to read: what counts as expired is passed over."""
        before_ms = self._ages.expired_before(subscription.slot)
        return max(subscription.cursor, (before_ms - 1, _AFTER_ALL)) if before_ms else subscription.cursor

    def _pages(self, reads: Sequence[tuple[int, str, tuple[int, bytes]]], tx: Tx) -> list[list[Record]]:
        settings = self._settings
        records = settings.page_records if self._unacked < settings.windows_records else settings.window_least
        return [tx.pending(*one, records, settings.page_bytes) for one in reads]

    def _take(self, subscription: Subscription, page: Sequence[Record]) -> None:
        subscription.reading = False
        if subscription.closed:
            return
        if page:
            last = page[-1]
            subscription.cursor = (last.stored_at, key_hash(last.key))
        else:
            subscription.more = False
        for record in page:
            if (record.sender, record.id, record.part) not in subscription.unacked:
                self._push(subscription, record)
        if subscription.rewound is not None:
            subscription.cursor = min(subscription.cursor, subscription.rewound)
            subscription.rewound = None
            subscription.more = True
        self._pump(subscription)

    # --- on its way ---

    def _push(self, subscription: Subscription, record: Record) -> None:
        subscription.pushed((record.sender, record.id, record.part), weight_of_mail_item(record))
        self._unacked += 1
        self._outgoing(subscription).append(mail_item(record))

    def _outgoing(self, subscription: Subscription) -> list[MailItem]:
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)
        return self._out.setdefault(subscription.gateway, {}).setdefault(subscription, [])

    def _flush(self) -> None:
        """Send each gateway what this turn of the loop brought, in events that are not too large."""
        self._flushing = False
        out, self._out = self._out, {}
        for gateway, by_subscription in out.items():
            pushes: list[Push] = []
            size = 0
            for subscription, items in by_subscription.items():
                if subscription.closed:
                    continue
                parts = _parts(items, self._settings.page_bytes)
                for index, (part, part_size) in enumerate(parts):
                    if pushes and size + part_size > self._settings.page_bytes:
                        self._send(gateway, pushes)
                        pushes, size = [], 0
                    drained = subscription.tell and index == len(parts) - 1
                    pushes.append(Push(subscription.name, subscription.number, part, drained, subscription.certain))
                    size += part_size
                subscription.tell = False
            if pushes:
                self._send(gateway, pushes)

    def _send(self, gateway: Uid, pushes: list[Push]) -> None:
        if self._courier.send(gateway, Deliver(pushes)):
            return
        if len(pushes) > 1:
            # Perhaps no frame can carry one of them: the others are not to go without their mail because of that.
            for push in pushes:
                self._send(gateway, [push])
            return
        # The gateway is gone, or its link is: whoever attaches again begins anew.
        held = self._subscriptions.get(pushes[0].name)
        if held is not None and held.gateway == gateway:
            self.unsubscribe(pushes[0].name)


def _parts(items: list[MailItem], limit: int) -> list[tuple[list[MailItem], int]]:
    """Cut items into parts of some `limit` bytes; at least one part, for it may carry the news of a drain's end."""
    parts: list[tuple[list[MailItem], int]] = []
    part: list[MailItem] = []
    size = FRAME
    for item in items:
        weight = weight_of_mail_item(item)
        if part and size + weight > limit:
            parts.append((part, size))
            part, size = [], FRAME
        part.append(item)
        size += weight
    parts.append((part, size))
    return parts
