"""A large ring that need not grow first: every node begins as it would be long after the last join.

Ten thousand nodes take a long time to join one by one. Here each is given what it would have come to hold: its place
(arcs of two widths, as halving the widest ones leaves them), perfect pointers and fingers, and the circle's mark with
the beat that has reached it. A test compares this with a ring that has really grown.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from tests.sim.ring.simulator import Network, Simulator

from coterie_node.ring import RingSettings, Timer
from coterie_node.ring.circle import Circle
from coterie_protocol.nodes import NodeRef


def perfect(
    seed: int,
    settings: RingSettings,
    nodes: int,
    slots: int,
    network: Network | None = None,
    uids: dict[int, str] | None = None,
    names: Sequence[str] = (),
) -> Simulator:
    """Return a ring of so many nodes; `uids` (by position) says which, instead of the seed; `names` in that order."""
    world = Simulator(seed, settings, slots, network=network)
    # As old as it takes for the first beat to have gone round, twice.
    world.now = nodes * world.network.longest + 2 * settings.circle_ttl
    world.unsettle()
    positions = sorted(uids) if uids else _halved(world, nodes)
    for index, position in enumerate(positions):
        world.enrol(position, (uids or {}).get(position), names[index] if names else "")
    rings = [world.boot(node) for node in world.by_uid.values()]
    refs = [ring.me for ring in rings]
    smallest = min(range(nodes), key=lambda index: refs[index].uid)
    for index, (node, ring) in enumerate(zip(world.by_uid.values(), rings, strict=True)):
        core, pointers = ring._core, ring._core.pointers
        pointers.member = True
        pointers.successors = tuple(refs[(index + step) % nodes] for step in range(1, min(ring.length, nodes - 1) + 1))
        pointers.predecessor = refs[index - 1] if nodes > 1 else None
        for exponent in ring._fingers._beyond_successors():
            target = (refs[index].position + (1 << exponent)) % slots
            pointers.fingers[exponent] = refs[bisect_left(positions, target) % nodes]
        hops = min((index - smallest) % nodes, (smallest - index) % nodes)
        _hear(world, ring._core.circle, refs[smallest], hops)
        ring._fingers._first = False
        ring._fingers._next = world.rng.randrange(pointers.bits)
        ring._shape = ring._now_shape()
        for timer, period in (
            (Timer.STABILIZE, settings.stabilize),
            (Timer.FINGERS, settings.fingers),
            (Timer.MEET, settings.meet),
        ):
            core.timer(timer, period * world.rng.random())
        if world.invariant is not None:
            world.invariant.joined(node.uid, node.uid)
        world.changed(node, ring)
        world.carry_out(node, core.take())
    world.settle()
    return world


def _hear(world: Simulator, circle: Circle, smallest: NodeRef, hops: int) -> None:
    """Give a node the newest beat that has come to it over so many neighbours; beats began at time 0."""
    if hops == 0:
        circle.mark(0.0)
        return
    way = hops * (world.network.shortest + world.network.longest) / 2
    beats = int((world.now - way) / world.settings.beat)
    circle.hear(way + beats * world.settings.beat, smallest.uid, smallest.incarnation + beats)


def _halved(world: Simulator, nodes: int) -> list[int]:
    """Return where nodes stand of which each halved one of the widest arcs."""
    whole = 1 << (nodes.bit_length() - 1)
    arc = world.slots // whole
    halves = world.rng.sample(range(whole), nodes - whole)
    return sorted([number * arc for number in range(whole)] + [number * arc + arc // 2 for number in halves])
