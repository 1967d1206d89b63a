"""What was lately sent to each person, so that the ring can be given it again where it is missing.

A message names the one before it, and a node stores it only where it holds that one too. It usually does. It does not
when whoever acknowledged the message before is away: then that one is sent again, under its id and with its body, and
the next after it. So wherever a message is first stored, the ones before it are too, and no recipient sees it without.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, NamedTuple, Protocol

from coterie_protocol.client_api import Reply, Send
from coterie_protocol.errors import CoterieError, ErrorCode

from .errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coterie_protocol.client_api import Request

REMEMBERED = 8
"""Messages to one person. What is further back has reached all members long since."""
PEOPLE = 64
"""People of whom this is remembered; some 37 MB if all messages are as large as they may be."""
LATELY = 600.0
"""Seconds after which a message need not be asked about any more: repair has brought it to all members."""
ATTEMPTS = 20


class Sent(NamedTuple):
    """One message to one person."""

    id: bytes
    body: bytes


class Asking(Protocol):
    """What asks a server (connection.Connection)."""

    async def call(
        self, request: Request, *, beside: Sequence[Request] = (), patience: float | None = None, name: str = ""
    ) -> Reply:
        """Ask until there is an answer."""
        ...


class Predecessors:
    """The last messages of one session, by recipient."""

    def __init__(self, connection: Asking) -> None:
        self._connection = connection
        self._sent: OrderedDict[str, deque[tuple[float, Sent]]] = OrderedDict()
        """By recipient, with the loop's time at which each was stored."""

    async def send(
        self, to: str, message: Sent, *, beside: Sequence[Request] = (), patience: float | None = None
    ) -> Reply:
        """Have a message stored after the ones before it. One at a time to each person. Raises as Connection.call."""
        since = asyncio.get_running_loop().time() - LATELY
        before = [sent for at, sent in self._sent.get(to, ()) if at >= since]
        try:
            reply = await self._after(to, message, before, beside, patience)
        except CoterieError as error:
            if error.wire_code is ErrorCode.DUPLICATE_ID:
                self._remember(to, message)  # it is held
            raise
        self._remember(to, message)
        return reply

    def _remember(self, to: str, message: Sent) -> None:
        now = asyncio.get_running_loop().time()
        self._sent.setdefault(to, deque(maxlen=REMEMBERED)).append((now, message))
        self._sent.move_to_end(to)
        if len(self._sent) > PEOPLE:
            self._sent.popitem(last=False)

    async def _after(
        self,
        to: str,
        message: Sent,
        before: Sequence[Sent],
        beside: Sequence[Request],
        patience: float | None,
    ) -> Reply:
        for _ in range(ATTEMPTS):
            after = before[-1].id if before else b""
            request = Send(to, message.id, message.body, after=after)
            try:
                return await self._connection.call(request, beside=beside, patience=patience, name=to)
            except CoterieError as error:
                if error.wire_code is not ErrorCode.PREDECESSOR_MISSING:
                    raise
            try:
                await self._after(to, before[-1], before[:-1], (), patience)
            except CoterieError as failure:
                if failure.wire_code is not ErrorCode.DUPLICATE_ID:
                    raise
        raise Unavailable(f"the nodes that act for {to} change too quickly; try again shortly")
