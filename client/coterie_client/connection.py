"""A connection to the ring: one WebSocket to any of its servers, replaced by another whenever it breaks.

`Connection` opens a link to one of the servers, resumes the session on it, and keeps doing so under jittered
exponential backoff until it is closed or has been without a server for `patience` seconds. The first attempt after a
link that had worked is made at once, and several servers are raced (`race`). A server that falls silent is given up
for another one only when that one is ready (`_use`): a false alarm costs a connection, a true one about a second.

Callers post requests without knowing which link carries them; `call` repeats one over lost links and passing errors,
so it must be harmless to repeat (each request of the client API is: by message id, operation id, or by nature).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

import aiohttp

from coterie_protocol.client_api import Event, Reply, Request, Resume, SessionGranted, Superseded, Welcome
from coterie_protocol.errors import CoterieError, ErrorCode

from .errors import RETRIABLE, ClientError, ConnectionLost, NotLoggedIn, SessionTaken, Unavailable, translate
from .link import LOOK, Link, http_session
from .problems import REMEDY, ServerProblem, no_server
from .race import first_ready

if TYPE_CHECKING:
    import ssl

    from .known import KnownServers
    from .session import Session

PATIENCE = 15.0
"""Seconds within which a request must succeed, and for which a connection looks for a server."""
FIRST_PATIENCE = 2.0
"""Seconds to look for a first server when each of them plainly refuses."""
REPLY_TIMEOUT = 8.0
"""Seconds for one attempt; the server is alive (it answers pings) but something behind it is not."""
BACKOFF_FIRST = 0.1
BACKOFF_MOST = 2.0
FAULTS_MOST = 3
"""Links in a row that ended because the server broke the protocol, after which there is no server worth asking."""
STEADY = 1.0
"""Seconds after which a link counts as one that had worked."""
DOUBTED = 1
"""Looks without an answer to a ping (0.5 to 0.75 s of silence) after which another server is made ready."""
SILENT = 3
"""Looks (1 to 1.25 s of silence) after which it takes over. Nodes give each other one second, too."""
CALM = 1.5
"""When the server that took over falls silent within so many seconds, too, the next takeover takes twice as long, up to
SILENT_MOST: an uplink that is slow or full makes all servers look silent, and changing over and over makes it worse."""
SILENT_MOST = 16
PROGRESS = 3.0
"""Seconds that somebody waits for a server or an answer before they are told what for."""


class Connected:
    """Told to listeners: there is a (new) link, and the session is resumed on it."""


class Serverless:
    """Told to listeners: none of the servers could be used just now, because of `error`; the search goes on."""

    def __init__(self, error: ClientError) -> None:
        self.error = error


class Failed:
    """Told to listeners: the connection has ended for good, because of `error`."""

    def __init__(self, error: ClientError) -> None:
        self.error = error


Notice = Event | Connected | Serverless | Failed


class Connection:
    """A lasting connection to the ring. Use it as a context manager, or call `start` and `close`."""

    def __init__(
        self,
        servers: Sequence[str],
        *,
        session: Session | None = None,
        ring_uid: str = "",
        tls: ssl.SSLContext | None = None,
        patience: float = PATIENCE,
        dice: random.Random | None = None,
        known: KnownServers | None = None,
        on_wait: Callable[[str], None] | None = None,
        persistent: bool = False,
    ) -> None:
        """`ring_uid` (the session's, if there is one) makes servers of another ring unusable. `patience` in seconds.

        `known`: other servers of the session's ring, as its nodes have named them; they are tried after `servers`.
        `on_wait` hears once what is waited for, when that takes longer than PROGRESS seconds.
        `persistent`: the search for a first server goes on although each refuses, if no one's refusal names a remedy.
        """
        self.patience = patience
        self._servers = list(dict.fromkeys(servers))
        self._known = known
        self._estranged: ServerProblem | None = None
        """One of `servers` belongs to another ring. Then nobody wants those that the session's ring has named."""
        self._problems: Sequence[ServerProblem] = ()
        """Why no server could be used when all were tried last; empty while one is."""
        self._faults = 0
        """Links in a row that ended because the server broke the protocol."""
        self._session = session
        self._ring_uid = session.ring_uid if session else ring_uid
        self._tls = tls
        self._dice = dice or random.Random()  # noqa: S311 - jitter, not a secret
        self._listeners: list[Callable[[Notice], None]] = []
        self._link: Link | None = None
        self._ready = asyncio.Event()
        self._failure: ClientError | None = None
        self._task: asyncio.Task[None] | None = None
        self._last_url = ""
        self._silent = SILENT
        self._parting: set[asyncio.Task[None]] = set()
        self.on_wait = on_wait
        self._persistent = persistent

    # --- Life -------------------------------------------------------------------------------------------------

    async def start(self) -> Welcome:
        """Find a server and return what it says of itself; raises Unavailable, SessionTaken or NotLoggedIn."""
        self.begin()
        try:
            # `_keep` usually knows better, and sooner.
            async with self._in_sight(lambda: None), asyncio.timeout(self.patience + REPLY_TIMEOUT):
                return (await self._usable()).welcome
        except TimeoutError:
            url = self._last_url or self._servers[0]
            raise Unavailable(f"{url} ends each connection; ask another server") from None

    def begin(self) -> None:
        """Begin to look for a server, without waiting for it: requests wait, and raise what `start` would."""
        self._task = asyncio.create_task(self._keep())

    async def close(self) -> None:
        """Close the connection; requests under way fail with ConnectionLost."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def listen(self, listener: Callable[[Notice], None]) -> None:
        """Call `listener` for every event, new link and the end, on the event loop; it must be quick."""
        self._listeners.append(listener)

    def adopt(self, session: Session) -> None:
        """Resume this session whenever a new link is opened: the current one has just been granted it."""
        self._session = session
        self._ring_uid = session.ring_uid

    @property
    def welcome(self) -> Welcome | None:
        """Return what the current server says of itself, None while there is no server."""
        return self._link.welcome if self._link else None

    @property
    def url(self) -> str:
        """Return the address of the current or last server."""
        return self._last_url

    # --- Requests ---------------------------------------------------------------------------------------------

    async def call(
        self, request: Request, *, beside: Sequence[Request] = (), patience: float | None = None, name: str = ""
    ) -> Reply:
        """Make a request until it is answered, for at most `patience` seconds.

        `beside` are requests that travel before it in the same message and whose outcome does not matter here.
        Raises CoterieError for a definite answer; Unavailable (the last reason, for `name`) when the time is over;
        SessionTaken or NotLoggedIn when the session has ended.
        """
        patience = self.patience if patience is None else patience
        last: ClientError | None = None
        attempt = 0
        try:
            async with self._in_sight(lambda: last), asyncio.timeout(patience):
                while True:
                    link = await self._usable()
                    try:
                        async with asyncio.timeout(REPLY_TIMEOUT):
                            return await link.post([*beside, request])[-1]
                    except ConnectionLost as error:
                        last = error
                        continue  # the next link is awaited, and the connection backs off
                    except TimeoutError:
                        last = Unavailable(f"{link.url} does not answer; try again shortly")
                        continue
                    except CoterieError as error:
                        self._end_of_session(error)
                        if error.wire_code not in RETRIABLE:
                            raise
                        last = translate(error, name)
                        wait = error.value / 1000 if error.value else self._backoff(attempt)
                        attempt += 1
                        if error.wire_code is ErrorCode.SHUTTING_DOWN:
                            wait = max(wait, BACKOFF_FIRST)
                        await asyncio.sleep(wait)
        except TimeoutError:
            if self._problems:
                raise no_server(self._problems) from None
            raise last or Unavailable(f"no answer within {patience:.0f} s; try again shortly") from None

    @contextlib.asynccontextmanager
    async def _in_sight(self, last: Callable[[], ClientError | None]) -> AsyncIterator[None]:
        """Tell `on_wait` what is waited for, if the block takes long; `last` is why the last attempt failed."""
        timer = asyncio.get_running_loop().call_later(PROGRESS, lambda: self._tell_wait(last()))
        try:
            yield
        finally:
            timer.cancel()

    def _tell_wait(self, last: ClientError | None) -> None:
        say, self.on_wait = self.on_wait, None
        if say is None:
            return
        if self._problems:
            say(f"waiting: {no_server(self._problems).reason.removesuffix(f'; {REMEDY}')}")
        elif self._link is None:
            say("waiting for a server to answer")
        else:
            say(f"waiting: {last.reason}" if last else f"waiting for the answer of {self._link.url}")

    def break_off(self, fault: str) -> None:
        """Leave the current server for another: it has broken the protocol in a way that only the caller can tell."""
        if self._link is not None:
            self._link.break_off(fault)

    def _end_of_session(self, error: CoterieError) -> None:
        name = self._session.name if self._session else ""
        if error.wire_code is ErrorCode.SUPERSEDED:
            raise SessionTaken(name, error.value) from None
        if error.wire_code is ErrorCode.NOT_LOGGED_IN:
            raise translate(error) from None

    async def _usable(self) -> Link:
        while True:
            await self._ready.wait()
            if self._failure is not None:
                raise self._failure
            if self._link is not None:
                if not self._link.closed:
                    return self._link
                # It has just ended and `_use` has not run yet: whoever asked again at once would never let it run.
                self._link = None
            self._ready.clear()

    # --- Links ------------------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        async with http_session(connector) as http:
            attempt, since, ever, taken = 0, loop.time(), False, False
            link: Link | None = None
            try:
                while True:
                    if link is None:
                        link, problems = await self._open_any(http, self._in_turn())
                        self._problems = problems if link is None else ()
                    if link is None:
                        plain = not ever and all(p.lasting and (p.remedy or not self._persistent) for p in problems)
                        limit = min(self.patience, FIRST_PATIENCE) if plain else self.patience
                        left = since + limit - loop.time()
                        if left <= 0:
                            raise no_server(problems)
                        if not plain:  # who gives up at once does not say that it goes on
                            self._tell(Serverless(no_server(problems)))
                        await asyncio.sleep(min(self._backoff(attempt), left))
                        attempt += 1
                        continue
                    if self._failure is not None:  # told by an event before the link was in use
                        await link.close()
                        return
                    ever, opened = True, loop.time()
                    used = link
                    link = await self._use(http, used)
                    since = loop.time()
                    self._judge(used, since - opened, took_over=taken)
                    self._faults = self._faults + 1 if used.fault else 0
                    if self._faults >= FAULTS_MOST and self._faults >= len(self._servers):
                        raise Unavailable(
                            f"{used.url} breaks the protocol ({used.fault}); ask another server, or install the newest "
                            "client and server"
                        )
                    taken = link is not None
                    # A lost link is replaced at once; what breaks again and again, less and less often.
                    attempt = 0 if since - opened > STEADY else attempt + 1
                    if attempt > 1 and link is None:
                        await asyncio.sleep(self._backoff(attempt - 2))
            except ClientError as error:
                self._fail(error)
            finally:
                await asyncio.gather(*self._parting, return_exceptions=True)

    async def _open_any(
        self, http: aiohttp.ClientSession, urls: Sequence[str]
    ) -> tuple[Link | None, list[ServerProblem]]:
        return await first_ready(urls, lambda url: self._open(http, url), self._part)

    def _in_turn(self) -> list[str]:
        """Return the servers in random order, the one that was lost last at the end, then those that nodes named."""
        urls = [url for url in self._servers if url != self._last_url]
        self._dice.shuffle(urls)
        return [*urls, *(url for url in self._servers if url == self._last_url), *self._named()]

    def _named(self) -> list[str]:
        if self._known is None or not self._ring_uid:
            return []
        urls = [url for url in self._known.of(self._ring_uid) if url not in self._servers]
        self._dice.shuffle(urls)
        return urls

    async def _open(self, http: aiohttp.ClientSession, url: str) -> Link:
        if self._estranged is not None and url not in self._servers:
            raise self._estranged
        link = await Link.open(http, url, self._tell, self._tls)
        try:
            if self._ring_uid and link.welcome.ring_uid != self._ring_uid:
                begun = "this session" if self._session else "the server before it"
                reason = f"it belongs to another ring ({link.welcome.ring_uid}) than {begun} ({self._ring_uid})"
                remedy = "set COTERIE_SERVERS to the session's ring, or log in to this one: coterie login NAME"
                if self._session is None:
                    remedy = "set COTERIE_SERVERS to servers of one ring"
                problem = ServerProblem(url, reason, lasting=True, remedy=remedy)
                if url in self._servers:
                    self._estranged = problem
                raise problem
            if self._session is not None:
                await self._resume(link, self._session)
            if link.over:
                raise ServerProblem(url, "it is going away", lasting=False)
        except BaseException:
            await link.close()
            raise
        return link

    async def _resume(self, link: Link, session: Session) -> None:
        try:
            async with asyncio.timeout(REPLY_TIMEOUT):
                reply = await link.post([Resume(session.name, session.token)])[0]
        except CoterieError as error:
            if error.wire_code is ErrorCode.SUPERSEDED:
                raise SessionTaken(session.name, error.value) from None
            if error.wire_code in (ErrorCode.REFUSED, ErrorCode.NOT_LOGGED_IN, ErrorCode.NO_SUCH_USER):
                raise NotLoggedIn(
                    f"the session of {session.name} has ended ({error.detail}); run: coterie login {session.name}"
                ) from None
            raise ServerProblem(link.url, error.detail, lasting=False, answer=error) from None
        except (ConnectionLost, TimeoutError):
            raise ServerProblem(link.url, "it did not resume the session in time", lasting=False) from None
        assert isinstance(reply, SessionGranted)
        if (reply.name, reply.epoch) != (session.name, session.epoch):
            remedy = f"ask another server, or log in again: coterie login {session.name}"
            raise ServerProblem(link.url, "it has another session than this one", lasting=True, remedy=remedy)

    async def _use(self, http: aiohttp.ClientSession, link: Link) -> Link | None:
        """Use a link until it is over, or silent while another server is ready; return the link to that one."""
        self._last_url = link.url
        # What is begun in one ring, as a login is, goes on in no other.
        self._ring_uid = self._ring_uid or link.welcome.ring_uid
        self._link = link
        self._ready.set()
        self._tell(Connected())
        self._remember(link.welcome)
        others = [url for url in (*self._servers, *self._named()) if url != link.url]
        spare: asyncio.Task[Link] | None = None
        try:
            while not link.over:
                await link.news.wait()
                link.news.clear()
                if link.silent < DOUBTED:
                    self._drop(spare)
                    spare = None
                elif spare is None and others:
                    spare = asyncio.create_task(self._spare(http, others))
                    spare.add_done_callback(lambda _: link.news.set())
                if link.silent >= self._silent and spare is not None and spare.done():
                    break
            self._link = None
            if self._failure is not None:
                raise self._failure
            self._ready.clear()
            if link.over:
                await link.settle(2.0)
            if spare is None or not spare.done():
                return None  # `_keep` asks all servers again, this one too, and knows when to give up
            following, spare = spare, None
            return following.result()
        finally:
            self._drop(spare)
            self._part(asyncio.create_task(link.close()))
            link.end()

    def _judge(self, link: Link, seconds: float, *, took_over: bool) -> None:
        """Say how long a server may be silent from now on, after a link that was in use for so many seconds."""
        spoke = seconds - link.silent * LOOK
        if took_over and link.silent and spoke < CALM:
            self._silent = min(2 * self._silent, SILENT_MOST)
        elif spoke >= CALM:
            self._silent = SILENT

    async def _spare(self, http: aiohttp.ClientSession, urls: Sequence[str]) -> Link:
        """Open a link to one of these servers, however long it takes."""
        attempt = 0
        while True:
            own = [url for url in urls if url in self._servers]
            named = [url for url in urls if url not in self._servers]
            self._dice.shuffle(own)
            link, _ = await self._open_any(http, [*own, *named])
            if link is not None:
                return link
            await asyncio.sleep(self._backoff(attempt))
            attempt += 1

    def _drop(self, spare: asyncio.Task[Link] | None) -> None:
        if spare is not None:
            spare.cancel()
            self._part(spare)

    def _part(self, task: asyncio.Task[Link] | asyncio.Task[None]) -> None:
        """See a link off that is used no more, or an attempt at one that may have succeeded; nobody waits for it."""
        parting = asyncio.create_task(_closed(task))
        self._parting.add(parting)
        parting.add_done_callback(self._parting.discard)

    def _remember(self, welcome: Welcome) -> None:
        if self._known is not None and self._session is not None:
            self._known.remember(welcome.ring_uid, welcome.servers)

    def _tell(self, notice: Notice) -> None:
        if isinstance(notice, Superseded):
            self._fail(SessionTaken(self._session.name if self._session else "", notice.at))
            return
        for listener in self._listeners:
            try:
                listener(notice)
            except ClientError as error:  # the disk, not the server: another one would not help
                self._fail(error)
                return

    def _fail(self, error: ClientError) -> None:
        if self._failure is None:
            self._failure = error
            self._ready.set()
            if self._link is not None:
                self._link.end()
            for listener in self._listeners:
                listener(Failed(error))

    def _backoff(self, attempt: int) -> float:
        """Return seconds to wait: full jitter under an exponentially growing bound."""
        return self._dice.uniform(0.01, min(BACKOFF_MOST, BACKOFF_FIRST * 2.0 ** min(attempt, 10)))


async def _closed(task: asyncio.Task[Link] | asyncio.Task[None]) -> None:
    await asyncio.wait([task])
    if not task.cancelled() and task.exception() is None and (link := task.result()) is not None:
        await link.close()
