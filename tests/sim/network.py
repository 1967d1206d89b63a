"""A network in virtual time: it delays, drops, duplicates, reorders and partitions; scripts can hold messages back.

Messages are really encoded and decoded as frames, so nodes share no objects. Each running node has one `SimPeers`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from contextvars import Context
from typing import TYPE_CHECKING, Any

from tests.sim.loop import sim_loop
from tests.sim.wire import Envelope, Predicate, Tap, Weather

from coterie_protocol.client_api import MAX_PEER_FRAME_BYTES
from coterie_protocol.frames import PeerFrame, encode
from coterie_protocol.identifiers import Uid
from coterie_protocol.nodes import NodeRef

if TYPE_CHECKING:
    from tests.sim.peers import SimPeers

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
        assert len(data) <= MAX_PEER_FRAME_BYTES, f"{type(body).__name__} of {len(data)} bytes: no node would take it"
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


def _pair(one: Uid, two: Uid) -> tuple[Uid, Uid]:
    return (one, two) if one < two else (two, one)
