"""The small questions that any peer may ask: are you there, and where is so-and-so?"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from coterie_protocol.identifiers import Uid
from coterie_protocol.nodes import NodeRef, Ping, Pong, Refs, WhoIs

from ..runtime.ports import Handlers
from .address_book import Book


class Questions:
    """Answers Ping and WhoIs, and takes Refs."""

    def __init__(
        self,
        handlers: Handlers,
        me: Callable[[], NodeRef],
        book: Book,
        learn: Callable[[Iterable[NodeRef]], None],
    ) -> None:
        self._me = me
        self._book = book
        handlers.on_request(Ping, self._pong)
        handlers.on_request(WhoIs, self._who_is)
        handlers.on_event(Refs, lambda _, message: learn(message.nodes))

    async def _pong(self, _: Uid, __: Ping) -> Pong:
        return Pong(self._me())

    async def _who_is(self, _: Uid, message: WhoIs) -> Refs:
        me = self._me()
        known = [me if uid == me.uid else self._book.get(Uid(uid)) for uid in message.uids]
        return Refs([ref for ref in known if ref is not None])
