"""All links of a node: `runtime.ports.Peers` on sockets.

There is one link for each pair of nodes. A node dials a peer only while it sees no link to it, so a hello from someone
whose link still stands here means that the other end has lost it: the new one replaces it. When both dial at once, the
one dialled by the smaller uid stays, and that is decided before anything has travelled on either (`_admit`, `_settle`).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import structlog
from aiohttp import WSCloseCode

from coterie_protocol.errors import CoterieError, ErrorCode, FrameError, Unavailable
from coterie_protocol.identifiers import Uid
from coterie_protocol.nodes import NodeRef, PeerHello

from ..http.origins import source_of
from ..runtime.dispatch import Dispatcher, TaskGroup
from ..runtime.ports import Clock, Tasks
from ..telling import tell
from . import handshake
from .address_book import MOST, Book, seen_at
from .dialler import Dialler, Met, seen_from
from .heartbeat import Pulse
from .lines import Lines
from .link import GOODBYE, Link
from .listener import Listener
from .questions import Questions
from .reconnect import Redial
from .settings import PeerSettings
from .wire import Wire, WireClosed

log = structlog.get_logger()


class Links:
    """Implements `ports.Peers`. Use `await start(host, port)` and `await close()`.

    `hello` is asked at every handshake, so that it always says what the node is by then. `notice` is told this
    node's own address on each connection with a peer, before its hello is sent on it. `dispatcher` takes what peers
    send; their requests run in `tasks`. This room answers Ping and WhoIs and takes Refs itself.
    """

    def __init__(
        self,
        hello: Callable[[], PeerHello],
        dispatcher: Dispatcher,
        clock: Clock,
        tasks: Tasks,
        settings: PeerSettings | None = None,
        notice: Callable[[str], None] | None = None,
    ) -> None:
        self.book = Book()
        self._hello = hello
        self._dispatcher = dispatcher
        self._clock = clock
        self._tasks = tasks
        self._settings = settings or PeerSettings()
        self._me = hello().node.uid
        self._started = clock.now()
        self._links: dict[Uid, Link] = {}
        self._down: dict[Uid, float] = {}
        self._watchers: list[Callable[[Uid, bool], None]] = []
        self._foreign: list[Callable[[PeerHello], None]] = []
        self._waiting: dict[Uid, set[asyncio.Future[Link]]] = {}
        self._dialling: set[Uid] = set()
        self._greeted: Counter[Uid] = Counter()
        self._closing = False
        self.failures = 0
        """Links lost since the start, for metrics: broken, silent, or ended by a peer that stopped."""
        self._lines = Lines()
        self._own = TaskGroup()
        self._notice = notice or (lambda _: None)
        self._dialler = Dialler(hello, self._settings, self._notice)
        self._listener = Listener(self._serve, self._settings)
        self._redial = Redial(self, self._own, self._settings)
        self._pulse = Pulse(self._links, self.book, clock, self._settings)
        Questions(dispatcher, lambda: hello().node, self.book, self.learn)

    # --- Beginning and end ---

    async def start(self, host: str, port: int) -> int:
        """Listen for peers; return the port, which the system chose when it was 0. Raises ListenError."""
        port = await self._listener.start(host, port)
        self._started = self._clock.now()
        self._own.keep(self._pulse.run, "peer heartbeats")
        return port

    async def close(self) -> None:
        """Take no more connections, write what is queued, say goodbye to all peers. Nobody is told of these ends."""
        self._closing = True
        self._redial.close()
        await self._listener.stop()
        await asyncio.gather(*(link.close("the node is stopping") for link in list(self._links.values())))
        for uid in list(self._waiting):
            self._give_up(uid, Unavailable("this node is stopping"))
        await self._own.close()
        await self._listener.close()
        await self._dialler.close()
        self._lines.tell()
        self.book.tell()

    # --- What is known ---

    @property
    def me(self) -> Uid:
        """Return this node's uid."""
        return self._me

    def alive(self, uid: Uid) -> bool:
        """Say whether a link stands; one that has been silent for too long is cut."""
        return uid in self._links

    def down_since(self, uid: Uid) -> float | None:
        """Return since when a node is not alive; None while it is. Never heard of: since the start."""
        return None if uid in self._links else self._down.get(uid, self._started)

    def learn(self, refs: Iterable[NodeRef]) -> None:
        """Remember where nodes are; wanted ones that are somewhere new are dialled there at once."""
        for uid in self.book.learn(ref for ref in refs if ref.uid != self._me):
            self._redial.hurry(uid)

    def _meet_ref(self, ref: NodeRef) -> None:
        """Remember what a node has said of itself."""
        if ref.uid != self._me:
            for uid in self.book.meet(ref):
                self._redial.hurry(uid)

    def ref(self, uid: Uid) -> NodeRef | None:
        """Return what is known of where a node is."""
        return self.book.get(uid)

    def hello_of(self, uid: Uid) -> PeerHello | None:
        """Return what a linked peer said when the link was made."""
        link = self._links.get(uid)
        return None if link is None else link.hello

    def linked(self) -> list[Uid]:
        """Return everybody who is alive."""
        return list(self._links)

    def watch(self, callback: Callable[[Uid, bool], None]) -> None:
        """Call back with (uid, alive) at each change."""
        self._watchers.append(callback)

    def watch_foreign(self, callback: Callable[[PeerHello], None]) -> None:
        """Call back with the hello of a node of another ring that was met and refused, by either side."""
        self._foreign.append(callback)

    # --- What is asked for ---

    def want(self, uids: Iterable[Uid]) -> None:
        """Try to have and keep a link to each of these (in the background)."""
        for uid in uids:
            if uid != self._me:
                self._redial.want(uid)

    def send(self, uid: Uid, message: Any, *, bulk: bool = False) -> bool:
        """Queue an event; False when there is no link, or no frame can carry it: that is said in the log.

        It raises nothing, for its callers tell many peers one after the other.
        """
        link = self._links.get(uid)
        if link is None:
            return False
        try:
            return link.send(message, bulk=bulk)
        except CoterieError as error:
            log.error("an event cannot be sent", kind=type(message).__name__, to=self._name(uid), reason=error.detail)
            return False

    async def request(self, uid: Uid, message: Any, timeout: float, *, bulk: bool = False) -> Any:
        """Ask, and return the answer; opens a link when there is none, for at most the same time.

        Raises Unavailable when there is no link or no answer in time (it may still have been done), and the
        CoterieError that the peer answered.
        """
        link = self._links.get(uid)
        if link is None:
            loop = asyncio.get_running_loop()
            deadline = loop.time() + timeout
            link = await self.open(uid, timeout)
            timeout = max(deadline - loop.time(), 0.0)
        return await link.request(message, timeout, bulk=bulk)

    async def open(self, uid: Uid, timeout: float) -> Link:
        """Return the link to a node, dialling it by the book when there is none. Who asks meanwhile shares the dial.

        Raises Unavailable, or Refused.
        """
        if (link := self._links.get(uid)) is not None:
            return link
        self._check_open()
        if uid not in self._dialling:
            ref = self.book.get(uid)
            if ref is None:
                raise Unavailable(f"nobody has said where the node {uid} is")
            self._dialling.add(uid)
            self._own.start(self._dial(ref), f"dial {ref.name or uid}")
        return await self._wait(uid, timeout)

    async def contact(self, host: str, port: int, timeout: float) -> NodeRef:
        """Open a link to an address and return who answered there. Raises Unavailable, or Refused."""
        hello = await self.greet(host, port, timeout)
        if not handshake.belong(self._hello(), hello):
            raise Unavailable(f"{hello.node.name or hello.node.uid} at {host}:{port}, or this node, is in no ring yet")
        return hello.node

    async def greet(self, host: str, port: int, timeout: float) -> PeerHello:
        """Open a link to an address and return the hello of who answered there; no link while one is in no ring yet.

        Raises Unavailable (SelfContact: the address is this node's own and can be given up), or Refused.
        """
        self._check_open()
        deadline = asyncio.get_running_loop().time() + timeout
        met = await self._meet(host, port, timeout)
        if not handshake.belong(self._hello(), met.hello):
            met.wire.drop()
        elif not await self._settle(met):
            await self._wait(met.hello.node.uid, max(deadline - asyncio.get_running_loop().time(), 0.0))
        return met.hello

    async def probe(self, ref: NodeRef, timeout: float) -> bool:
        """Confirm over a fresh connection whether a node lives (and is still this uid)."""
        held = self.book.get(ref.uid)
        at = ref if held is None else seen_at(ref, held.host)  # what a node says of itself may name no host
        try:
            met = await self._dialler.meet(at.host, at.peer_port, timeout, probe=True)
        except CoterieError as error:
            hello = getattr(error, "hello", None)  # a node that refuses us lives
            return hello is not None and hello.node.uid == ref.uid
        met.wire.drop()
        self._meet_ref(met.hello.node)
        return met.hello.node.uid == ref.uid

    def ring_changed(self) -> None:
        """Cut the links that do not fit what the node is by now; to be called when its ring uid has changed.

        A link made by two nodes without a ring says nothing of the ring that the other has joined since.
        """
        mine = self._hello()
        for link in list(self._links.values()):
            if link.hello.ring_uid != mine.ring_uid or handshake.check(mine, link.hello) is not None:
                link.end("this node has joined a ring")

    # --- Dialling ---

    async def _dial(self, ref: NodeRef) -> None:
        uid = ref.uid
        wait = False
        try:
            met = await self._meet(ref.host, ref.peer_port, self._settings.dial_timeout)
            if met.hello.node.uid != uid:
                met.wire.drop()
                raise Unavailable(f"{ref.address} is not the node {ref.name or uid} any more")
            if not handshake.belong(self._hello(), met.hello):
                met.wire.drop()
                raise Unavailable(f"{ref.name or uid} at {ref.address} is in no ring yet")
            wait = not await self._settle(met)
        except CoterieError as error:
            self.book.doubt(ref)
            self._give_up(uid, error)
        finally:
            if wait:
                await self._expect(uid)
            self._dialling.discard(uid)
            self._give_up(uid, Unavailable(f"{ref.name or uid} at {ref.address} cannot be reached"))

    async def _expect(self, uid: Uid) -> None:
        """Give a link that the other end is making the time to stand."""
        try:
            await self._wait(uid, self._settings.dial_timeout)
        except Unavailable as error:
            self._give_up(uid, error)

    async def _meet(self, host: str, port: int, timeout: float) -> Met:
        try:
            met = await self._dialler.meet(host, port, timeout)
        except CoterieError as error:
            if (hello := getattr(error, "hello", None)) is not None and error.wire_code is ErrorCode.WRONG_RING:
                self._met_foreign(hello)
            raise
        self._meet_ref(met.hello.node)
        return met

    async def _settle(self, met: Met) -> bool:
        """Make a link of a connection that was dialled, unless one stands; False when the other end is making one."""
        uid = met.hello.node.uid
        held = self._links.get(uid)
        if held is not None and held.hello.boot == met.hello.boot:
            await met.wire.close(GOODBYE)
            return True
        if met.busy or (self._greeted[uid] and uid < self._me) or self._closing:
            await met.wire.close(GOODBYE)
            return uid in self._links
        link = self._stand(met.wire, met.hello, dialled=True)
        self._own.start(link.run(), f"link to {met.hello.node.name or uid}")
        return True

    async def _wait(self, uid: Uid, timeout: float) -> Link:
        if (link := self._links.get(uid)) is not None:
            return link
        future: asyncio.Future[Link] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(uid, set()).add(future)
        try:
            async with asyncio.timeout(timeout):
                return await future
        except TimeoutError:
            raise Unavailable(f"no link to {self._name(uid)} within {timeout:g} s") from None
        finally:
            if (waiting := self._waiting.get(uid)) is not None:
                waiting.discard(future)
                if not waiting:
                    del self._waiting[uid]

    def _give_up(self, uid: Uid, error: CoterieError) -> None:
        for future in self._waiting.pop(uid, ()):
            if not future.done():
                future.set_exception(error)

    # --- Accepting ---

    async def _serve(self, wire: Wire, host: str) -> None:
        """Take a connection from its first message to its end."""
        try:
            async with asyncio.timeout(self._settings.dial_timeout):
                hello, _ = handshake.read(await wire.receive())
            hello = seen_from(hello, host)
            if not await self._admit(wire, hello, source_of(host)):
                await wire.close(GOODBYE, WSCloseCode.POLICY_VIOLATION)
                return
            uid = hello.node.uid
            self._greeted[uid] += 1
            try:
                async with asyncio.timeout(self._settings.dial_timeout):
                    first = await wire.receive()
            finally:
                self._greeted[uid] -= 1
                if not self._greeted[uid]:
                    del self._greeted[uid]
        except FrameError as error:
            self._lines.broke(source_of(host), why=error.detail)
            await wire.close(GOODBYE, WSCloseCode.PROTOCOL_ERROR, error.detail)
        except (TimeoutError, WireClosed, ConnectionError):
            wire.drop()
        else:
            if self._closing:
                wire.drop()
            else:
                await self._stand(wire, hello, dialled=False).run(first)

    async def _admit(self, wire: Wire, hello: PeerHello, source: str) -> bool:
        """Answer a hello; say whether it may become a link."""
        mine = self._hello()
        if hello.probe:
            await wire.send(handshake.answer(mine))
            return False
        refusal: CoterieError | None = None
        if hello.node.uid == self._me:
            if hello.boot != mine.boot:
                refusal = handshake.twin(hello)
                self._lines.twin(source, why=refusal.detail)
        elif (refusal := handshake.check(mine, hello)) is not None:
            if refusal.wire_code is ErrorCode.WRONG_RING:
                self._met_foreign(hello)
            self._lines.refused(source, why=refusal.detail)
        elif not handshake.belong(mine, hello):
            await wire.send(handshake.answer(mine))
            return False
        elif self._just_made(hello):
            refusal = CoterieError("another link was just made", code=ErrorCode.BUSY)
        else:
            self._meet_ref(hello.node)
            self._notice(wire.local)
            await wire.send(handshake.answer(self._hello()))
            return not self._closing
        await wire.send(handshake.answer(mine, refusal))
        return False

    def _just_made(self, hello: PeerHello) -> bool:
        """Say whether this node has just dialled that one: its own dial has crossed ours on the way."""
        held = self._links.get(hello.node.uid)
        return (
            held is not None
            and held.dialled
            and held.hello.boot == hello.boot
            and self._clock.now() - held.since < self._settings.dial_timeout
        )

    # --- Up and down ---

    def _stand(self, wire: Wire, hello: PeerHello, *, dialled: bool) -> Link:
        uid = hello.node.uid
        if (held := self._links.get(uid)) is not None:
            held.end("the peer has started anew" if held.hello.boot != hello.boot else "the peer made a new one")
        link = Link(
            wire,
            hello,
            dialled=dialled,
            since=self._clock.now(),
            dispatcher=self._dispatcher,
            tasks=self._tasks,
            settings=self._settings,
            lost=self._lost,
            lines=self._lines,
        )
        self._links[uid] = link
        self._down.pop(uid, None)
        link.start()
        log.info("link up", peer=hello.node.name or uid, at=hello.node.address)
        for future in self._waiting.pop(uid, ()):
            if not future.done():
                future.set_result(link)
        self._tell(uid, True)
        return link

    def _lost(self, link: Link, reason: str) -> None:
        uid = link.uid
        if self._links.get(uid) is not link:
            return
        del self._links[uid]
        self._down[uid] = self._clock.now()
        if len(self._down) > MOST:
            del self._down[next(iter(self._down))]
        if self._closing:
            return
        self.failures += 1
        log.info("link down", peer=link.hello.node.name or uid, why=reason)
        self._redial.lost(uid)
        self._tell(uid, False)

    def _tell(self, uid: Uid, alive: bool) -> None:
        tell(self._watchers, uid, alive)

    def _met_foreign(self, hello: PeerHello) -> None:
        tell(self._foreign, hello)

    def _check_open(self) -> None:
        if self._closing:
            raise Unavailable("this node is stopping")

    def _name(self, uid: Uid) -> str:
        ref = self.book.get(uid)
        return uid if ref is None else f"{ref.name or uid} at {ref.address}"
