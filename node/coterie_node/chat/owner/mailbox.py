"""The owner's hot path: posts become pending records on a majority of disks.

No task and no await for a message: what cannot be decided at once (a recipient who is not known here yet) is set aside
and comes back by callback.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import structlog

from coterie_node.replication.configuration import SlotTable
from coterie_node.runtime.ports import Handlers, Peers, Tasks
from coterie_protocol.bounds import MAX_PREKEY_BYTES
from coterie_protocol.chat import Forward, Forwarded, Post
from coterie_protocol.client_api import MAX_MESSAGE_BODY_BYTES
from coterie_protocol.errors import CoterieError, ErrorCode, StaleEpoch
from coterie_protocol.identifiers import Uid
from coterie_protocol.records import OUTGOING, Record, RecordKey, State
from coterie_protocol.registers import KnownConfig
from coterie_protocol.weight import weight_of_row

from ..accounts import unforeseen
from ..ports import Ages, Appending
from ..settings import ChatSettings
from .membership import refusal
from .quotas import Box, Boxes
from .session_cache import Current

log = structlog.get_logger()

Stored = tuple[int, int, int]
"""(place, stored_at, copies)."""
Refused = tuple[int, int, str, int]
"""(place, error code, detail, value)."""
Answer = Callable[[list[Stored], list[Refused], list[KnownConfig]], None]
"""Takes results as they are known; called several times for disjoint places."""

DUPLICATE = CoterieError("another message is held under this id", code=ErrorCode.DUPLICATE_ID)

VOUCHING = CoterieError("too many sessions are checked; try again", code=ErrorCode.BUSY, value=100)
LOOKING = CoterieError("too many earlier messages are looked for; try again", code=ErrorCode.BUSY, value=100)
MISSING = CoterieError("the message before this one is not held here", code=ErrorCode.PREDECESSOR_MISSING)


class Mailbox:
    """Stores posts as their coordinator."""

    def __init__(
        self,
        table: SlotTable,
        boxes: Boxes,
        current: Current,
        appender: Appending,
        peers: Peers,
        handlers: Handlers,
        ages: Ages,
        tasks: Tasks,
        settings: ChatSettings,
    ) -> None:
        self._table = table
        self._boxes = boxes
        self._current = current
        self._appender = appender
        self._peers = peers
        self._ages = ages
        self._tasks = tasks
        self._vouching = 0
        self._before: list[tuple[Post, int, Box, Answer]] = []
        self._most_vouching = settings.vouching_at_once
        handlers.on_event(Forward, self._forward)

    def _forward(self, sender: Uid, message: Forward) -> None:
        def answer(stored: list[Stored], refused: list[Refused], known: list[KnownConfig]) -> None:
            self._peers.send(sender, Forwarded(message.batch, stored, refused, known))

        self.accept(message.posts, answer)

    def accept(self, posts: Sequence[Post], answer: Answer) -> None:
        """Store posts; every place is answered once: stored on a majority, or refused.

        Refusals: UNKNOWN_SLOT, STALE_EPOCH, FORMING, NO_SUCH_USER, MAILBOX_FULL, TOO_LARGE, DUPLICATE_ID, BUSY,
        UNAVAILABLE, PREDECESSOR_MISSING; for own copies SUPERSEDED and NOT_LOGGED_IN.
        """
        refused: list[Refused] = []
        known: list[KnownConfig] = []
        ready: list[tuple[int, Post, Box]] = []
        gates: dict[int, CoterieError | None] = {}
        get = self._boxes.get
        for place, post in enumerate(posts):
            try:
                slot = post.slot
                if slot in gates:
                    error = gates[slot]
                else:
                    error = gates[slot] = refusal(self._table, slot)
                    if isinstance(error, StaleEpoch):
                        known += error.known
                if error is None:
                    error = oversize(post.body, post.prekey)
                if error is not None:
                    refused.append(refused_as(place, error))
                    continue
                box = get(post.to)
                if box is None:
                    self._boxes.open(post.to, partial(self._opened, post, place, answer))
                elif post.sender == OUTGOING and not self._current.allows(post.to, post.epoch):
                    self._vouch(post, place, box, answer)
                elif _follows(post, box):
                    ready.append((place, post, box))
                else:
                    self._look_before(post, place, box, answer)
            except Exception:
                log.exception("a message could not be taken", to=post.to, sender=post.sender, id=post.id.hex())
                refused.append(refused_as(place, unforeseen()))
        if ready:
            self._append(ready, answer, refused)
        if refused:
            answer([], refused, known)

    def _opened(self, post: Post, place: int, answer: Answer, result: Box | CoterieError) -> None:
        """Go on with a post whose recipient was not known here."""
        if isinstance(result, CoterieError):
            known = list(result.known) if isinstance(result, StaleEpoch) else []
            answer([], [refused_as(place, result)], known)
        elif post.sender == OUTGOING:
            self._vouch(post, place, result, answer)
        elif _follows(post, result):
            self._append_late(post, place, result, answer)
        else:
            self._look_before(post, place, result, answer)

    def _look_before(self, post: Post, place: int, box: Box, answer: Answer) -> None:
        """Go on with a post once the message before it is known to be in the own store.

        That is the usual case for the first post of a sender after this node has begun to act for the slot. Where it
        is not, whoever acknowledged that message may be gone for now, and a recipient would see this one without it.
        """
        if len(self._before) >= self._most_vouching:
            answer([], [refused_as(place, LOOKING)], [])
            return
        if not self._before:
            self._tasks.start(self._look_all_before(), "look for the messages before")
        self._before.append((post, place, box, answer))

    async def _look_all_before(self) -> None:
        some, self._before = self._before, []
        try:
            held = await self._boxes.held(
                [RecordKey(post.slot, post.to, post.sender, post.after, 0) for post, _, _, _ in some]
            )
        except Exception as error:
            if not isinstance(error, CoterieError):
                log.exception("earlier messages cannot be looked for", messages=len(some))
            for _, place, _, answer in some:
                answer([], [refused_as(place, error if isinstance(error, CoterieError) else unforeseen())], [])
            return
        for (post, place, box, answer), found in zip(some, held, strict=True):
            if found:
                self._append_late(post, place, box, answer)
            else:
                answer([], [refused_as(place, MISSING)], [])

    def _vouch(self, post: Post, place: int, box: Box, answer: Answer) -> None:
        """Go on with an own copy once its session is known to be the newest, or was until a moment ago."""
        if self._vouching >= self._most_vouching:
            answer([], [refused_as(place, VOUCHING)], [])
            return
        self._vouching += 1
        self._tasks.start(self._check(post, place, box, answer), "check an own copy's session")

    async def _check(self, post: Post, place: int, box: Box, answer: Answer) -> None:
        try:
            await self._current.check(post.to, post.epoch, grace=True)
        except CoterieError as error:
            answer([], [refused_as(place, error)], [])
        except Exception:
            log.exception("the session of an own copy cannot be checked", name=post.to)
            answer([], [refused_as(place, unforeseen())], [])
        else:
            self._append_late(post, place, box, answer)
        finally:
            self._vouching -= 1

    def _append_late(self, post: Post, place: int, box: Box, answer: Answer) -> None:
        refused: list[Refused] = []
        self._append([(place, post, box)], answer, refused)
        if refused:
            answer([], refused, [])

    def _append(self, ready: Sequence[tuple[int, Post, Box]], answer: Answer, refused: list[Refused]) -> None:
        now_ms = self._ages.stamp_ms()
        records: list[Record] = []
        places: dict[tuple[str, str, bytes], list[int]] = {}
        bodies: dict[tuple[str, str, bytes], bytes] = {}
        for place, post, box in ready:
            key = (post.to, post.sender, post.id)
            same = places.get(key)
            if same is not None:
                # The same id twice in one turn: one record, one result for both.
                if bodies[key] == post.body:
                    same.append(place)
                else:
                    refused.append(refused_as(place, DUPLICATE))
                continue
            size = len(post.body)
            weight = weight_of_row(post.to, post.sender, len(post.prekey), size)
            if (error := self._boxes.refusal(box, weight)) is not None:
                refused.append(refused_as(place, error))
                continue
            places[key] = [place]
            bodies[key] = post.body
            if post.sender != OUTGOING:
                box.takes(post.sender, post.id)
            at = box.next_stamp(now_ms)
            records.append(
                Record(
                    post.slot, post.to, post.sender, post.id, 0, State.PENDING, post.body, size, post.prekey,
                    post.epoch, at, at,
                )
            )  # fmt: skip
        if records:
            self._appender.append(records, partial(_decided, self._boxes, places, answer))


def _follows(post: Post, box: Box) -> bool:
    """Say whether a post needs no message before it, or that one, or the post itself, was the last taken here."""
    return not post.after or box.latest.get(post.sender) in (post.after, post.id)


def _decided(
    boxes: Boxes,
    places: dict[tuple[str, str, bytes], list[int]],
    answer: Answer,
    part: Sequence[Record],
    copies: int,
    error: CoterieError | None,
) -> None:
    """Answer the places of a part of the records that the appender has decided."""
    if error is None:
        answer(
            [
                (place, record.stored_at, copies)
                for record in part
                for place in places[record.owner, record.sender, record.id]
            ],
            [],
            [],
        )
        return
    for record in part:
        boxes.failed(record.owner, record.sender)
    refused = [refused_as(place, error) for record in part for place in places[record.owner, record.sender, record.id]]
    answer([], refused, list(error.known) if isinstance(error, StaleEpoch) else [])


def refused_as(place: int, error: CoterieError) -> Refused:
    """Write a refusal."""
    return (place, int(error.wire_code), error.detail, error.value)


def oversize(body: bytes, prekey: bytes) -> CoterieError | None:
    """Return the error for a message that is larger than what may be stored; None for one that is not."""
    if len(body) > MAX_MESSAGE_BODY_BYTES:
        return too_large("body", len(body), MAX_MESSAGE_BODY_BYTES)
    if len(prekey) > MAX_PREKEY_BYTES:
        return too_large("prekey", len(prekey), MAX_PREKEY_BYTES)
    return None


def too_large(field: str, size: int, limit: int) -> CoterieError:
    """Return the error for a field above its limit, in bytes."""
    return CoterieError(f"a {field} of {size} bytes; the limit is {limit}", code=ErrorCode.TOO_LARGE, value=limit)
