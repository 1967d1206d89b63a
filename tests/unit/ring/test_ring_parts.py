"""The pure parts of the ring: intervals, lists, marks, grants."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coterie_node.ring import PRESETS, Owner, Ring, RingSettings
from coterie_node.ring.arcs import Arcs
from coterie_node.ring.circle import Circle
from coterie_node.ring.contacts import LIMIT, Contacts
from coterie_node.ring.core import Core
from coterie_node.ring.interval import between, distance, midpoint, width, within
from coterie_node.ring.placement import MAX_HOPS, Grants, first_members
from coterie_node.ring.state import DEAD_MOST, Pointers
from coterie_protocol.identifiers import Uid
from coterie_protocol.nodes import NodeRef
from coterie_protocol.ring import GetNeighbours, Place

SLOTS = 64
positions = st.integers(0, SLOTS - 1)


def ref(number: int, position: int | None = None, incarnation: int = 1, leaving: bool = False) -> NodeRef:
    place = number if position is None else position
    return NodeRef(Uid(f"{number:032x}"), f"n{number}", place, "h", 1, 2, 3, incarnation, leaving)


def pointers(me: NodeRef, *successors: NodeRef, before: NodeRef | None = None) -> Pointers:
    state = Pointers(me, SLOTS, 4)
    state.member = True
    state.successors = successors
    state.predecessor = before
    return state


@given(positions, positions, positions)
def test_intervals_agree_with_walking_round(start: int, x: int, end: int) -> None:
    arc = [(start + step) % SLOTS for step in range(1, width(start, end, SLOTS) + 1)]
    assert arc[-1] == end
    assert within(start, x, end, SLOTS) == (x in arc)
    assert between(start, x, end, SLOTS) == (x in arc[:-1])
    assert distance(start, end, SLOTS) == len(arc) % SLOTS


@given(positions, positions)
def test_a_midpoint_is_free_and_in_the_middle(start: int, end: int) -> None:
    middle = midpoint(start, end, SLOTS)
    if middle is None:
        assert width(start, end, SLOTS) == 1
    else:
        assert between(start, middle, end, SLOTS)
        assert abs(width(start, middle, SLOTS) - width(middle, end, SLOTS)) <= 1


@given(positions, st.lists(st.tuples(st.integers(1, 9), positions), max_size=12))
def test_a_list_is_in_order_whatever_it_is_made_of(me: int, entries: list[tuple[int, int]]) -> None:
    state = pointers(ref(0, me))
    found = state.ordered([ref(number, position) for number, position in entries])
    far = [distance(me, entry.position, SLOTS) for entry in found]
    assert far == sorted(set(far))
    assert 0 not in far
    assert len(found) <= 4
    assert len({entry.uid for entry in found}) == len(found)


def test_a_list_ends_where_the_ring_does() -> None:
    state = pointers(ref(10))
    assert state.ordered([ref(20), ref(30), ref(10), ref(20)]) == (ref(20), ref(30))
    assert state.ordered([ref(20), ref(5), ref(30)]) == (ref(20), ref(5))


def test_positions_outside_of_the_circle_are_not_taken() -> None:
    assert pointers(ref(10)).ordered([ref(20, -1), ref(30, SLOTS), ref(40)]) == (ref(40),)


def test_the_greater_incarnation_wins_and_a_new_life_is_not_the_old_one() -> None:
    state = pointers(ref(1), ref(2), ref(3), before=ref(3))
    state.fingers = {5: ref(3)}
    changed = ref(3, incarnation=2, leaving=True)
    state.refresh(changed, since=1)
    assert list(state.successors) == [ref(2), changed]
    assert state.predecessor == state.fingers[5] == changed
    assert state.ordered([ref(2), ref(3)]) == (ref(2), changed)
    state.refresh(ref(3, incarnation=3), since=3)
    assert list(state.successors) == [ref(2)]
    assert not state.fingers
    assert state.owner(1) is None, "the predecessor is gone too"


def test_a_node_that_has_moved_is_not_where_it_was() -> None:
    state = pointers(ref(1), ref(2), ref(3))
    state.refresh(ref(3, position=40, incarnation=2), since=0)
    assert state.successors == (ref(2),)


def test_a_slot_belongs_to_the_first_node_at_or_after_it() -> None:
    state = pointers(ref(10), ref(20), ref(30), before=ref(60))
    mine = state.owner(10)
    assert mine == state.owner(61) == Owner(ref(10), ref(60), (ref(20), ref(30)), 0)
    assert state.owner(20) == Owner(ref(20), ref(10), (ref(30),), 0)
    assert state.owner(25) is None
    assert state.owner(25, avoid={ref(20).uid}) == Owner(ref(30), ref(10), (), 0)
    assert pointers(ref(10)).owner(50) == Owner(ref(10), None, (), 0)


def test_what_is_known_to_be_dead_is_not_asked() -> None:
    state = pointers(ref(10), ref(20), ref(30))
    state.fingers = {4: ref(40)}
    assert state.closest_preceding(0.0, 45, 3) == (ref(40), ref(30), ref(20))
    state.mark_dead(ref(30), until=5.0)
    state.successors = (ref(20), ref(30))
    assert state.closest_preceding(1.0, 45, 3) == (ref(40), ref(20))
    assert not state.is_dead(1.0, ref(30, incarnation=2))
    assert state.closest_preceding(6.0, 45, 3) == (ref(40), ref(30), ref(20))


def test_the_dead_are_remembered_within_a_bound() -> None:
    state = pointers(ref(10), ref(20))
    for number in range(2 * DEAD_MOST):
        state.mark_dead(ref(number), until=float(number))
    remembered = [number for number in range(2 * DEAD_MOST) if state.is_dead(-1.0, ref(number))]
    assert remembered == list(range(DEAD_MOST, 2 * DEAD_MOST))


def test_a_mark_lives_as_long_as_its_beats_come() -> None:
    circle = Circle("m", 100, ttl=3.0, beat=1.0)
    assert circle.mark(0.0) == ("m", 100)
    assert circle.mark(2.5) == ("m", 102)
    circle.hear(3.0, "x", 9)
    assert circle.mark(3.0)[0] == "m"
    circle.hear(3.0, "a", 7)
    assert circle.due(3.0)
    assert not circle.due(3.0)
    circle.hear(5.0, "a", 8)
    assert circle.due(5.0)
    assert circle.mark(8.0) == ("a", 8)
    assert circle.mark(8.1)[0] == "m"
    circle.hear(8.2, "a", 8)
    assert circle.mark(8.2)[0] == "m", "it was dropped, and this is no newer beat"
    circle.hear(8.3, "a", 9)
    assert circle.mark(8.3) == ("a", 9)


def test_the_oldest_contact_is_forgotten_and_all_are_asked_in_turn() -> None:
    contacts = Contacts(ref(0).uid)
    contacts.learn(ref(number) for number in range(LIMIT + 3))
    assert contacts.next(set()) == ref(3)
    asked = {found.name for _ in range(LIMIT) if (found := contacts.next({ref(5).uid})) is not None}
    assert len(asked) == LIMIT - 1
    assert Contacts(ref(0).uid).next(set()) is None


def core(me: NodeRef, *successors: NodeRef, before: NodeRef | None = None) -> Core:
    made = Core(me, RingSettings(), 4, SLOTS, random.Random(1))
    made.pointers = pointers(me, *successors, before=before)
    made.alone_since = -60.0
    return made


def test_a_node_alone_grants_the_other_side_of_the_circle_to_one_at_a_time() -> None:
    grants = Grants(core(ref(0)))
    joiner, other = Place(ref(8, -1), 0), Place(ref(9, -1), 0)
    assert grants.place(0.0, joiner).position == SLOTS // 2
    assert grants.place(0.1, joiner).position == SLOTS // 2
    busy = grants.place(0.2, other)
    assert (busy.position, busy.elsewhere) == (-1, None)
    assert busy.wait_ms > 0
    assert grants.place(9.0, other).position == SLOTS // 2, "the first one never appeared"


def test_a_place_is_free_again_once_its_node_has_appeared() -> None:
    made = core(ref(0))
    grants = Grants(made)
    assert grants.place(0.0, Place(ref(8, -1), 0)).position == 32
    made.pointers.successors, made.pointers.predecessor = (ref(8, 32),), ref(8, 32)
    grants.appeared(ref(8, 32))
    assert grants.place(0.1, Place(ref(9, -1), 0)).position == 48


def test_who_asks_is_sent_on_to_the_widest_arc() -> None:
    made = core(ref(0), ref(8), ref(48), ref(56), before=ref(56))
    grants = Grants(made)
    assert grants.place(0.0, Place(ref(9, -1), 0)).elsewhere == ref(48)
    assert grants.place(0.0, Place(ref(9, -1), MAX_HOPS)).position == 60


def test_a_full_arc_has_no_place() -> None:
    made = core(ref(1), ref(0), before=ref(0))
    assert Grants(made).place(0.0, Place(ref(9, -1), MAX_HOPS)).position == -1


def test_members_are_the_first_that_stay() -> None:
    chain = [ref(1), ref(2, leaving=True), ref(3), ref(1), ref(4)]
    assert first_members(chain, 3) == (ref(1).uid, ref(3).uid, ref(4).uid)
    assert first_members(chain[:2], 3) == (ref(1).uid,)


def test_one_answer_stands_for_the_whole_arc_for_a_while() -> None:
    arcs = Arcs(SLOTS, 1.0)
    arcs.add(0.0, Owner(ref(20), ref(10), (), 2), (ref(20), ref(30)))
    found, rest = arcs.split(0.5, [10, 11, 20, 21])
    assert found == {11: (ref(20), ref(30)), 20: (ref(20), ref(30))}
    assert rest == [10, 21]
    assert arcs.split(1.0, [11]) == ({}, [11])


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_keep_their_own_rules(preset: str) -> None:
    settings = PRESETS[preset]
    assert settings.nudge < settings.stabilize
    assert settings.beat * 4 < settings.circle_ttl
    assert settings.meet_alone < settings.grace


def test_a_position_outside_of_the_ring_is_refused() -> None:
    with pytest.raises(ValueError, match="position 64 is outside of the ring's slots, 0 to 63"):
        Ring(ref(1, 64), RingSettings(), 3, SLOTS, random.Random(1))


def test_a_message_that_names_another_sender_is_ignored() -> None:
    ring = Ring(ref(1), RingSettings(), 3, SLOTS, random.Random(1))
    ring.start(0.0)
    other = Ring(ref(2), RingSettings(), 3, SLOTS, random.Random(1))
    other.start(0.0)
    message = GetNeighbours(other.standing(0.0))
    assert ring.on_message(0.0, ref(3).uid, message) == []
    assert len(ring.on_message(0.0, ref(2).uid, message)) == 1
