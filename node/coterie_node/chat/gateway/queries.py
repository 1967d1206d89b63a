"""The gateway's side of archiving and asking: archive copies, pages, states, presence."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TypeVar

from coterie_node.replication.configuration import SlotTable
from coterie_protocol.chat import (
    ArchiveWrite,
    PageAnswer,
    PageAsk,
    PresenceAnswer,
    PresenceAsk,
    StatesAnswer,
    StatesAsk,
)
from coterie_protocol.client_api import (
    Archive,
    Discard,
    Done,
    Page,
    PageReply,
    PresenceItem,
    PresenceQuery,
    PresenceReply,
    Reply,
    Request,
    States,
    StatesReply,
)
from coterie_protocol.errors import CoterieError, ErrorCode, Unavailable
from coterie_protocol.identifiers import Uid
from coterie_protocol.records import OUTGOING
from coterie_protocol.words import counted

from ..owner.archive import STATES_LIMIT
from ..ports import Routing
from ..settings import ChatSettings
from .names import Names
from .sessions import Session

T = TypeVar("T")
ID_BYTES = 16
ARCHIVE_LIMIT = 1000
PRESENCE_LIMIT = 1000
PRESENCE_ROUNDS = 4
PRESENCE_PART = 8
"""Names that are asked for at once: normalising each may take a quarter of a millisecond, and each that is nobody's is
read from a quorum."""


class Questions:
    """Answers requests of a session by asking the owners of the slots they touch."""

    def __init__(self, table: SlotTable, router: Routing, names: Names, settings: ChatSettings) -> None:
        self._table = table
        self._router = router
        self._names = names
        self._timeout = settings.account_timeout

    async def reply(self, session: Session, request: Request) -> Reply:
        """Answer a request. Raises CoterieError."""
        match request:
            case Archive():
                return await self._archive(session, request.items, discard=False)
            case Discard():
                copies = [(sender, mid, part, b"") for sender, mid, part in request.items]
                return await self._archive(session, copies, discard=True)
            case Page():
                ask = PageAsk(session.name, session.epoch, request.before, request.limit)
                page = await self._router.call(session.slot, ask, self._timeout)
                page = _expected(page, PageAnswer)
                return PageReply(page.items, page.next)
            case States():
                return await self._states(session, request)
            case PresenceQuery():
                return await self._presence(request.names)
            case _:
                raise CoterieError(f"no request: {type(request).__name__}", code=ErrorCode.BAD_REQUEST)

    async def _archive(
        self, session: Session, copies: Sequence[tuple[str, bytes, int, bytes]], *, discard: bool
    ) -> Done:
        if len(copies) > ARCHIVE_LIMIT:
            raise CoterieError(
                f"{counted(len(copies), 'archive copy', 'archive copies')} at once; the limit is {ARCHIVE_LIMIT}",
                code=ErrorCode.TOO_LARGE,
                value=ARCHIVE_LIMIT,
            )
        items = []
        for sender, mid, part, copy in copies:
            if len(mid) != ID_BYTES or part < 0:
                raise CoterieError("an archive copy without a proper message id", code=ErrorCode.BAD_REQUEST)
            name = OUTGOING if sender == OUTGOING else self._names.get(sender)[0]
            items.append((name, mid, part, copy))
        if items:
            write = ArchiveWrite(session.name, session.epoch, items, discard)
            await self._router.call(session.slot, write, self._timeout)
        return Done()

    async def _states(self, session: Session, request: States) -> StatesReply:
        if len(request.ids) > STATES_LIMIT:
            raise CoterieError(
                f"states of {counted(len(request.ids), 'message')} at once; the limit is {STATES_LIMIT}",
                code=ErrorCode.TOO_LARGE,
                value=STATES_LIMIT,
            )
        to, slot = self._names.get(request.to)
        answer = await self._router.call(slot, StatesAsk(to, session.name, request.ids), self._timeout)
        answer = _expected(answer, StatesAnswer)
        return StatesReply(answer.items)

    async def _presence(self, texts: Sequence[str]) -> PresenceReply:
        """Ask all owners, some names at once; what has moved on is asked again where it is now."""
        if len(texts) > PRESENCE_LIMIT:
            raise CoterieError(
                f"presence of {counted(len(texts), 'user')} at once; the limit is {PRESENCE_LIMIT}",
                code=ErrorCode.TOO_LARGE,
                value=PRESENCE_LIMIT,
            )
        items: list[PresenceItem] = []
        for start in range(0, len(texts), PRESENCE_PART):
            items += await self._presence_of(texts[start : start + PRESENCE_PART])
        return PresenceReply(list({item.name: item for item in items}.values()))

    async def _presence_of(self, texts: Sequence[str]) -> list[PresenceItem]:
        left: dict[str, int] = dict(self._names.get(text) for text in texts)
        found: dict[str, PresenceItem] = {}
        for _ in range(PRESENCE_ROUNDS):
            by_owner: dict[Uid, list[str]] = {}
            for name, slot in left.items():
                by_owner.setdefault(await self._router.locate(slot, self._timeout), []).append(name)
            answers = await asyncio.gather(
                *(self._router.call(left[some[0]], PresenceAsk(some), self._timeout) for some in by_owner.values())
            )
            elsewhere: set[str] = set()
            for answer in answers:
                answer = _expected(answer, PresenceAnswer)
                self._table.learn(answer.known)
                found.update((item.name, item) for item in answer.items)
                elsewhere.update(answer.elsewhere)
            left = {name: slot for name, slot in left.items() if name in elsewhere}
            if not left:
                names = dict.fromkeys(self._names.get(text)[0] for text in texts)
                return [found[name] for name in names if name in found]
        raise Unavailable("not all owners could be found; try again")


def _expected(answer: object, kind: type[T]) -> T:
    """Return an owner's answer if it is of the kind asked for; raises Unavailable."""
    if not isinstance(answer, kind):
        raise Unavailable(f"the owner answered with {type(answer).__name__}; try again")
    return answer
