"""Random walks of small rings: the invariant holds at every step, and the ring becomes perfect when left alone.

Each takes a seed and raises AssertionError, which names it.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.sim.ring.simulator import Network, Node, Simulator

from coterie_node.ring import PRESETS

LOCAL = PRESETS["local"]


def founded(seed: int, count: int, network: Network | None = None) -> Simulator:
    world = Simulator(seed, LOCAL, 256, network=network)
    world.add(found=True)
    for _ in range(count - 1):
        world.add()
    world.run_until(world.joined, 10)
    world.run_until(world.ideal, 5)
    return world


def nodes_come_and_go(seed: int) -> None:
    """One thing at a time, but each before the last has settled: joins, crashes, returns, moves, leaves."""
    world = founded(seed, 8, Network(loss=0.005 * (seed % 3)))
    down: list[Node] = []
    crashed_at = 0.0
    for _ in range(25):
        world.run(world.rng.uniform(0.05, 0.4))
        live = world.live()
        choice = world.rng.random()
        node = world.rng.choice(live)
        # Zave's assumption: a member's successors never all fail before it has stabilized.
        if choice < 0.3 and len(live) > 5 and world.now - crashed_at > 0.5:
            world.crash(node)
            down.append(node)
            crashed_at = world.now
        elif choice < 0.6 and down:
            world.start(down.pop(0))
        elif choice < 0.75:
            world.add()
        elif choice < 0.85:
            world.leave(node, world.rng.random() < 0.5)
        elif node.ring is not None and node.ring.member:
            world.move(node, world.rng.randrange(world.slots))
    world.run_until(world.ideal, 10)


def five_nodes_start_at_once(seed: int) -> None:
    world = Simulator(seed, LOCAL)
    world.add(found=True)
    for _ in range(4):
        world.add()
    assert world.run_until(world.joined, 2) + world.run_until(world.ideal, 2) < 2


def all_nodes_restart_at_once(seed: int) -> None:
    world = founded(seed, 5 + seed % 4)
    positions = {node.name: node.position for node in world.live()}
    world.unsettle()
    for node in world.live():
        world.crash(node)
    for node in world.nodes.values():
        world.start(node)
    world.run_until(world.ideal, 3)
    assert {node.name: node.position for node in world.live()} == positions


def parts_of_a_divided_ring_become_one_again(seed: int) -> None:
    world = founded(seed, 7)
    world.unsettle()
    live = world.live()
    world.rng.shuffle(live)
    cut = world.rng.randrange(1, 7)
    world.partition(live[:cut], live[cut:])
    world.run(world.rng.uniform(0.1, 8))
    world.partition()
    world.run_until(world.ideal, 8)


def no_two_nodes_stand_at_one_place_after_a_division(seed: int) -> None:
    world = founded(seed, 4)
    world.unsettle()
    live = world.live()
    world.partition([live[0], live[2]], [live[1], live[3]])
    world.run(5)
    world.add(beside=live[0])
    world.add(beside=live[1])
    world.run(3)
    world.partition()
    world.run_until(world.ideal, 8)
    positions = [node.position for node in world.live()]
    assert len(set(positions)) == len(positions) == 6


def the_smallest_uid_may_restart_at_any_time(seed: int) -> None:
    """Its mark names the circle: a ring must not follow it into the circle that it forms alone."""
    world = founded(seed, 6)
    smallest = min(world.nodes.values(), key=lambda node: node.uid)
    others = [node for node in world.live() if node is not smallest]
    lives = {node.name: node.ring.me.incarnation for node in others if node.ring is not None}
    for _ in range(3):
        world.crash(smallest)
        world.run(world.rng.uniform(0.0, 5.0))
        world.start(smallest)
        world.run_until(world.ideal, 5)
    assert lives == {node.name: node.ring.me.incarnation for node in others if node.ring is not None}


WALKS: dict[Callable[[int], None], int] = {
    nodes_come_and_go: 40,
    five_nodes_start_at_once: 25,
    all_nodes_restart_at_once: 25,
    parts_of_a_divided_ring_become_one_again: 25,
    no_two_nodes_stand_at_one_place_after_a_division: 15,
    the_smallest_uid_may_restart_at_any_time: 10,
}
"""With how many seeds of each are enough for every change."""
