"""Nodes that come and go in a large ring, lookups meanwhile, and what came of both."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from typing import Any

from tests.sim.ring.simulator import Node, Simulator

from coterie_node.ring import Owner

KINDS = {"crash": 6, "join": 2, "leave": 1, "move": 1}
"""The share of each. What has crashed returns: the ring stays about as large as it is."""


class Lookups:
    """Lookups of random slots from random nodes, compared with who owns the slot when the answer is there."""

    def __init__(self, world: Simulator) -> None:
        self._world = world
        self.hops: list[int] = []
        self.right = 0
        self.wrong: list[str] = []
        self.unanswered = 0

    def start(self, node: Node) -> None:
        """Look a random slot up; a node that dies meanwhile is not counted."""
        slot = self._world.rng.randrange(self._world.slots)
        self._world.begin_lookup(node, slot, lambda found: self._ended(node, slot, found))

    @property
    def ended(self) -> int:
        """Return how many were counted."""
        return self.right + len(self.wrong) + self.unanswered

    def _ended(self, node: Node, slot: int, found: Owner | None) -> None:
        invariant = self._world.invariant
        assert invariant is not None
        if found is None:
            self.unanswered += 1
            return
        owner = invariant.owner(slot)
        if found.owner.uid == owner:
            self.right += 1
            self.hops.append(found.hops)
        else:
            expected = self._world.by_uid[owner].name
            self.wrong.append(
                f"t={self._world.now:.3f} s: {node.name} found {found.owner.name} for slot {slot}, "
                f"which is of {expected}"
            )


class Churn:
    """Drives a ring. `rate`: crashes, joins, leaves and moves a second among a thousand nodes; returns come on top."""

    def __init__(self, world: Simulator, rate: float, lookups: float = 20.0) -> None:
        self.world = world
        self.counts: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.lookups = Lookups(world)
        self._rate = rate
        self._lookup_every = 1 / lookups
        self.running = [node for node in world.nodes.values() if node.ring is not None]
        self._place = {node.uid: index for index, node in enumerate(self.running)}
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = 0

    def run(self, seconds: float, progress: Callable[[float], None] = lambda done: None) -> None:
        """Drive the ring for so many simulated seconds; `progress` is told after each."""
        world, rng = self.world, self.world.rng
        start = world.now
        kinds, weights = list(KINDS), list(KINDS.values())
        event = start + self._pause()
        lookup, second = start + self._lookup_every, start + 1
        while world.now < start + seconds:
            due = self._later[0][0] if self._later else float("inf")
            now = min(event, lookup, second, due, start + seconds)
            world.run(max(0.0, now - world.now))
            if now == event:
                event += self._pause()
                self._happen(rng.choices(kinds, weights)[0])
            elif now == lookup:
                lookup += self._lookup_every
                self.lookups.start(rng.choice(self.running))
            elif now == due:
                heapq.heappop(self._later)[2]()
            elif now == second:
                progress(second - start)
                second += 1

    def settle(self, progress: Callable[[float], None] = lambda done: None, within: float = 60.0) -> float:
        """Have those that are down return, and wait for the ideal ring; return the seconds that it took."""
        while self._later:
            heapq.heappop(self._later)[2]()
        start = self.world.now

        def ideal() -> bool:
            progress(self.world.now - start)
            return self.world.ideal()

        return self.world.run_until(ideal, within, every=1.0)

    def _pause(self) -> float:
        share = self._rate / 1000 * len(self.running)
        return self.world.rng.expovariate(share) if share else float("inf")

    def _happen(self, kind: str) -> None:
        world, rng = self.world, self.world.rng
        node = rng.choice(self.running)
        if kind == "join":
            self._up(world.add())
        elif kind == "crash":
            world.crash(self._down(node))
            self._after(rng.uniform(1.0, 10.0), lambda: self._return(node))
        elif kind == "leave":
            world.leave(node)
            self._after(rng.uniform(1.0, 5.0), lambda: self._gone(node))
        elif node.ring is not None and node.ring.member:
            world.begin_move(node, rng.randrange(world.slots), self._moved)
        else:
            return
        self.counts[kind] += 1

    def _return(self, node: Node) -> None:
        self.world.start(node)
        self._up(node)
        self.counts["return"] += 1

    def _gone(self, node: Node) -> None:
        if node.uid in self._place:
            self.world.crash(self._down(node))

    def _moved(self, refusal: Any) -> None:
        if refusal:
            self.refused[str(refusal).split("; ")[-1]] += 1

    def _after(self, seconds: float, then: Callable[[], None]) -> None:
        self._sequence += 1
        heapq.heappush(self._later, (self.world.now + seconds, self._sequence, then))

    def _up(self, node: Node) -> None:
        self._place[node.uid] = len(self.running)
        self.running.append(node)

    def _down(self, node: Node) -> Node:
        index, last = self._place.pop(node.uid), self.running.pop()
        if last is not node:
            self.running[index] = last
            self._place[last.uid] = index
        return node
