"""The gateway's hot path: messages of all its clients, grouped by acting owner in each turn of the event loop.

No task and no await for a message. Of each session a bounded number is at owners; what it has beyond waits for its turn
(`turns.py`), so that nobody stands behind another's backlog. What gets no result, because its owner dies, changes or
is silent, is forwarded again under the same id, which the mailbox recognises, until its time is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol

import structlog

from coterie_node.replication.configuration import SlotTable
from coterie_node.runtime.ports import Clock, Handlers, Peers, Tasks
from coterie_protocol.chat import Forward, Forwarded, Post
from coterie_protocol.client_api import Error, Stored
from coterie_protocol.errors import CoterieError, ErrorCode
from coterie_protocol.identifiers import Uid
from coterie_protocol.records import OUTGOING
from coterie_protocol.registers import KnownConfig
from coterie_protocol.weight import FRAME, weight_of_post

from ..owner.mailbox import Answer
from ..owner.mailbox import Refused as RefusedPlace
from ..owner.mailbox import Stored as StoredPlace
from ..ports import Routing
from ..settings import ChatSettings
from .allowance import Share, session_busy
from .turns import Turns

log = structlog.get_logger()

FORWARD_BYTES = 256 * 1024
"""Where a frame of forwarded messages closes."""
TICK = 0.1
PAUSES = (0.02, 0.05, 0.1, 0.2, 0.4)
"""Seconds until what was refused for a passing reason is forwarded again."""
LOCATE_TIMEOUT = 2.0

PASSING = frozenset(
    {
        ErrorCode.STALE_EPOCH, ErrorCode.UNKNOWN_SLOT, ErrorCode.UNAVAILABLE, ErrorCode.SHUTTING_DOWN,
        ErrorCode.BUSY,
    }
)  # fmt: skip


class LocalMailbox(Protocol):
    """Stores posts on this node (`mailbox.Mailbox`)."""

    def accept(self, posts: list[Post], answer: Answer) -> None:
        """Store posts and answer every place."""
        ...


Result = Callable[[int, Stored | Error], None]
"""Takes a request's number and its reply."""


class Entry:
    """A message on its way, and whom to tell."""

    __slots__ = ("attempts", "deadline", "last", "number", "post", "result", "share", "under_way", "weight")

    def __init__(self, post: Post, number: int, result: Result, deadline: float, share: Share | None = None) -> None:
        self.post = post
        self.weight = weight_of_post(post)
        self.number = number
        self.result = result
        self.share = share or Share()
        """What its session has under way, this message included."""
        self.deadline = deadline
        self.attempts = 0
        self.under_way = False
        """It takes a place of its session's window: until its first result, for what is tried again holds up nobody."""
        self.last: RefusedPlace | None = None
        """Why it was refused the last time."""


class _Batch:
    """Entries that were forwarded together; those with a result become None."""

    __slots__ = ("entries", "left", "owner", "sent_at")

    def __init__(self, owner: Uid, entries: list[Entry | None], sent_at: float) -> None:
        self.owner = owner
        self.entries = entries
        self.left = len(entries)
        self.sent_at = sent_at


class Forwarder:
    """Forwards messages to acting owners and brings back the results."""

    def __init__(
        self,
        table: SlotTable,
        router: Routing,
        mailbox: LocalMailbox,
        peers: Peers,
        handlers: Handlers,
        clock: Clock,
        tasks: Tasks,
        settings: ChatSettings,
    ) -> None:
        self._table = table
        self._router = router
        self._mailbox = mailbox
        self._peers = peers
        self._clock = clock
        self._tasks = tasks
        self._settings = settings
        self._turns: Turns[Entry] = Turns(settings.session_window, settings.session_window_bytes)
        self._queue: list[Entry] = []
        """To be forwarded again in this turn of the loop."""
        self._flushing = False
        self._batches: dict[int, _Batch] = {}
        # A result for a batch of this node's last life must never count for one of this life.
        self._number = clock.wall_ms() << 20
        self._later: list[tuple[float, Entry]] = []
        self._homeless: dict[int, list[Entry]] = {}
        self._watching = False
        self._bytes = 0
        """What messages without a result weigh."""
        self._idle = asyncio.Event()
        self._idle.set()
        self.in_flight = 0
        """Messages without a result."""
        self.accepted = 0
        """Messages taken from clients since the start, for metrics; their senders' own copies are not counted."""
        self.stored = 0
        """... and stored on a majority."""
        handlers.on_event(Forwarded, self._forwarded)
        peers.watch(self._peer)

    def post(self, post: Post, number: int, result: Result, share: Share | None = None) -> None:
        """Forward a message; `result(number, reply)` is called once.

        Raises BUSY when too many are on their way, of all or of the session whose `share` this is.
        """
        settings = self._settings
        if self.in_flight >= settings.entries_in_flight or self._bytes > settings.bytes_in_flight:
            raise CoterieError("this node is busy; try again shortly", code=ErrorCode.BUSY, value=200)
        if share is not None and (share.entries >= settings.session_entries or share.bytes > settings.session_bytes):
            raise session_busy()
        self.in_flight += 1
        self.accepted += post.sender != OUTGOING
        entry = Entry(post, number, result, self._clock.now() + settings.send_timeout, share)
        entry.share.entries += 1
        entry.share.bytes += entry.weight
        self._bytes += entry.weight
        self._turns.put(entry.share.window, entry)
        self._wake()

    async def idle(self) -> None:
        """Return when no message is without a result."""
        while self.in_flight:
            self._idle.clear()
            await self._idle.wait()

    def _wake(self) -> None:
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)
        if not self._watching:
            self._watching = True
            self._tasks.start(self._look_after(), "look after forwarded messages")

    # --- out ---

    def _flush(self) -> None:
        self._flushing = False
        entries, self._queue = self._queue, []
        for entry in self._turns.take():
            entry.under_way = True
            entries.append(entry)
        owners: dict[int, Uid | None] = {}
        by_owner: dict[Uid, list[Entry]] = {}
        for entry in entries:
            slot = entry.post.slot
            if slot in owners:
                owner = owners[slot]
            else:
                owner = owners[slot] = self._router.acting(slot)
            if owner is None:
                self._locate(slot, entry)
            elif owner in by_owner:
                by_owner[owner].append(entry)
            else:
                by_owner[owner] = [entry]
        for owner, some in by_owner.items():
            self._dispatch(owner, some)

    def _dispatch(self, owner: Uid, entries: list[Entry]) -> None:
        size = FRAME
        start = 0
        for index, entry in enumerate(entries):
            if index > start and size + entry.weight > FORWARD_BYTES:
                self._send(owner, entries[start:index])
                start, size = index, FRAME
            size += entry.weight
        self._send(owner, entries[start:] if start else entries)

    def _send(self, owner: Uid, entries: list[Entry]) -> None:
        self._number += 1
        number = self._number
        self._batches[number] = _Batch(owner, list(entries), self._clock.now())
        posts = [entry.post for entry in entries]
        if owner == self._peers.me:
            self._mailbox.accept(posts, partial(self._answered, number))
        elif not self._peers.send(owner, Forward(number, posts)):
            del self._batches[number]
            for entry in entries:
                self._again(entry)

    def _locate(self, slot: int, entry: Entry) -> None:
        waiting = self._homeless.get(slot)
        if waiting is not None:
            waiting.append(entry)
            return
        self._homeless[slot] = [entry]
        self._tasks.start(self._find(slot), "find a slot's owner")

    async def _find(self, slot: int) -> None:
        error: CoterieError | None = None
        try:
            await self._router.locate(slot, LOCATE_TIMEOUT)
        except CoterieError as problem:
            error = problem
        finally:
            entries = self._homeless.pop(slot, [])
            for entry in entries:
                if error is not None:
                    entry.last = (0, int(error.wire_code), error.detail, error.value)
                self._again(entry, at_once=error is None)

    # --- back ---

    def _forwarded(self, sender: Uid, message: Forwarded) -> None:
        batch = self._batches.get(message.batch)
        if batch is not None and batch.owner == sender:
            self._answered(message.batch, message.stored, message.refused, message.known)
        elif message.known:
            self._table.learn(message.known)

    def _answered(
        self, number: int, stored: list[StoredPlace], refused: list[RefusedPlace], known: list[KnownConfig]
    ) -> None:
        if known:
            self._table.learn(known)
        batch = self._batches.get(number)
        if batch is None:
            return  # It was forwarded again: that result counts.
        entries = batch.entries
        for place, stored_at, copies in stored:
            entry = entries[place] if 0 <= place < len(entries) else None
            if entry is not None:
                entries[place] = None
                batch.left -= 1
                self._ended(entry)
                self.stored += entry.post.sender != OUTGOING
                self._tell(entry, Stored(stored_at, copies))
        for one in refused:
            entry = entries[one[0]] if 0 <= one[0] < len(entries) else None
            if entry is not None:
                entries[one[0]] = None
                batch.left -= 1
                self._refused(entry, one)
        if batch.left <= 0:
            del self._batches[number]
        if not self.in_flight:
            self._idle.set()

    def _refused(self, entry: Entry, refused: RefusedPlace) -> None:
        if refused[1] in PASSING:
            entry.last = refused
            self._again(entry)
        else:
            self._fail(entry, Error(refused[1], refused[2], refused[3]))

    def _again(self, entry: Entry, *, at_once: bool = False) -> None:
        """Forward an entry again, after a pause that grows."""
        self._make_room(entry)
        pause = PAUSES[min(entry.attempts, len(PAUSES) - 1)]
        entry.attempts += 1
        now = self._clock.now()
        if now + pause >= entry.deadline:
            self._time_over(entry)
        elif at_once:
            self._wake()
            self._queue.append(entry)
        else:
            self._later.append((now + pause, entry))

    def _time_over(self, entry: Entry) -> None:
        last = entry.last
        if last is not None and last[1] == ErrorCode.BUSY:
            self._fail(entry, Error(last[1], last[2], last[3]))
            return
        detail = "the recipient's slot has no quorum just now, or nobody who answers; try again"
        if last is not None and last[1] == ErrorCode.UNAVAILABLE:
            detail = last[2]
        self._fail(entry, Error(int(ErrorCode.UNAVAILABLE), detail))

    def _fail(self, entry: Entry, error: Error) -> None:
        self._ended(entry)
        if not self.in_flight:
            self._idle.set()
        self._tell(entry, error)

    def _tell(self, entry: Entry, reply: Stored | Error) -> None:
        """Tell who waits for a message's result; those of its batch hear theirs whatever becomes of that."""
        try:
            entry.result(entry.number, reply)
        except Exception:
            log.exception("a result could not be told", sender=entry.post.sender, id=entry.post.id.hex())

    def _make_room(self, entry: Entry) -> None:
        if entry.under_way:
            entry.under_way = False
            if self._turns.done(entry.share.window, entry):
                self._wake()

    def _ended(self, entry: Entry) -> None:
        self._make_room(entry)
        self.in_flight -= 1
        self._bytes -= entry.weight
        entry.share.entries -= 1
        entry.share.bytes -= entry.weight

    # --- time and peers ---

    async def _look_after(self) -> None:
        """Look at what takes long, until nothing is on its way."""
        try:
            while self.in_flight:
                soonest = min((at for at, _ in self._later), default=None)
                pause = TICK if soonest is None else min(TICK, max(soonest - self._clock.now(), 0.001))
                await self._clock.sleep(pause)
                try:
                    self._tick(self._clock.now())
                except Exception:
                    log.exception("messages on their way could not be looked after")
        finally:
            self._watching = False

    def _tick(self, now: float) -> None:
        later, self._later = self._later, []
        for at, entry in later:
            if at > now:
                self._later.append((at, entry))
            else:
                self._wake()
                self._queue.append(entry)
        for number, batch in list(self._batches.items()):
            age = now - batch.sent_at
            if age > self._settings.answer_timeout:
                self._lost([number])
            elif age > self._settings.reroute_after:
                owners = {self._router.acting(entry.post.slot) for entry in batch.entries if entry is not None}
                if owners != {batch.owner}:
                    self._lost([number])
            else:
                break  # They stand in the order of their sending.

    def _peer(self, uid: Uid, alive: bool) -> None:
        if not alive:
            self._lost([number for number, batch in self._batches.items() if batch.owner == uid])

    def _lost(self, numbers: Iterable[int]) -> None:
        """Forward what has no result again: to the same owner or the next, the id keeps it one message."""
        for number in numbers:
            for entry in self._batches.pop(number).entries:
                if entry is not None:
                    self._again(entry, at_once=True)

    def configured(self, slot: int, _: KnownConfig) -> None:
        """Hear of a slot's new configuration: those that waited for one go on."""
        entries = self._homeless.get(slot)
        if entries and self._router.acting(slot) is not None:
            self._homeless[slot] = []
            for entry in entries:
                self._again(entry, at_once=True)
