"""The gateway's side of accounts: registering, logging in, resuming, logging out.

The password's check happens here, in a handed-in pool, and nothing of a password is forwarded but its bcrypt hash.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

import structlog

from coterie_node.runtime.ports import Clock
from coterie_protocol.account import Account
from coterie_protocol.chat import AccountValue, CreateAccount, EndSession, ReadAccount, TakeSession
from coterie_protocol.client_api import Login, Register, Resume
from coterie_protocol.errors import CoterieError, ErrorCode

from ..accounts import check_op, check_token, existing, resume_token, token_hash
from ..limits import Limiter
from ..ports import Routing
from ..queues import Queues
from ..settings import ChatSettings
from .attempts import SESSION, Attempts
from .names import Names

log = structlog.get_logger()

Turn = contextlib.AbstractAsyncContextManager[None]

AUTH_BYTES = 32
OPAQUE_BYTES = 64 * 1024
"""The largest key bundle, and the largest vault."""


@dataclass(frozen=True)
class Passwords:
    """bcrypt off the event loop. Both may raise CoterieError BUSY."""

    hash: Callable[[bytes, str], Awaitable[bytes]]
    """Hash base64(auth key); in the queue of who asks."""
    check: Callable[[bytes, bytes, str], Awaitable[bool]]
    """Check base64(auth key) against a hash; in the queue of who asks."""


@dataclass
class LoginCounts:
    """How logins ended since the start, for metrics."""

    registered: int = 0
    granted: int = 0
    refused: int = 0
    limited: int = 0


class Registration:
    """Answers Register, Login and Resume with the account whose session is granted, and the token."""

    def __init__(
        self, router: Routing, names: Names, passwords: Passwords, clock: Clock, settings: ChatSettings
    ) -> None:
        self._router = router
        self._names = names
        self._passwords = passwords
        self._clock = clock
        self._timeout = settings.account_timeout
        self._attempts = Attempts(settings)
        self._by_source = Limiter(settings.logins_per_address, settings.login_address_pause, "logins from this address")
        self._names_by_source = Limiter(
            settings.registrations_per_address, settings.registration_pause, "registrations from this address"
        )
        self._sessions = Limiter(settings.sessions_per_account, settings.session_pause, "sessions of this account")
        self._asked_by_source = Limiter(
            settings.stranger_address_requests, settings.stranger_address_pause, "requests from this address"
        )
        self._asked = Queues(
            settings.strangers_at_once, settings.strangers_waiting, "requests without a session", 0.01, clock.now
        )
        self.counts = LoginCounts()

    def asked(self, text: str, source: str) -> Turn:
        """Count a request about a name that needs no session; return what it is to be served in.

        Raises BadName, RATE_LIMITED; the turn raises BUSY. Who is known here does not wait behind others.
        """
        name, _ = self._names.get(text)
        queue = f"{source} {name}" if self._attempts.known(name, source) else source
        self._asked_by_source.take(queue, self._clock.now())
        return self._asked.turn(queue)

    async def read(self, text: str) -> Account:
        """Read an account by a name as a client wrote it. Raises BadName, NO_SUCH_USER, Unavailable."""
        name, slot = self._names.get(text)
        return existing(await self._read(slot, name), name)

    async def register(self, request: Register, source: str) -> tuple[Account, bytes]:
        """Create an account. Raises BadName, NAME_TAKEN, RATE_LIMITED, BUSY, TOO_LARGE, Unavailable."""
        name, slot = self._names.get(request.name)
        check_op(request.op)
        auth = _auth_key(request.auth)
        for opaque in (request.keys, request.vault):
            if len(opaque) > OPAQUE_BYTES:
                raise CoterieError(
                    f"keys and vault have at most {OPAQUE_BYTES} bytes each",
                    code=ErrorCode.TOO_LARGE,
                    value=OPAQUE_BYTES,
                )
        self._limit(source)
        value = await self._read(slot, name)  # A taken name costs no bcrypt.
        if value is None:
            with self._limited():
                self._names_by_source.take(source, self._clock.now())
            hashed = await self._passwords.hash(base64.b64encode(auth), source)
        else:
            hashed = b""
        token = resume_token(auth, request.op)
        change = CreateAccount(name, request.kdf, hashed, request.keys, request.vault, request.op, token_hash(token))
        account = existing(_value(await self._router.call(slot, change, self._timeout)), name)
        self.counts.registered += 1
        self._attempts.remember(name, source)
        return account, token

    async def login(self, request: Login, source: str, holder: str = "") -> tuple[Account, bytes]:
        """Take the next session; `holder` is whose session the connection is in.

        Raises NO_SUCH_USER, REFUSED, SUPERSEDED, RATE_LIMITED, BUSY, Unavailable.
        """
        name, slot = self._names.get(request.name)
        check_op(request.op)
        auth = _auth_key(request.auth)
        place = SESSION if holder == name else source
        # Who is known here does not wait behind strangers of the same source.
        queue = f"{source} known" if self._attempts.known(name, place) else source
        self._limit(queue)
        with self._limited():
            self._attempts.wait(name, place, self._clock.now())
            self._sessions.look(name, self._clock.now())  # What would be refused afterwards costs no bcrypt.
        account = existing(await self._read(slot, name), name)
        with self._limited():
            attempt = self._attempts.take(name, place, self._clock.now())
        try:
            right = await self._passwords.check(base64.b64encode(auth), account.auth_hash, queue)
        except CoterieError:
            attempt.undo()
            raise
        if not right:
            self.counts.refused += 1
            raise CoterieError("wrong name or password", code=ErrorCode.REFUSED)
        attempt.succeeded()
        with self._limited():
            self._sessions.take(name, self._clock.now())
        token = resume_token(auth, request.op)
        change = TakeSession(name, account.auth_hash, request.op, token_hash(token))
        account = existing(_value(await self._router.call(slot, change, self._timeout)), name)
        self.counts.granted += 1
        return account, token

    async def resume(self, request: Resume, source: str) -> Account:
        """Go on with a session. Raises NO_SUCH_USER, SUPERSEDED, REFUSED, Unavailable."""
        account = await self.read(request.name)
        check_token(account, request.token)
        self._attempts.remember(account.name, source)
        return account

    async def logout(self, name: str, slot: int, epoch: int) -> None:
        """End a session. Raises Unavailable."""
        await self._router.call(slot, EndSession(name, epoch), self._timeout)

    async def _read(self, slot: int, name: str) -> bytes | None:
        return _value(await self._router.call(slot, ReadAccount(name), self._timeout))

    def _limit(self, queue: str) -> None:
        """Count a bcrypt. Raises RATE_LIMITED."""
        with self._limited():
            self._by_source.take(queue, self._clock.now())

    @contextlib.contextmanager
    def _limited(self) -> Iterator[None]:
        try:
            yield
        except CoterieError:
            self.counts.limited += 1
            raise


def _value(reply: object) -> bytes | None:
    if not isinstance(reply, AccountValue):
        raise CoterieError("a node answered with something else; update the older of the two")
    return reply.value


def _auth_key(text: str) -> bytes:
    """Read the auth key of a request; raises BAD_REQUEST."""
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != AUTH_BYTES:
        raise CoterieError(f"an auth key is the base64 of {AUTH_BYTES} bytes", code=ErrorCode.BAD_REQUEST)
    return key
