"""A person's device: a small client that keeps the rules of the client library, without sockets, files or threads.

It saves before it shows, shows each message once and in its sender's order (the library's own `HoldBack`), archives
what it has saved, sends one message at a time to each person, repeats it under the same id until it has an answer, and
finds another node when its own dies or falls silent, with its resume token. What a former device of the same person
left unsent, it adopts from the mailbox.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from tests.sim.links import Lost, SimLink
from tests.sim.loop import sim_loop
from tests.sim.network import CONNECTED

from coterie_client.envelope import WITHDRAWN, Content, Problem, archive_copy, open_archive, open_body, seal
from coterie_client.errors import RETRIABLE, Unavailable
from coterie_client.history import Message
from coterie_client.ordering import HoldBack
from coterie_client.placing import next_counter
from coterie_client.predecessors import Predecessors, Sent
from coterie_protocol.client_api import (
    Archive,
    Closing,
    Drained,
    Event,
    Hello,
    Keep,
    Mail,
    MailItem,
    Page,
    PageReply,
    Reply,
    Request,
    Resume,
    SessionGranted,
    Subscribe,
    Superseded,
    Unsubscribed,
)
from coterie_protocol.errors import CoterieError, ErrorCode
from coterie_protocol.identifiers import Uid, message_id
from coterie_protocol.records import OUTGOING

if TYPE_CHECKING:
    from tests.sim.people import Person

BACKOFF_FIRST, BACKOFF_MOST = 0.1, 2.0
PAGE = 200
REFUSALS = frozenset({ErrorCode.NO_SUCH_USER, ErrorCode.MAILBOX_FULL})
"""What takes a message back: no repetition mends it."""


class SessionOver(Exception):
    """Another device has taken the session over."""


@dataclass
class Draft:
    """A message that this device sends, or knows to have been sent."""

    id: bytes
    to: str
    epoch: int
    counter: int
    prev: bytes
    body: bytes
    stored: bool = False


class Device:
    """One device, with one session at a time."""

    def __init__(self, person: Person, where: Uid | None = None) -> None:
        self._person = person
        self._people = person.people
        self._loop = sim_loop()
        self._where = where
        """The node that the person wants to be at, while it runs."""
        self.name = person.name
        self.epoch = 0
        self.token = b""
        self.over = False
        """Superseded, or thrown away."""
        self.link: SimLink | None = None
        self.refused: ErrorCode | None = None
        """Why the last attempt at something did not succeed; None after one that did."""
        self.drained = False
        """Nothing that waits is missing here, as the node said last."""
        self._ready = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._known: dict[bytes, Draft] = {}
        self._queues: dict[str, list[Draft]] = {}
        self._archive: list[tuple[str, bytes, int, bytes]] = []
        self._archiving = False
        self._saved: set[tuple[str, bytes]] = set()
        self._held: dict[tuple[str, bytes], Message] = {}
        self._predecessors = Predecessors(self)
        self._hold = HoldBack(last_shown=person.last_shown, was_shown=person.was_shown)
        self._asked_at = 0.0
        self._draining = False
        self._paged = False
        self._impatient: asyncio.TimerHandle | None = None
        self._seq = 0

    # --- life ---

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something beside everything else, as long as the session stands."""

        async def run() -> None:
            with suppress(SessionOver):
                await work

        task = asyncio.ensure_future(run())
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._people.world.failed(error)

    def stop(self) -> None:
        """Do nothing more: it was superseded, or is lost."""
        self.over = True
        self._ready.set()
        if self._impatient is not None:
            self._impatient.cancel()
        if self.link is not None:
            self.link.close()
        for task in list(self._tasks):
            task.cancel()

    def granted(self, session: SessionGranted) -> None:
        """Begin with a session that was just granted."""
        self.epoch, self.token = session.epoch, session.token
        self.begin(self._keep())

    def idle(self) -> bool:
        """Say whether nothing is left to be sent, archived or shown."""
        return self.drained and not self._held and not self._archive and not any(self._queues.values())

    def told(self) -> str:
        """Say what is left, for people."""
        left = [f"{len(queue)} to {to}" for to, queue in self._queues.items() if queue]
        left += [f"{len(self._archive)} to archive"] if self._archive else []
        left += [f"{len(self._held)} held back"] if self._held else []
        left += [] if self.drained else ["not drained"]
        return ", ".join(left) or "nothing left"

    def roam(self, where: Uid | None) -> None:
        """Go to another node: the connection is left, and made anew there."""
        self._where = where
        if self.link is not None:
            link, self.link = self.link, None
            self._ready.clear()
            link.close()
            link.on_over()

    # --- the connection ---

    async def connect(self, attempt: int) -> SimLink | None:
        """Open a link to a node and say hello; None if that did not succeed."""
        where = self._people.pick(self._where if attempt == 0 else None)
        await asyncio.sleep(CONNECTED / 10)
        link = None if where is None else self._people.world.connect(where)
        if link is None:
            return None
        try:
            await link.post([Hello(1, 1, "sim")])[0]
        except (Lost, CoterieError):
            link.close()
            return None
        return link

    async def pause(self, attempt: int) -> None:
        """Wait a little; longer each time."""
        most = min(BACKOFF_MOST, BACKOFF_FIRST * 2.0 ** min(attempt, 10))
        await asyncio.sleep(self._loop.rng.uniform(0.01, most))

    async def _keep(self) -> None:
        attempt = 0
        while not self.over:
            link = await self.connect(attempt)
            if link is not None and await self._resumed(link):
                attempt = 0
                over: asyncio.Future[None] = self._loop.create_future()
                link.on_over = lambda over=over: None if over.done() else over.set_result(None)  # type: ignore[misc]
                link.on_event = self._event
                self.link = link
                self._ready.set()
                self._subscribe()
                await over
                self._ready.clear()
                self.link = None
                continue
            await self.pause(attempt)
            attempt += 1

    async def _resumed(self, link: SimLink) -> bool:
        try:
            await link.post([Resume(self.name, self.token)])[0]
        except Lost:
            link.close()
            return False
        except CoterieError as error:
            link.close()
            self.refused = error.wire_code
            if error.wire_code is ErrorCode.SUPERSEDED:
                self._superseded()
            if error.wire_code not in RETRIABLE:
                raise AssertionError(f"{self.name}'s session is refused: {error.detail}") from None
            return False
        return True

    def _superseded(self) -> None:
        self.stop()
        raise SessionOver

    async def call(
        self, request: Request, *, beside: Sequence[Request] = (), patience: float | None = None, name: str = ""
    ) -> Reply:
        """Ask until there is an answer. Raises the CoterieError that no repetition mends, and SessionOver."""
        attempt = 0
        while True:
            await self._ready.wait()
            if self.over or self.link is None:
                raise SessionOver
            try:
                reply = await self.link.post([*beside, request])[-1]
            except Lost:
                await self.pause(0)
            except CoterieError as error:
                self.refused = error.wire_code
                if error.wire_code in (ErrorCode.SUPERSEDED, ErrorCode.NOT_LOGGED_IN):
                    raise SessionOver from None
                if error.wire_code not in RETRIABLE:
                    raise
                await self.pause(attempt)
                attempt += 1
            else:
                self.refused = None
                return reply

    # --- sending ---

    def write(self, to: str, text: str, now_ms: int) -> Draft:
        """Give a message its id and its counter; it goes out when those before it to the same person have."""
        last = self._last(to)
        counter = next_counter(last.counter if last is not None and last.epoch == self.epoch else 0, now_ms)
        prev = b"" if last is None else last.id
        body = seal(Content(self.epoch, counter, prev, now_ms, text, to))
        draft = Draft(message_id(now_ms, self._loop.rng.randbytes(10)), to, self.epoch, counter, prev, body)
        self._submit(draft)
        return draft

    def _last(self, to: str, before: tuple[int, int] = (1 << 62, 0)) -> Draft | None:
        known = [one for one in self._known.values() if one.to == to and (one.epoch, one.counter) < before]
        return max(known, key=lambda one: (one.epoch, one.counter), default=None)

    def _submit(self, draft: Draft) -> None:
        self._known[draft.id] = draft
        queue = self._queues.setdefault(draft.to, [])
        queue.append(draft)
        queue.sort(key=lambda one: one.epoch)
        if len(queue) == 1:
            self.begin(self._send(draft.to, queue))

    async def _send(self, to: str, queue: list[Draft]) -> None:
        while queue:
            draft = queue[0]
            if draft.prev and draft.prev not in self._known and draft.epoch == self.epoch:
                self._reseal(draft)
            try:
                await self._predecessors.send(to, Sent(draft.id, draft.body), beside=[Keep(draft.id, draft.body)])
            except Unavailable:
                await self.pause(0)  # Who acts for the recipient has changed time and again.
                continue
            except CoterieError as error:
                if error.wire_code in REFUSALS:
                    queue.remove(draft)
                    del self._known[draft.id]
                    self._people.refused(draft)
                    self._archive_copies([(OUTGOING, draft.id, 0, WITHDRAWN)])
                    continue
                if error.wire_code is not ErrorCode.DUPLICATE_ID:
                    raise AssertionError(f"{self.name}'s message is refused: {error.detail}") from None
            queue.remove(draft)
            draft.stored = True
            self._people.stored(self, draft)
            self._archive_copies([(OUTGOING, draft.id, 0, archive_copy(draft.body))])

    def _reseal(self, draft: Draft) -> None:
        """Name another message as the one before: the one that was named has been withdrawn."""
        content = open_body(draft.body)
        assert isinstance(content, Content)
        last = self._last(draft.to, (draft.epoch, draft.counter))
        draft.prev = b"" if last is None else last.id
        draft.body = seal(msgspec.structs.replace(content, prev=draft.prev))

    def _adopt(self, item: MailItem) -> None:
        """Look after an own copy that is pending: a former device may have left it unsent."""
        held = self._known.get(item.id)
        if held is not None:
            if held.stored:
                self._archive_copies([(OUTGOING, item.id, 0, archive_copy(item.body))])
            return
        content = open_body(item.body)
        assert isinstance(content, Content)
        self._submit(Draft(item.id, content.to, content.epoch, content.counter, content.prev, item.body))

    # --- archiving ---

    def _archive_copies(self, copies: Sequence[tuple[str, bytes, int, bytes]]) -> None:
        self._archive += copies
        if self._archive and not self._archiving:
            self._archiving = True
            self.begin(self._archive_all())

    async def _archive_all(self) -> None:
        try:
            while self._archive:
                batch = self._archive[:1000]
                await self.call(Archive(batch))
                del self._archive[: len(batch)]
                self._people.archived(self, batch)
        finally:
            self._archiving = False

    # --- receiving ---

    def _subscribe(self) -> None:
        self._asked_at = self._loop.time()
        self._draining = True
        self.drained = False
        self.begin(self._subscribed())

    async def _subscribed(self) -> None:
        await self.call(Subscribe())

    def _event(self, event: Event) -> None:
        match event:
            case Mail():
                self._mail(event.items)
            case Drained(certain=certain):
                self._draining = not certain
                self._show(self._asked_at if certain else None)
                if self._paged:
                    self.drained = True
                else:
                    self.begin(self._page())
            case Unsubscribed():
                self._subscribe()  # A server came late to the subscription of a former connection.
            case Superseded():
                self.stop()
            case Closing():
                self.roam(None)
            case _:
                pass

    def _mail(self, items: Sequence[MailItem]) -> None:
        received = [item for item in items if item.sender != OUTGOING]
        self._save((item, item.body) for item in received)
        self._archive_copies([(item.sender, item.id, item.part, archive_copy(item.body)) for item in received])
        for item in items:
            if item.sender == OUTGOING:
                self._adopt(item)
        self._show()

    def _save(self, items: Iterable[tuple[MailItem, bytes]]) -> None:
        """Keep what is new, and what this person has not seen on any device, to be shown."""
        new = []
        for item, body in items:
            key = (item.sender, item.id)
            if key in self._saved:
                continue
            self._saved.add(key)
            if not self._person.was_shown(*key):
                new.append(self._message(item, body))
        self._held |= {(one.sender, one.id): one for one in new}
        self._hold.offer(new, self._loop.time())

    def _message(self, item: MailItem, body: bytes) -> Message:
        content = open_body(body)
        assert isinstance(content, Content), f"{self.name} cannot read what came from {item.sender}: {content}"
        self._seq += 1
        return Message(
            self._seq, item.sender, item.id, item.sender, content.epoch, content.counter, content.prev,
            item.stored_at, content.text, body, "delivered", archived=False,
        )  # fmt: skip

    def _show(self, drain_asked_at: float | None = None) -> None:
        for message in self._hold.take(self._loop.time(), drain_asked_at=drain_asked_at):
            del self._held[message.sender, message.id]
            self._person.shown(message)
        at = self._hold.impatient_at()
        if self._impatient is not None:
            self._impatient.cancel()
            self._impatient = None
        if at is not None and not self._draining:
            self._impatient = self._loop.call_at(max(at, self._loop.time()), self._ask_again)

    def _ask_again(self) -> None:
        """Ask for a drain: a message has waited long for the one before it."""
        self._impatient = None
        if not self.over and not self._draining:
            self._subscribe()

    async def _page(self) -> None:
        """Fetch what former devices have archived; after a drain, so that nothing is archived between the two."""
        self._paged = True
        cursor = b""
        while self.epoch > 1:
            reply = await self.call(Page(cursor, PAGE))
            assert isinstance(reply, PageReply)
            received = []
            for item in reply.items:
                body = open_archive(item.body)
                if isinstance(body, Problem) or not body:
                    continue
                if item.sender != OUTGOING:
                    received.append((item, body))
                elif item.id not in self._known:
                    content = open_body(body)
                    assert isinstance(content, Content)
                    draft = Draft(item.id, content.to, content.epoch, content.counter, content.prev, body, stored=True)
                    self._known[item.id] = draft
            self._save(received)
            self._show()
            cursor = reply.next
            if not cursor:
                break
        self.drained = True


def auth_of(name: str) -> str:
    """Derive an auth key as cheaply as possible; everybody's password is their name."""
    return base64.b64encode(hashlib.sha256(name.encode()).digest()).decode()
