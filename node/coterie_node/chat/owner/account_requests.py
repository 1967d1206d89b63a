"""The owner's side of accounts: requests of gateways become changes of registers."""

from __future__ import annotations

from collections.abc import Callable

from coterie_node.runtime.ports import Clock, Handlers
from coterie_protocol.chat import AccountValue, CreateAccount, EndSession, ReadAccount, TakeSession
from coterie_protocol.identifiers import Uid

from ..accounts import create, end_session, take_session
from ..ports import AccountRegisters
from .session_cache import Current


class AccountDesk:
    """Answers ReadAccount, CreateAccount, TakeSession and EndSession at the acting owner.

    Whether the slot is known here, ours and serving is checked by the registers (UNKNOWN_SLOT, StaleEpoch, FORMING).
    """

    def __init__(self, accounts: AccountRegisters, current: Current, clock: Clock, handlers: Handlers) -> None:
        self._accounts = accounts
        self._current = current
        self._clock = clock
        handlers.on_request(ReadAccount, self._read)
        handlers.on_request(CreateAccount, self._create)
        handlers.on_request(TakeSession, self._take)
        handlers.on_request(EndSession, self._end)

    async def _read(self, _: Uid, request: ReadAccount) -> AccountValue:
        value = await self._accounts.read(request.name)
        self._current.note(request.name, value)
        return AccountValue(value)

    async def _create(self, _: Uid, request: CreateAccount) -> AccountValue:
        at = self._clock.wall_ms()
        return await self._change(request.name, lambda value: create(value, request, at))

    async def _take(self, _: Uid, request: TakeSession) -> AccountValue:
        at = self._clock.wall_ms()
        return await self._change(request.name, lambda value: take_session(value, request, at))

    async def _end(self, _: Uid, request: EndSession) -> AccountValue:
        at = self._clock.wall_ms()
        return await self._change(request.name, lambda value: end_session(value, request, at))

    async def _change(self, name: str, function: Callable[[bytes | None], bytes | None]) -> AccountValue:
        value = await self._accounts.change(name, function)
        self._current.note(name, value)
        return AccountValue(value)
