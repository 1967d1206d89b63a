"""The steps of a lookup, for who wants to watch it: each node that was asked, in order, also those that were silent."""

from __future__ import annotations

import itertools

from tests.sim.ring.perfect import perfect
from tests.sim.ring.simulator import Simulator

from coterie_node.ring import PRESETS, Hop

SLOTS = 1024
SETTINGS = PRESETS["cluster"]


def ring_of(nodes: int) -> Simulator:
    return perfect(1, SETTINGS, nodes, SLOTS)


def test_a_path_names_whom_the_lookup_asked_each_nearer_to_the_slot() -> None:
    world = ring_of(64)
    start = world.live()[0]
    longest = 0
    for slot in range(0, SLOTS, 7):
        path: list[Hop] = []
        owner = world.lookup(start, slot, path=path)
        assert owner is not None
        assert len(path) == owner.hops
        assert all(hop.answered and hop.asked < hop.ended for hop in path)
        left = [(slot - 1 - hop.node.position) % SLOTS for hop in path]
        assert left == sorted(left, reverse=True), "no step leads away from the slot"
        assert all(one.ended == two.asked for one, two in itertools.pairwise(path))
        longest = max(longest, len(path))
    assert 2 <= longest <= 8


def test_a_node_that_can_tell_by_itself_asks_nobody() -> None:
    world = ring_of(8)
    start = world.live()[0]
    path: list[Hop] = []
    owner = world.lookup(start, start.position, path=path)
    assert owner is not None
    assert (owner.owner.uid, path) == (start.uid, [])


def test_a_silent_node_is_in_the_path_and_gone_round() -> None:
    world = ring_of(64)
    start = world.live()[0]
    slot = next(slot for slot in range(SLOTS) if (found := world.lookup(start, slot)) is not None and found.hops >= 3)
    before: list[Hop] = []
    world.lookup(start, slot, path=before)
    asked = world.by_uid[before[0].node.uid]
    world.crash(asked)
    path: list[Hop] = []
    owner = world.lookup(start, slot, path=path)
    assert owner is not None
    assert (path[0].node.uid, path[0].answered) == (asked.uid, False)
    assert path[-1].answered
    assert len(path) == owner.hops


def test_who_is_left_alone_has_asked_everybody_in_vain() -> None:
    world = ring_of(16)
    start = world.live()[0]
    world.unsettle()
    for node in world.live()[1:]:
        world.crash(node)
    path: list[Hop] = []
    owner = world.lookup(start, (start.position + SLOTS // 2) % SLOTS, path=path)
    assert owner is None or owner.owner.uid == start.uid
    assert path
    assert not any(hop.answered for hop in path)
