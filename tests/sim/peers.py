"""One process on the simulated network: `ports.Peers`, whose messages reach the node's real `Dispatcher`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextvars import Context
from typing import Any

from tests.sim.clocks import SimClock
from tests.sim.loop import OWNER, sim_loop
from tests.sim.network import CONNECTED, SimNetwork
from tests.sim.wire import Envelope

from coterie_node.runtime.dispatch import Dispatcher
from coterie_protocol.errors import CoterieError, FrameError, Unavailable
from coterie_protocol.frames import PeerError, decode_peer, exception_of, peer_error_of
from coterie_protocol.identifiers import Uid
from coterie_protocol.nodes import NodeRef
from coterie_protocol.replication import Offer


def _not_understood(number: int, why: str) -> None:
    raise FrameError(f"frame {number} is not understood: {why}")


class SimPeers:
    """`ports.Peers` of one process."""

    def __init__(self, network: SimNetwork, me: Uid, dispatcher: Dispatcher, context: Context, clock: SimClock) -> None:
        self._network = network
        self._me = me
        self._dispatcher = dispatcher
        self._context = context
        self._clock = clock
        self._loop = sim_loop()
        self._started = clock.now()
        self._alive: set[Uid] = set()
        self._standing: set[Uid] = set()
        """With whom a connection stands, silent ones included."""
        self._down: dict[Uid, float] = {}
        self._watchers: list[Callable[[Uid, bool], None]] = []
        self._pending: dict[int, tuple[Uid, asyncio.Future[Any], Any]] = {}
        self._dead = False

    @property
    def me(self) -> Uid:
        """Return this node's uid."""
        return self._me

    def kill(self) -> None:
        """Let the process do nothing more."""
        self._dead = True

    def views(self) -> set[Uid]:
        """Return whom this process takes for alive."""
        return set(self._alive)

    def alive(self, uid: Uid) -> bool:
        """Say whether a link stands and was heard of lately."""
        return uid in self._alive

    def down_since(self, uid: Uid) -> float | None:
        """Return since when a node is not alive; None while it is."""
        return None if uid in self._alive else self._down.get(uid, self._started)

    def learn(self, refs: Iterable[NodeRef]) -> None:
        """Remember where nodes are."""
        for ref in refs:
            held = self._network.refs.get(ref.uid)
            if held is None or ref.incarnation > held.incarnation:
                self._network.refs[ref.uid] = ref

    def ref(self, uid: Uid) -> NodeRef | None:
        """Return what is known of where a node is."""
        return self._network.refs.get(uid)

    def want(self, uids: Iterable[Uid]) -> None:
        """Keep links to these."""
        for uid in uids:
            if uid != self._me and not self._dead:
                self._network.link(self._me, uid)

    def watch(self, callback: Callable[[Uid, bool], None]) -> None:
        """Call back with (uid, alive) at each change."""
        self._watchers.append(callback)

    def lost(self, uid: Uid) -> None:
        """Notice a broken connection."""
        self._standing.discard(uid)
        self.notice(uid, False)
        self._network._look()

    def notice(self, uid: Uid, alive: bool) -> None:
        """Change what this process thinks of another."""
        if self._dead or alive is (uid in self._alive):
            return
        if alive:
            self._alive.add(uid)
            self._standing.add(uid)
            self._down.pop(uid, None)
        else:
            self._alive.discard(uid)
            self._down[uid] = self._clock.now()
            for _, (asked, future, _) in sorted(self._pending.items()):
                if asked == uid and not future.done():
                    future.set_exception(Unavailable(f"the link to {uid} was lost"))
        for callback in self._watchers:
            self._context.copy().run(callback, uid, alive)

    def send(self, uid: Uid, message: Any, *, bulk: bool = False) -> bool:
        """Queue an event; False when there is no link. A silent peer's link stands: what it is sent may be lost."""
        assert uid != self._me, "a node's own uid is never passed to its peers"
        if self._dead or uid not in self._standing:
            return False
        self._network.transmit(self._me, uid, 0, message)
        return True

    async def request(self, uid: Uid, message: Any, timeout: float, *, bulk: bool = False) -> Any:
        """Ask, and return the answer. Raises Unavailable, or what the peer answered."""
        assert uid != self._me, "a node's own uid is never passed to its peers"
        self._check()
        if uid not in self._alive:
            await self._connect(uid, timeout)
        if isinstance(message, Offer) and (backlog := self._network.weather.backlog):
            await asyncio.sleep(self._loop.rng.uniform(0.0, backlog))
            self._check()
        number = self._network.next_request()
        future: asyncio.Future[Any] = self._loop.create_future()
        self._pending[number] = (uid, future, message)
        alarm = self._loop.call_later(timeout, self._expire, number)
        self._network.transmit(self._me, uid, number, message)
        try:
            return await future
        finally:
            alarm.cancel()
            del self._pending[number]
            self._check()

    async def _connect(self, uid: Uid, timeout: float) -> None:
        self._network.link(self._me, uid)
        refused = uid not in self._network.running
        reachable = self._network.reachable(self._me, uid)
        await asyncio.sleep(min(timeout, CONNECTED / 10 if reachable or refused else timeout))
        self._check()
        if not self._network.reachable(self._me, uid):
            raise Unavailable(f"no link to {uid}")
        self._network.connected(self._me, uid)
        self.notice(uid, True)

    def _check(self) -> None:
        if self._dead:
            raise asyncio.CancelledError("the process has died")

    def _expire(self, number: int) -> None:
        uid, future, message = self._pending[number]
        if not future.done():
            future.set_exception(Unavailable(f"{uid} did not answer {type(message).__name__}"))

    async def contact(self, host: str, port: int, timeout: float) -> NodeRef:
        """Open a link to an address and return who answered there."""
        ref = next((r for r in self._network.refs.values() if (r.host, r.peer_port) == (host, port)), None)
        if ref is None:
            raise Unavailable(f"nobody listens at {host}:{port}")
        await self._connect(ref.uid, timeout)
        return ref

    async def probe(self, ref: NodeRef, timeout: float) -> bool:
        """Confirm over a fresh connection whether a node lives."""
        await asyncio.sleep(min(timeout, CONNECTED / 10))
        return self._network.reachable(self._me, ref.uid)

    # --- what the network calls ---

    def receive(self, envelope: Envelope) -> None:
        """Take a message off the wire."""
        if self._dead:
            return
        (frame,) = decode_peer(envelope.data, _not_understood)
        context = self._context.copy()
        if envelope.frame > 0:
            work = self._serve(envelope, frame.body)
            self._loop.create_task(work, name=f"{self._me} answers {type(frame.body).__name__}", context=context)
        elif envelope.frame < 0:
            held = self._pending.get(-envelope.frame)
            if held is not None and not held[1].done():
                if isinstance(frame.body, PeerError):
                    held[1].set_exception(exception_of(frame.body))
                else:
                    held[1].set_result(frame.body)
        else:
            context.run(self._dispatcher.event, envelope.sender, frame.body)

    async def _serve(self, envelope: Envelope, body: Any) -> None:
        answer: Any
        try:
            answer = await self._dispatcher.request(envelope.sender, body)
        except CoterieError as error:
            answer = peer_error_of(error)
        if not self._dead:
            self._network.transmit(self._me, envelope.sender, -envelope.frame, answer, envelope.body)


def process_context(owner: object) -> Context:
    """Return the context in which all work of a process runs."""
    context = Context()
    context.run(OWNER.set, owner)
    return context
