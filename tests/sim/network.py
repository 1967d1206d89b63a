"""A network in virtual time: it delays, drops, duplicates, reorders and partitions; scripts can hold messages back.

Messages are really encoded and decoded as frames, so nodes share no objects. Each running node has one `SimPeers`
(`ports.Peers`); requests and events reach the node's real `Dispatcher`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from contextvars import Context
from typing import Any

from tests.sim.clocks import SimClock
from tests.sim.loop import OWNER, sim_loop
from tests.sim.wire import Envelope, Predicate, Tap, Weather, message

from coterie_node.replication.dispatch import Dispatcher
from coterie_protocol.errors import CoterieError, Unavailable
from coterie_protocol.frames import PeerError, PeerFrame, decode_peer, encode, exception_of, peer_error_of
from coterie_protocol.identifiers import Uid
from coterie_protocol.nodes import NodeRef

__all__ = ["Envelope", "Predicate", "SimClock", "SimNetwork", "SimPeers", "Tap", "Weather", "message"]

RESET_NOTICED = 0.02
"""Seconds until the other end of a link learns that a process has died (a reset connection)."""
SILENCE_NOTICED = 1.0
"""Seconds until a silent peer, frozen or partitioned, counts as dead."""
CONNECTED = 0.03
"""Seconds until a link stands (again)."""


class SimNetwork:
    """The wires between all nodes of a world."""

    def __init__(self, weather: Weather | None = None) -> None:
        self._loop = sim_loop()
        self.weather = weather or Weather()
        self.running: dict[Uid, SimPeers] = {}
        self.refs: dict[Uid, NodeRef] = {}
        self.taps: list[Tap] = []
        self.counts: Counter[str] = Counter()
        self._links: set[tuple[Uid, Uid]] = set()
        self._cuts: set[tuple[Uid, Uid]] = set()
        self._frozen: dict[Uid, list[Callable[[], None]]] = {}
        self._thawed = asyncio.Event()
        self._number = 0
        self._requests = 0
        self._last: dict[tuple[Uid, Uid], float] = {}
        self._quiet = Context()
        self._link: Counter[tuple[Uid, Uid]] = Counter()
        """How many connections between two nodes have broken."""
        self._broken: set[tuple[Uid, Uid]] = set()
        """Pairs whose last connection has broken, and that have no new one yet."""
        self._held: dict[tuple[Uid, Uid], list[Envelope]] = {}
        """What a cut holds up."""

    # --- what a scenario does to it ---

    def hold(self, matches: Predicate) -> Tap:
        """Keep matching messages back."""
        tap = Tap(self, matches, keep=True)
        self.taps.append(tap)
        return tap

    def drop(self, matches: Predicate) -> Tap:
        """Lose matching messages."""
        tap = Tap(self, matches, keep=False)
        self.taps.append(tap)
        return tap

    def cut(self, sender: Uid, to: Uid) -> None:
        """Lose everything one way."""
        self._cuts.add((sender, to))
        self._look()

    def partition(self, *sides: Iterable[Uid]) -> None:
        """Lose everything between nodes of different sides, both ways; heals what was cut before."""
        groups = [set(side) for side in sides]
        self._cuts = {(a, b) for one in groups for two in groups if one is not two for a in one for b in two if a != b}
        self._let_through()
        self._look()

    def heal(self) -> None:
        """Let everything through again."""
        self._cuts.clear()
        self._let_through()
        self._look()

    def _let_through(self) -> None:
        for pair in [pair for pair in self._held if pair not in self._cuts]:
            for envelope in self._held.pop(pair):
                self.arrive(envelope)

    def freeze(self, uid: Uid) -> None:
        """Stop a process: it takes nothing, sends nothing and sleeps on, but keeps its connections."""
        self._frozen.setdefault(uid, [])
        self._look()

    def thaw(self, uid: Uid) -> None:
        """Let a frozen process go on with all that had reached it."""
        waiting = self._frozen.pop(uid, [])
        for action in waiting:
            action()
        for other in [other for pair in self._broken if uid in pair for other in pair if other != uid]:
            if uid in self.running:
                self.running[uid].lost(other)
        self._thawed.set()
        self._look()

    def frozen(self, uid: Uid) -> bool:
        """Say whether a process is frozen."""
        return uid in self._frozen

    def when_awake(self, uid: Uid, action: Callable[[], None]) -> None:
        """Do something now, or when a frozen process thaws; never if it dies before."""
        if uid in self._frozen:
            self._frozen[uid].append(action)
        else:
            action()

    async def while_frozen(self, uid: Uid) -> None:
        """Wait until a process is not frozen."""
        while uid in self._frozen:
            self._thawed.clear()
            await self._thawed.wait()

    # --- processes ---

    def start(self, peers: SimPeers) -> None:
        """Put a process on the network."""
        self.running[peers.me] = peers
        self._look()

    def stop(self, peers: SimPeers) -> None:
        """Take a process off: its connections break, what was on its way to it is lost."""
        if self.running.get(peers.me) is peers:
            for uid in peers.views():
                self._cut_off(peers.me, uid)
            del self.running[peers.me]
            self._frozen.pop(peers.me, None)
            for other in list(self.running.values()):
                if self.linked(peers.me, other.me):
                    self.later(RESET_NOTICED, other.lost, peers.me)
        self._look()

    def linked(self, one: Uid, two: Uid) -> bool:
        """Say whether either end wants a link."""
        return (one, two) in self._links or (two, one) in self._links

    def link(self, one: Uid, two: Uid) -> None:
        """Begin to keep a link."""
        if not self.linked(one, two):
            self._links.add((one, two))
            self._look()

    def hears(self, one: Uid, two: Uid) -> bool:
        """Say whether heartbeats of `two` reach `one`."""
        return two in self.running and two not in self._frozen and (two, one) not in self._cuts

    def reachable(self, one: Uid, two: Uid) -> bool:
        """Say whether a connection could be made."""
        return self.hears(one, two) and (one, two) not in self._cuts

    def _look(self) -> None:
        """Have every process notice, in its time, whom it no longer or newly hears."""
        for peers in list(self.running.values()):
            for uid in sorted(self.running.keys() | peers.views()):
                if uid == peers.me or not self.linked(peers.me, uid):
                    continue
                hears = self.hears(peers.me, uid)
                if hears != peers.alive(uid):
                    self.later(CONNECTED if hears else SILENCE_NOTICED, self._notice, peers, uid, hears)

    def _notice(self, peers: SimPeers, uid: Uid, hears: bool) -> None:
        # A link is made by two: it needs both ways. A link that stands notices only what it no longer hears.
        if self.hears(peers.me, uid) is hears and (not hears or self.reachable(peers.me, uid)):
            if hears:
                self.connected(peers.me, uid)
            elif self.weather.streams and uid in self.running:
                self._break(peers.me, uid)
            peers.notice(uid, hears)

    # --- connections ---

    def connected(self, one: Uid, two: Uid) -> None:
        """Note that two nodes have a connection. Who had not noticed yet that the last one broke, does so now."""
        pair = _pair(one, two)
        if pair in self._broken:
            for me, other in ((one, two), (two, one)):
                self._lost(me, other)
            self._broken.discard(pair)

    def _cut_off(self, one: Uid, two: Uid) -> None:
        pair = _pair(one, two)
        if pair not in self._broken:
            self._broken.add(pair)
            self._link[pair] += 1

    def _break(self, one: Uid, two: Uid) -> None:
        """Break a connection: what is on its way is gone, and both ends hear of it, a frozen one when it thaws."""
        self._cut_off(one, two)
        for me, other in ((one, two), (two, one)):
            if me not in self._frozen:
                self.later(RESET_NOTICED, self._lost, me, other)

    def _lost(self, me: Uid, other: Uid) -> None:
        if me in self.running and _pair(me, other) in self._broken and me not in self._frozen:
            self.running[me].lost(other)

    def later(self, delay: float, action: Callable[..., None], *args: Any) -> None:
        """Do something later, as nobody's work."""
        self._loop.call_later(delay, action, *args, context=self._quiet)

    # --- messages ---

    def next_request(self) -> int:
        """Return a number that no process ever used: an answer never reaches a later process of the same node."""
        self._requests += 1
        return self._requests

    def transmit(self, sender: Uid, to: Uid, frame: int, body: Any, asked: Any = None) -> None:
        """Send a message on its way."""
        self._number += 1
        data = encode([PeerFrame(frame, body)])
        envelope = Envelope(self._number, sender, to, frame, body, asked, data, self._link[_pair(sender, to)])
        if sender in self._frozen:
            self._frozen[sender].append(lambda: self._post(envelope))
        else:
            self._post(envelope)

    def _post(self, envelope: Envelope) -> None:
        self.counts[type(envelope.body).__name__] += 1
        if any(tap.takes(envelope) for tap in list(self.taps)):
            return
        weather, rng = self.weather, self._loop.rng
        if weather.streams:
            self._stream(envelope, weather)
            return
        copies = 1
        if weather.loss and rng.random() < weather.loss:
            copies = 0
        if weather.duplication and rng.random() < weather.duplication:
            copies += 1
        for _ in range(copies):
            delay = rng.uniform(*weather.delay)
            if weather.late and rng.random() < weather.late:
                delay += rng.random()
            due = self._loop.time() + delay
            if weather.fifo:
                pair = (envelope.sender, envelope.to)
                due = self._last[pair] = max(due, self._last.get(pair, 0.0) + 1e-7)
            self._loop.call_at(due, self.arrive, envelope, context=self._quiet)

    def _stream(self, envelope: Envelope, weather: Weather) -> None:
        """Send a message on the connection between two nodes."""
        pair, rng = (envelope.sender, envelope.to), self._loop.rng
        if self._gone(envelope):
            return
        if weather.loss and rng.random() < weather.loss:
            self._break(*pair)
            return
        delay = rng.uniform(*weather.delay)
        if weather.late and rng.random() < weather.late:
            delay += rng.random()
        due = self._last[pair] = max(self._loop.time() + delay, self._last.get(pair, 0.0) + 1e-7)
        self._loop.call_at(due, self.arrive, envelope, context=self._quiet)

    def _gone(self, envelope: Envelope) -> bool:
        """Say whether the connection that a message was given to is no more."""
        pair = _pair(envelope.sender, envelope.to)
        return self.weather.streams and (pair in self._broken or self._link[pair] != envelope.link)

    def arrive(self, envelope: Envelope) -> None:
        """Hand a message to its receiver, if it is there to take it."""
        if self._gone(envelope):
            return
        if (envelope.sender, envelope.to) in self._cuts:
            if self.weather.streams:
                self._held.setdefault((envelope.sender, envelope.to), []).append(envelope)
            return
        if envelope.to in self._frozen:
            # What has reached its machine is read when it goes on, even if the connection has broken since.
            self._frozen[envelope.to].append(lambda: self._hand_over(envelope))
            return
        self._hand_over(envelope)

    def _hand_over(self, envelope: Envelope) -> None:
        peers = self.running.get(envelope.to)
        if peers is not None:
            peers.receive(envelope)


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
        (frame,) = decode_peer(envelope.data)
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


def _pair(one: Uid, two: Uid) -> tuple[Uid, Uid]:
    return (one, two) if one < two else (two, one)


def process_context(owner: object) -> Context:
    """Return the context in which all work of a process runs."""
    context = Context()
    context.run(OWNER.set, owner)
    return context
