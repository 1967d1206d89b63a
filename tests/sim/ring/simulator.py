"""Many rings on one heap of events: no asyncio, no sockets, one seed."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from tests.sim.ring.invariant import Invariant

from coterie_node.ring import (
    Answer,
    Ask,
    Changed,
    Confirm,
    Effect,
    Hop,
    Joined,
    Moved,
    Owner,
    Persist,
    Resolve,
    Ring,
    RingSettings,
    Send,
    StartTimer,
    Timer,
)
from coterie_protocol.identifiers import Uid
from coterie_protocol.nodes import NodeRef

Event = tuple[float, int, Callable[[], None]]
"""When, and what; the number in between gives events of one moment their order."""


@dataclass
class Node:
    """A process and its disk (`position`)."""

    name: str
    uid: str
    number: int
    position: int = -1
    ring: Ring | None = None
    boot: int = 0
    timers: dict[Timer, int] = field(default_factory=dict)


@dataclass
class Network:
    """Delays in seconds; `loss` is the share of messages that vanish (a request or its answer counts singly)."""

    shortest: float = 0.001
    longest: float = 0.010
    loss: float = 0.0
    detect: float = 0.3
    """How long a broken link takes to be noticed by those who have one."""


class Simulator:
    """Carries out the effects of many rings. Everything random comes from one seed."""

    def __init__(
        self,
        seed: int,
        settings: RingSettings,
        slots: int = 1024,
        replication_factor: int = 3,
        network: Network | None = None,
        check: bool = True,
    ) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.settings = settings
        self.slots = slots
        self.replication_factor = replication_factor
        self.network = network or Network()
        self.now = 0.0
        self.nodes: dict[str, Node] = {}
        self.by_uid: dict[str, Node] = {}
        self.groups: dict[str, int] = {}
        """By uid: which side of a partition a node is on (all on side 0)."""
        self.steps = 0
        self.invariant = (
            Invariant(
                slots,
                max(settings.successors, replication_factor),
                travel=self.network.longest,
                standing=8 * settings.stabilize,
            )
            if check
            else None
        )
        self._heap: list[Event] = []
        self._timeouts: deque[Event] = deque()
        """Those of questions, in order of their times by themselves: most find the answer there, and only wait."""
        self._sequence = 0
        self._whole_at = 1.0
        self._watching: dict[str, dict[str, None]] = {}
        self._numbered: list[Node] = []
        self._finished: dict[tuple[str, int], Callable[[Any], None]] = {}
        """By uid and token: who waits for the end of a lookup or a move."""

    # --- nodes ---

    def add(self, position: int = -1, found: bool = False, uid: str | None = None, beside: Node | None = None) -> Node:
        """Make a new node, with an empty disk or one that holds a position, and start it.

        `beside` puts it on another node's side of a partition.
        """
        node = self.enrol(position, uid)
        if beside is not None:
            self.groups[node.uid] = self.groups.get(beside.uid, 0)
        self.start(node, found)
        return node

    def enrol(self, position: int = -1, uid: str | None = None, name: str = "") -> Node:
        """Make a new node that does not run yet."""
        number = len(self.nodes) + 1
        uid = uid or f"{self.rng.getrandbits(128):032x}"
        node = Node(name or f"n{number}", uid, number, position)
        self.nodes[node.name] = self.by_uid[uid] = node
        self._numbered.append(node)
        return node

    def start(self, node: Node, found: bool = False) -> None:
        """Start a process on what its disk holds."""
        self.carry_out(node, self.boot(node).start(self.now, found))

    def boot(self, node: Node) -> Ring:
        """Give a node its ring, which is not started yet, and some addresses, as its disk and discovery would."""
        node.boot += 1
        node.timers = {}
        incarnation = 1 + int(self.now * 1000) + node.boot
        ref = NodeRef(Uid(node.uid), node.name, node.position, "127.0.0.1", 7401, 7400, 7402, incarnation)
        node.ring = Ring(ref, self.settings, self.replication_factor, self.slots, self.rng)
        self._remember(node, node.ring)
        return node.ring

    def crash(self, node: Node) -> None:
        """Kill a process. Those with a link to it notice after a while."""
        node.ring = None
        node.boot += 1
        if self.invariant is not None:
            self.invariant.crashed(node.uid)
        boot = node.boot
        for watcher in list(self._watching.get(node.uid, ())):
            self._notice(watcher, node, boot)

    def live(self) -> list[Node]:
        """Return the running nodes in the order of their positions."""
        running = [node for node in self.nodes.values() if node.ring is not None]
        return sorted(running, key=lambda node: (node.ring.me.position, node.uid) if node.ring else (0, ""))

    def partition(self, *sides: list[Node]) -> None:
        """Divide the network; nodes that are on no side stay on side 0. Without sides it is whole again."""
        self.groups = {node.uid: number for number, side in enumerate(sides, 1) for node in side}
        for uid, watchers in self._watching.items():
            for watcher in list(watchers):
                if not self._connected(uid, watcher):
                    self._notice(watcher, self.by_uid[uid], self.by_uid[uid].boot)

    def unsettle(self) -> None:
        """Circles are about to be given up for others: assert only the order of lists until `settle`."""
        if self.invariant is not None:
            self.invariant.strict = False

    def settle(self) -> None:
        """Assert the whole invariant again: all nodes are one ring."""
        if self.invariant is not None:
            self.invariant.settled()

    def lookup(self, node: Node, slot: int, timeout: float = 30.0, path: list[Hop] | None = None) -> Owner | None:
        """Look a slot up from a node and run until it is answered; the steps are appended to `path`."""
        ended: list[Owner | None] = []
        self.begin_lookup(node, slot, ended.append, path)
        self.run_until(lambda: bool(ended), timeout)
        return ended[0]

    def begin_lookup(
        self, node: Node, slot: int, then: Callable[[Owner | None], None], path: list[Hop] | None = None
    ) -> None:
        """Look a slot up from a node; `then` is never called if the node dies in the meantime."""
        assert node.ring is not None
        token, effects = node.ring.lookup(self.now, slot, path)
        self._finished[node.uid, token] = then
        self.carry_out(node, effects)

    def move(self, node: Node, position: int, timeout: float = 30.0) -> str:
        """Move a node and run until that is done; return the refusal."""
        ended: list[str] = []
        self.begin_move(node, position, ended.append)
        self.run_until(lambda: bool(ended), timeout)
        return ended[0]

    def begin_move(self, node: Node, position: int, then: Callable[[str], None]) -> None:
        """Move a node; `then` gets the refusal, and is never called if the node dies in the meantime."""
        assert node.ring is not None
        token, effects = node.ring.move(self.now, position)
        self._finished[node.uid, token] = then
        self.carry_out(node, effects)

    def leave(self, node: Node, leaving: bool = True) -> None:
        """Have a node ask to leave, or take it back."""
        assert node.ring is not None
        self.carry_out(node, node.ring.leave(self.now, leaving))

    # --- time ---

    def run(self, seconds: float) -> None:
        """Run for so many simulated seconds."""
        end = self.now + seconds
        heap, timeouts, invariant = self._heap, self._timeouts, self.invariant
        while heap or timeouts:
            if timeouts and (not heap or timeouts[0] < heap[0]):
                if timeouts[0][0] > end:
                    break
                self.now, _, event = timeouts.popleft()
            else:
                if heap[0][0] > end:
                    break
                self.now, _, event = heapq.heappop(heap)
            self.steps += 1
            if invariant is None:
                event()
                continue
            invariant.now = self.now
            event()
            if self.now >= self._whole_at:
                self._whole_at = float(int(self.now) + 1)
                try:
                    invariant.whole()
                except AssertionError as error:
                    raise self._failure(error) from None
        self.now = end

    def run_until(self, condition: Callable[[], bool], timeout: float, every: float = 0.01) -> float:
        """Run until a condition holds; return how long that took. Raises AssertionError when it takes too long."""
        start = self.now
        while not condition():
            if self.now > start + timeout:
                raise AssertionError(f"seed {self.seed}: not within {timeout} s\n{self.drawing()}")
            self.run(every)
        return self.now - start

    def _failure(self, error: AssertionError) -> AssertionError:
        where = f"seed {self.seed}, t={self.now:.3f} s, step {self.steps}"
        return AssertionError(f"{where}: {error}\n{self.drawing() if len(self.nodes) <= 40 else ''}")

    def after(self, seconds: float, event: Callable[[], None]) -> None:
        """Have something happen later."""
        self._sequence += 1
        heapq.heappush(self._heap, (self.now + seconds, self._sequence, event))

    # --- effects ---

    def carry_out(self, node: Node, effects: list[Effect], answer: Callable[[Any], None] | None = None) -> None:
        ring = node.ring
        assert ring is not None
        for effect in effects:
            if isinstance(effect, Send):
                self._send(node, effect.to.uid, effect.message)
            elif isinstance(effect, Ask):
                self._ask(node, effect)
            elif isinstance(effect, Answer):
                assert answer is not None
                answer(effect.message)
            elif isinstance(effect, StartTimer):
                self._timer(node, effect)
            elif isinstance(effect, Confirm):
                self._confirm(node, effect)
            elif isinstance(effect, Persist):
                self._persist(node, effect.position)
            elif isinstance(effect, Joined):
                if self.invariant is not None:
                    self.invariant.joined(node.uid, effect.successor)
            elif isinstance(effect, Changed):
                self.changed(node, ring)
            elif isinstance(effect, Resolve):
                self._finished.pop((node.uid, effect.token))(effect.owner)
            elif isinstance(effect, Moved):
                self._finished.pop((node.uid, effect.token))(effect.refusal)

    def changed(self, node: Node, ring: Ring) -> None:
        """Note a node's pointers: it has links to whom it points to."""
        for ref in (*ring.successors, *([ring.predecessor] if ring.predecessor else [])):
            self._watching.setdefault(ref.uid, {})[node.uid] = None
        if self.invariant is not None:
            try:
                self.invariant.changed(ring.me, ring.successors)
            except AssertionError as error:
                raise self._failure(error) from None

    def _delay(self) -> float:
        return self.rng.uniform(self.network.shortest, self.network.longest)

    def _lost(self) -> bool:
        return bool(self.network.loss) and self.rng.random() < self.network.loss

    def _connected(self, one: str, two: str) -> bool:
        return not self.groups or self.groups.get(one, 0) == self.groups.get(two, 0)

    def _send(self, node: Node, to: str, message: Any) -> None:
        if self._lost():
            return

        def deliver() -> None:
            other = self.by_uid.get(to)
            if other is not None and other.ring is not None and self._connected(node.uid, to):
                self.carry_out(other, other.ring.on_message(self.now, node.uid, message))

        self.after(self._delay(), deliver)

    def _ask(self, node: Node, effect: Ask) -> None:
        boot, to = node.boot, effect.to.uid
        done = False

        def finish(answer: Any) -> None:
            nonlocal done
            if not done and node.boot == boot and node.ring is not None:
                done = True
                self.carry_out(node, node.ring.on_answer(self.now, effect.token, answer))

        def answered(message: Any) -> None:
            if not self._lost():
                self.after(self._delay(), lambda: finish(message) if self._connected(node.uid, to) else None)

        def deliver() -> None:
            other = self.by_uid.get(to)
            if other is None or not self._connected(node.uid, to):
                return
            if other.ring is None:
                # The connection is refused.
                self.after(self._delay(), lambda: finish(None))
            else:
                self.carry_out(other, other.ring.on_message(self.now, node.uid, effect.message), answered)

        if not self._lost():
            self.after(self._delay(), deliver)
        self._sequence += 1
        timeout = self.now + effect.timeout, self._sequence, lambda: finish(None)
        if self._timeouts and self._timeouts[-1] > timeout:
            heapq.heappush(self._heap, timeout)
        else:
            self._timeouts.append(timeout)

    def _timer(self, node: Node, effect: StartTimer) -> None:
        boot = node.boot
        generation = node.timers.get(effect.timer, 0) + 1
        node.timers[effect.timer] = generation

        def fire() -> None:
            if node.boot == boot and node.ring is not None and node.timers[effect.timer] == generation:
                self.carry_out(node, node.ring.on_timer(self.now, effect.timer))

        self.after(effect.after, fire)

    def _confirm(self, node: Node, effect: Confirm) -> None:
        boot, uid = node.boot, effect.ref.uid

        def probed() -> None:
            if node.boot == boot and node.ring is not None:
                other = self.by_uid.get(uid)
                alive = other is not None and other.ring is not None and self._connected(node.uid, uid)
                self.carry_out(node, node.ring.on_confirmed(self.now, uid, alive))

        self.after(2 * self._delay(), probed)

    def _persist(self, node: Node, position: int) -> None:
        boot = node.boot

        def synced() -> None:
            if node.boot == boot and node.ring is not None:
                node.position = position
                self.carry_out(node, node.ring.on_persisted(self.now))

        self.after(self._delay(), synced)

    def _notice(self, watcher: str, node: Node, boot: int) -> None:
        def broken() -> None:
            other = self.by_uid[watcher]
            gone = node.boot != boot or node.ring is None or not self._connected(watcher, node.uid)
            if other.ring is not None and gone:
                self.carry_out(other, other.ring.on_unreachable(self.now, node.uid))

        self.after(self.network.detect * self.rng.uniform(0.5, 1.0), broken)

    def _remember(self, node: Node, ring: Ring) -> None:
        others = len(self._numbered) - 1
        for index in self.rng.sample(range(others), min(8, others)):
            other = self._numbered[index if index < node.number - 1 else index + 1]
            ref = NodeRef(Uid(other.uid), other.name, other.position, "127.0.0.1", 7401, 7400, 7402, 0)
            ring.learn((ref if other.ring is None else msgspec.structs.replace(other.ring.me, incarnation=0),))

    # --- looking at it ---

    def joined(self) -> bool:
        """Say whether every running node is in a circle."""
        return all(node.ring is not None and node.ring.member for node in self.live())

    def ideal(self) -> bool:
        """Say whether all running nodes are one ring with perfect pointers."""
        nodes = self.live()
        rings = [node.ring for node in nodes if node.ring is not None]
        length = max(self.settings.successors, self.replication_factor)
        for index, ring in enumerate(rings):
            if not ring.member:
                return False
            after = [rings[(index + step) % len(rings)].me for step in range(1, min(length, len(rings) - 1) + 1)]
            if list(ring.successors) != after:
                return False
            if len(rings) > 1 and ring.predecessor != rings[index - 1].me:
                return False
        return len({ring.me.position for ring in rings}) == len(rings)

    def drawing(self) -> str:
        """Draw the ring: a line a node, by position."""
        lines = []
        for node in self.live():
            ring = node.ring
            assert ring is not None
            if not ring.member:
                lines.append(f"{node.name:<4} outside")
                continue
            names = " ".join(ref.name for ref in ring.successors) or "alone"
            before = ring.predecessor.name if ring.predecessor else "-"
            leaving = "  leaving" if ring.me.leaving else ""
            lines.append(f"{node.name:<4}{ring.me.position:>5}  <- {before:<4} -> {names}{leaving}")
        return "\n".join(lines)
