"""A client's conversation with its gateway: hello, then a session, then everything else.

Theory of operation:

    NEW --Hello--> GREETED --Register|Login|Resume--> IN SESSION --Logout--> GREETED
                                                      IN SESSION --superseded--> OVER

Any request but Hello in NEW ends the conversation (BAD_FRAME: whoever speaks is no client of ours). Requests that
need a session answer NOT_LOGGED_IN without one, and SUPERSEDED (or NOT_LOGGED_IN) when it is over. Send and Keep
go through the forwarder by callback; everything else is rare enough for a task each.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import structlog

from coterie_node.runtime.ports import Clock, Tasks
from coterie_protocol.account import Account
from coterie_protocol.chat import Post
from coterie_protocol.client_api import (
    MAX_CLIENT_FRAME_BYTES,
    MAX_MESSAGE_BODY_BYTES,
    MAX_TEXT_BYTES,
    PROTOCOL_HIGH,
    PROTOCOL_LOW,
    ClientFrame,
    Done,
    Hello,
    Keep,
    Limits,
    Login,
    LoginParams,
    LoginParamsReply,
    Logout,
    Lookup,
    LookupReply,
    Register,
    Reply,
    Request,
    Resume,
    Send,
    SessionGranted,
    Subscribe,
    Welcome,
)
from coterie_protocol.client_api import Error as ErrorReply
from coterie_protocol.errors import CoterieError, ErrorCode, FrameError, Unavailable
from coterie_protocol.frames import error_of
from coterie_protocol.records import OUTGOING
from coterie_protocol.weight import FRAME

from ...logs.ration import Ration
from ..accounts import unforeseen
from ..limits import Limiter, TokenBucket, rate_limited
from ..owner.mailbox import oversize
from ..settings import ChatSettings
from .allowance import Share, cost_of, session_busy, weight_of_question
from .forwarding import Forwarder
from .logins import Registration, Turn
from .names import Names
from .queries import Questions
from .sessions import Client as SessionClient
from .sessions import Session, Sessions
from .turns import Round

log = structlog.get_logger()

ID_BYTES = 16
STATE_AGE = 0.2
"""Seconds for which clients are told the same state."""
INTERNAL = error_of(unforeseen())
AT_ONCE: Turn = contextlib.nullcontext()
TAKEN_AT_ONCE = 64
"""Requests of a session that are taken in one turn of the loop, on all its connections: then the others have theirs."""
SHORTEST_PAUSE = 0.05
"""Seconds for which a client that asked too much is not read from at least ..."""
LONGEST_PAUSE = 0.25
"""... and at most: less than a client takes for silence."""


class Client(SessionClient, Protocol):
    """A client's connection."""

    address: str
    """Where it comes from, for limits: a source (`chat.gateway.attempts`)."""

    def reply(self, number: int, body: Reply) -> None:
        """Queue the answer to a request."""
        ...


@dataclass(frozen=True)
class NodeFacts:
    """What a gateway says of its node in Welcome."""

    ring_uid: str
    node_uid: str
    node_name: str
    replication_factor: int
    slots: int
    state: Callable[[], str]
    """forming, joining, syncing, ready, leaving, left."""
    servers: Callable[[], list[str]]
    """URLs of other nodes' client ports."""


class Gateway:
    """What all conversations of a node share."""

    def __init__(
        self,
        facts: NodeFacts,
        registration: Registration,
        sessions: Sessions,
        forwarder: Forwarder,
        questions: Questions,
        names: Names,
        clock: Clock,
        tasks: Tasks,
        settings: ChatSettings,
    ) -> None:
        self.facts = facts
        self.registration = registration
        self.sessions = sessions
        self.forwarder = forwarder
        self.questions = questions
        self.names = names
        self.clock = clock
        self.tasks = tasks
        self.settings = settings
        self.closing = False
        self.failed = Ration(log.error, "a client's request failed")
        self._state = ""
        self._state_until = -math.inf
        self.round = Round(TAKEN_AT_ONCE, lambda callback: asyncio.get_running_loop().call_soon(callback))
        self.welcomes = Limiter(settings.welcomes_at_once, settings.welcome_pause, "connections of one account")
        self.serving = 0
        """Requests other than messages that are served just now ..."""
        self.serving_bytes = 0
        """... and what they weigh."""

    def state(self) -> str:
        """Return the node's state, as of a moment ago: it costs a look at every slot, and asking for it nothing."""
        now = self.clock.now()
        if now >= self._state_until:
            self._state = self.facts.state()
            self._state_until = now + STATE_AGE
        return self._state

    def converse(self, client: Client) -> Conversation:
        """Begin a conversation with a client that has just connected."""
        return Conversation(self, client)


class Conversation:
    """One client's conversation. `take` is called with each frame, `left` once at the end."""

    def __init__(self, gateway: Gateway, client: Client) -> None:
        self._gateway = gateway
        self._client = client
        self.greeted = False
        """The client has said hello."""
        self._gone = False
        self.session: Session | None = None
        self.unanswered = 0
        """Requests without a reply ..."""
        self.asking = 0
        """... and those of them that are no messages."""
        self.pause = 0.0
        """Seconds for which nothing more should be read: the client has asked too much. Whoever waits resets it."""
        settings = gateway.settings
        self._requests = TokenBucket(settings.stranger_requests, settings.stranger_pause)
        self._bytes = TokenBucket(8 * settings.stranger_bytes_per_second, 1 / settings.stranger_bytes_per_second)
        """What it may ask and send without a session."""
        self._share = Share()
        """What this connection has under way without a session."""
        self.on_room: Callable[[], None] = _nothing
        """Called when a reply has made room."""
        self.on_welcome: Callable[[], None] = _nothing
        """Called when the client has come to a session, if its account does not do so all the time."""

    def take(self, frame: ClientFrame) -> None:
        """Take a request. Raises FrameError when this cannot be a client of ours."""
        body = frame.body
        self.unanswered += 1
        if not self.greeted and not isinstance(body, Hello):
            raise FrameError("a client says hello first")
        try:
            if isinstance(body, Send | Keep):
                self._send(frame.id, body)
            elif isinstance(body, Hello):
                self._hello(frame.id, body)
            else:
                self._question(frame.id, body)
        except FrameError:
            raise
        except CoterieError as error:
            self._answer(frame.id, self._refused(error))
        except Exception:
            self._gateway.failed(self._client.address, kind=type(body).__name__, exc_info=True)
            self._answer(frame.id, INTERNAL)

    def _refused(self, error: CoterieError) -> ErrorReply:
        if error.wire_code is ErrorCode.RATE_LIMITED:
            # Not for a token each: what there is by then is taken in one go, and refusals are few.
            self.pause = LONGEST_PAUSE
            if self.session is not None:
                self.pause = min(max(error.value / 1000, SHORTEST_PAUSE), LONGEST_PAUSE)
                self._gateway.sessions.pressed(self.session)
        return error_of(error)

    def turn_is_over(self) -> bool:
        """Count a request that was taken; say whether its session (its source, without one) has had its turn."""
        return self._gateway.round.take(self.session or self._client.address)

    @property
    def crowded(self) -> bool:
        """Say whether so much of this client is under way that its reader should wait for an answer."""
        settings, session = self._gateway.settings, self.session
        return (
            self.unanswered >= settings.requests_in_flight
            or self.asking >= settings.questions_in_flight
            # What is under way on another connection of the session would not wake this one.
            or (
                session is not None
                and self.unanswered > 0
                and session.allowance.share.bytes > settings.session_bytes // 2
            )
        )

    def refuse(self, number: int, error: CoterieError) -> None:
        """Answer a request whose values make no sense. Raises FrameError when this cannot be a client of ours."""
        if not self.greeted:
            raise FrameError(error.detail)
        self._client.reply(number, error_of(error))

    def read(self, size: int) -> float:
        """Count bytes that have come; return how many seconds nothing more should be read from this client."""
        gateway = self._gateway
        if self.session is None:
            return self._bytes.spend(gateway.clock.now(), size)
        return self.session.allowance.read(gateway.clock.now(), size)

    def left(self) -> None:
        """The connection is gone."""
        self._gone = True
        if self.session is not None:
            self._gateway.sessions.leave(self._client, self.session)
            self.session = None

    def ready_for_mail(self) -> None:
        """The client has read what it was too slow for."""
        if self.session is not None:
            self._gateway.sessions.ready(self._client, self.session)

    # --- hello ---

    def _hello(self, number: int, hello: Hello) -> None:
        if self.greeted:
            self._take_as_stranger(1)
        version = min(hello.version_high, PROTOCOL_HIGH)
        if version < max(hello.version_low, PROTOCOL_LOW):
            detail = (
                f"this node speaks versions {PROTOCOL_LOW} to {PROTOCOL_HIGH} of the protocol, the client "
                f"{hello.version_low} to {hello.version_high}; update the older of the two"
            )
            self._answer(number, ErrorReply(int(ErrorCode.UNSUPPORTED_VERSION), detail))
            self._client.end()
            return
        self.greeted = True
        facts = self._gateway.facts
        settings = self._gateway.settings
        limits = Limits(MAX_TEXT_BYTES, MAX_MESSAGE_BODY_BYTES, MAX_CLIENT_FRAME_BYTES, int(settings.sends_per_second))
        self._answer(
            number,
            Welcome(
                version,
                facts.ring_uid,
                facts.node_uid,
                facts.node_name,
                self._gateway.state(),
                facts.replication_factor,
                facts.slots,
                limits,
                facts.servers(),
                self._gateway.clock.wall_ms(),
            ),
        )

    # --- messages ---

    def _send(self, number: int, message: Send | Keep) -> None:
        session = self._in_session()
        gateway = self._gateway
        if (error := oversize(message.body, message.prekey if isinstance(message, Send) else b"")) is not None:
            raise error
        if len(message.id) != ID_BYTES:
            raise CoterieError(f"a message id has {ID_BYTES} bytes", code=ErrorCode.BAD_REQUEST)
        now, weight = gateway.clock.now(), FRAME + len(message.body)
        if isinstance(message, Send):
            if len(message.after) not in (0, ID_BYTES):
                raise CoterieError(f"the id in `after` has {ID_BYTES} bytes", code=ErrorCode.BAD_REQUEST)
            session.allowance.message(now, weight, gateway.names.cost(message.to), own=False)
            to, slot = gateway.names.get(message.to)
            post = Post(slot, to, session.name, message.id, message.body, message.prekey, session.epoch, message.after)
        else:
            session.allowance.message(now, weight, 1, own=True)
            post = Post(session.slot, session.name, OUTGOING, message.id, message.body, b"", session.epoch)
        gateway.forwarder.post(post, number, self._answer, session.allowance.share)

    def _answer(self, number: int, body: Reply) -> None:
        self.unanswered -= 1
        self._client.reply(number, body)
        self.on_room()

    def _in_session(self) -> Session:
        session = self.session
        if session is None:
            if self._gateway.closing:
                raise CoterieError("the node is going away", code=ErrorCode.SHUTTING_DOWN)
            raise CoterieError("log in first", code=ErrorCode.NOT_LOGGED_IN)
        if session.over is not None:
            raise session.over
        return session

    # --- everything else ---

    def _question(self, number: int, request: Request) -> None:
        """Begin to serve a request that is no message. Raises RATE_LIMITED, BUSY."""
        gateway = self._gateway
        settings, now, session = gateway.settings, gateway.clock.now(), self.session
        weight = weight_of_question(request)
        turn: Turn = AT_ONCE
        if session is None or isinstance(request, Register | Login | LoginParams | Resume):
            if not isinstance(request, Register | Login):  # These have limits of their own: each costs a bcrypt.
                self._take_as_stranger(gateway.names.cost(getattr(request, "name", "")))
                if isinstance(request, LoginParams | Resume | Lookup):
                    turn = gateway.registration.asked(request.name, self._client.address)
            share = self._share
        else:
            session.allowance.question(now, request, cost_of(request, gateway.names))
            share = session.allowance.share
        if share.questions >= settings.session_questions or share.questions_bytes > settings.session_questions_bytes:
            raise session_busy()
        if gateway.serving >= settings.questions_at_once or gateway.serving_bytes > settings.questions_bytes:
            raise CoterieError("this node is busy; try again shortly", code=ErrorCode.BUSY, value=200)
        self.asking += 1
        share.questions += 1
        share.questions_bytes += weight
        gateway.serving += 1
        gateway.serving_bytes += weight
        gateway.tasks.start(self._serve(number, request, share, weight, turn), f"serve {type(request).__name__}")

    def _take_as_stranger(self, cost: float) -> None:
        if wait := self._requests.take(self._gateway.clock.now(), cost):
            raise rate_limited("requests of this connection", wait)

    async def _serve(self, number: int, request: Request, share: Share, weight: int, turn: Turn) -> None:
        reply: Reply
        try:
            async with turn:
                if self._gone and turn is not AT_ONCE:
                    raise Unavailable("the client has gone")
                reply = await self._reply(request)
        except CoterieError as error:
            reply = self._refused(error)
        except Exception:
            self._gateway.failed(self._client.address, kind=type(request).__name__, exc_info=True)
            reply = INTERNAL
        finally:
            self.asking -= 1
            share.questions -= 1
            share.questions_bytes -= weight
            self._gateway.serving -= 1
            self._gateway.serving_bytes -= weight
        self._answer(number, reply)

    async def _reply(self, request: Request) -> Reply:
        gateway = self._gateway
        match request:
            case Register():
                return await self._grant(gateway.registration.register(request, self._client.address))
            case Login():
                return await self._grant(gateway.registration.login(request, self._client.address, self._holder()))
            case Resume():
                return await self._grant(self._resumed(request))
            case LoginParams():
                return LoginParamsReply((await gateway.registration.read(request.name)).kdf)
            case Lookup():
                account = await gateway.registration.read(request.name)
                return LookupReply(account.name, account.keys, account.created_at)
            case Logout():
                return await self._logout()
            case Subscribe():
                return await self._subscribe()
            case _:
                return await gateway.questions.reply(self._in_session(), request)

    def _holder(self) -> str:
        """Return whose session this connection is in; nobody's when it is over."""
        return self.session.name if self.session is not None and self.session.over is None else ""

    async def _resumed(self, request: Resume) -> tuple[Account, bytes]:
        return await self._gateway.registration.resume(request, self._client.address), b""

    async def _grant(self, granting: Awaitable[tuple[Account, bytes]]) -> SessionGranted:
        with self._apart():
            account, token = await granting
            if self._gone:
                raise Unavailable("the client has gone")
            sessions = self._gateway.sessions
            session = sessions.join(self._client, account.name, account.session.epoch)
            # Not the one from before it was asked for: another may have been granted meanwhile.
            if self.session is not None and self.session is not session:
                sessions.leave(self._client, self.session)
            self.session = session
        with contextlib.suppress(CoterieError):
            self._gateway.welcomes.take(account.name, self._gateway.clock.now())
            self.on_welcome()
        return SessionGranted(account.name, session.epoch, token, account.keys, account.vault)

    @contextlib.contextmanager
    def _apart(self) -> Iterator[None]:
        """Take the client out of its session while it asks for that session's end or for another.

        The news that the session is over must not close this connection before its answer.
        """
        session = self.session
        if session is not None:
            session.clients.pop(self._client, None)
        try:
            yield
        except CoterieError:
            if session is not None and self.session is session and not self._gone and session.over is None:
                session.clients[self._client] = None
            raise

    async def _subscribe(self) -> Done:
        session = self._in_session()
        try:
            await self._gateway.sessions.subscribe(self._client, session)
        except TimeoutError:
            raise Unavailable("nobody who holds this mailbox answers; try again") from None
        return Done()

    async def _logout(self) -> Done:
        session = self._in_session()
        with self._apart():
            await self._gateway.registration.logout(session.name, session.slot, session.epoch)
            if self.session is session:
                self.session = None
                self._gateway.sessions.leave(self._client, session)
        return Done()


def _nothing() -> None:
    """Do nothing."""
