"""Who a node is, and the rules of founding as tables."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import msgspec
import pytest

from coterie_node.bootstrap.identity import (
    FOUNDERS_PATIENCE,
    REMEMBERED,
    Beginning,
    Identity,
    Meeting,
    Membership,
    WrongRing,
    begin,
    in_use,
    join,
    load,
    meet,
    next_incarnation,
    put_membership,
    put_position,
    remember,
    remembered,
    stranger,
)
from coterie_protocol.identifiers import Uid
from coterie_protocol.nodes import NodeRef, PeerHello
from coterie_protocol.registers import Ballot, Config, SlotRegister

ME = Uid("a" * 32)
OURS, OTHER = "5" * 32, "7" * 32
RING = Membership(OURS, 3, 1024, founded=False)
FOUNDED = Membership(OURS, 3, 1024, founded=True)
FOUNDED_AS_MAP = asdict(FOUNDED)


class Table:
    """Named values, as a transaction has them."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    def meta(self, key: str) -> bytes | None:
        return self.values.get(key)

    def put_meta(self, key: str, value: bytes | None) -> None:
        if value is None:
            self.values.pop(key, None)
        else:
            self.values[key] = value


def hello(ring: str = OURS, k: int = 3, slots: int = 1024) -> PeerHello:
    return PeerHello(1, 1, ring, k, slots, ref(1), "boot")


def ref(number: int, incarnation: int = 1) -> NodeRef:
    return NodeRef(Uid(f"{number:032x}"), f"n{number}", 0, "10.0.0.1", 7401, 7400, 7402, incarnation)


def test_an_empty_directory_makes_a_new_node_and_only_that() -> None:
    tx = Table()
    assert load(tx, lambda: ME) == Identity(ME, None, -1)
    assert load(tx, lambda: Uid("b" * 32)) == Identity(ME, None, -1)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("uid", b"\xff"),
        ("uid", b"../../elsewhere"),
        ("uid", b"a" * 33),
        ("ring", b"\xc1"),
        ("ring", msgspec.msgpack.encode({**FOUNDED_AS_MAP, "ring_uid": "/somewhere/deep"})),
        ("ring", msgspec.msgpack.encode({**FOUNDED_AS_MAP, "slots": 1 << 62})),
        ("ring", msgspec.msgpack.encode({**FOUNDED_AS_MAP, "replication_factor": -1})),
        ("ring", msgspec.msgpack.encode({**FOUNDED_AS_MAP, "replication_factor": 0})),
        ("ring", msgspec.msgpack.encode({**FOUNDED_AS_MAP, "slots": 0})),
        ("ring", msgspec.msgpack.encode({**FOUNDED_AS_MAP, "slots": 1000})),
        ("position", b"-2"),
        ("position", b"9" * 5000),
        ("position", b"\xff"),
    ],
)
def test_a_directory_that_does_not_say_who_the_node_is_is_refused_in_one_line(key: str, value: bytes) -> None:
    tx = Table()
    load(tx, lambda: ME)
    put_membership(tx, FOUNDED)
    tx.put_meta(key, value)
    with pytest.raises(WrongRing, match="see coterie-node check") as refused:
        load(tx, lambda: ME)
    assert "\n" not in str(refused.value)


def test_notes_that_cannot_be_read_cost_no_start() -> None:
    tx = Table()
    for value in (b"\xff", b"-1", b"9" * 5000, str(1 << 53).encode()):
        tx.put_meta("incarnation", value)
        assert next_incarnation(tx, 5) == 5
    for value in (b"\xc1", msgspec.msgpack.encode([["x" * 33, "n", 0, "h", 1, 1, 1, 1]])):
        tx.put_meta("peers", value)
        assert remembered(tx) == []


def test_what_is_kept_comes_back() -> None:
    tx = Table()
    load(tx, lambda: ME)
    put_membership(tx, FOUNDED)
    put_position(tx, 512)
    assert load(tx, lambda: ME) == Identity(ME, FOUNDED, 512)
    put_membership(tx, None)
    assert load(tx, lambda: ME) == Identity(ME, None, -1)


def test_the_newest_peers_are_remembered() -> None:
    tx = Table()
    assert remembered(tx) == []
    remember(tx, [ref(number, incarnation=number) for number in range(200)])
    assert [kept.incarnation for kept in remembered(tx)] == list(range(199, 199 - REMEMBERED, -1))


def test_incarnations_rise_whatever_the_clock_does() -> None:
    tx = Table()
    assert [next_incarnation(tx, at) for at in (1000, 1000, 400, 2000)] == [1000, 1001, 1002, 2000]


Asked = dict[str, Any]
NOTHING: Asked = {"found": False, "expected": "", "replication_factor": None, "slots": None}


@pytest.mark.parametrize(
    ("ring", "asked", "what"),
    [
        (None, {}, Beginning.WAIT),
        (None, {"expected": OURS}, Beginning.WAIT),
        (None, {"found": True}, Beginning.FOUND),
        (None, {"found": True, "expected": OURS, "replication_factor": 5, "slots": 64}, Beginning.FOUND),
        (None, {"found": True, "slots": 2}, "--slots 2 is less"),
        (RING, {}, Beginning.BELONG),
        (RING, {"found": True}, Beginning.BELONG),
        (FOUNDED, {"found": True}, Beginning.BELONG),
        (RING, {"expected": OURS, "replication_factor": 3, "slots": 1024}, Beginning.BELONG),
        (RING, {"expected": OTHER}, "choose another --data-dir"),
        (RING, {"replication_factor": 5}, "--replication-factor 3, not 5"),
        (RING, {"slots": 64}, "--slots 1024, not 64"),
    ],
)
def test_how_a_node_begins(ring: Membership | None, asked: Asked, what: Beginning | str) -> None:
    identity = Identity(ME, ring, -1)
    if isinstance(what, Beginning):
        assert begin(identity, **{**NOTHING, **asked}) is what
    else:
        with pytest.raises(WrongRing, match=what):
            begin(identity, **{**NOTHING, **asked})


@pytest.mark.parametrize(
    ("theirs", "asked", "what"),
    [
        (hello(ring=""), {}, None),
        (hello(ring=""), {"expected": OURS}, None),
        (hello(), {}, RING),
        (hello(k=5, slots=64), {}, Membership(OURS, 5, 64, founded=False)),
        (hello(), {"expected": OURS, "replication_factor": 3, "slots": 1024}, RING),
        (hello(), {"expected": OTHER}, "not to the expected"),
        (hello(), {"replication_factor": 5}, "--replication-factor 3, not 5"),
        (hello(), {"slots": 64}, "--slots 1024, not 64"),
        (hello(k=0), {}, "what cannot be"),
        (hello(slots=0), {}, "what cannot be"),
        (hello(slots=1000), {}, "what cannot be"),
    ],
)
def test_which_ring_a_node_joins(theirs: PeerHello, asked: Asked, what: Membership | str | None) -> None:
    wanted = {"expected": "", "replication_factor": None, "slots": None, **asked}
    if isinstance(what, str):
        with pytest.raises(WrongRing, match=what):
            join(theirs, **wanted)
    else:
        assert join(theirs, **wanted) == what


@pytest.mark.parametrize(
    ("mine", "theirs", "changes", "what"),
    [
        (RING, OTHER, {}, Meeting.SAY),
        (FOUNDED, OTHER, {"holds_data": True}, Meeting.SAY),
        (FOUNDED, OTHER, {"expected": OURS}, Meeting.SAY),
        (FOUNDED, OTHER, {}, Meeting.WAIT),
        (FOUNDED, OTHER, {"seen_for": FOUNDERS_PATIENCE}, Meeting.GIVE_UP),
        (FOUNDED, "3" * 32, {}, Meeting.GIVE_UP),
        (FOUNDED, "3" * 32, {"expected": "3" * 32}, Meeting.GIVE_UP),
        (FOUNDED, "3" * 32, {"holds_data": True, "seen_for": 1e9}, Meeting.SAY),
    ],
)
def test_what_becomes_of_two_rings(mine: Membership, theirs: str, changes: Asked, what: Meeting) -> None:
    known = {"expected": "", "holds_data": False, "seen_for": 0.0, **changes}
    assert meet(mine, hello(ring=theirs), **known) is what


def test_two_empty_founders_do_not_both_give_up() -> None:
    one, two = FOUNDED, Membership(OTHER, 3, 1024, founded=True)
    known: Asked = {"expected": "", "holds_data": False, "seen_for": 0.0}
    decisions = {meet(one, hello(ring=OTHER), **known), meet(two, hello(ring=OURS), **known)}
    assert decisions == {Meeting.WAIT, Meeting.GIVE_UP}


class Kept:
    """What a node keeps for its ring."""

    def __init__(self, records: set[int], accounts: set[int], *members: str) -> None:
        ballot = Ballot(1, "p")
        config = Config(1, ballot, (), tuple(Uid(member) for member in members))
        self._records, self._accounts = records, accounts
        self._registers = [(0, SlotRegister(ballot, ballot, config)), (1, SlotRegister(ballot, ballot, None))]

    def slots_with_records(self) -> set[int]:
        return self._records

    def slots_with_accounts(self) -> set[int]:
        return self._accounts

    def slot_registers(self) -> list[tuple[int, SlotRegister]]:
        return self._registers


@pytest.mark.parametrize(
    ("kept", "used"),
    [
        (Kept(set(), set(), "a"), False),
        (Kept({1}, set(), "a"), True),
        (Kept(set(), {1}, "a"), True),
        (Kept(set(), set(), "a", "b", "c"), True),
    ],
)
def test_a_founder_gives_up_no_ring_that_was_ever_in_use(kept: Kept, used: bool) -> None:
    assert in_use(kept) is used


def test_a_stranger_is_named() -> None:
    text = stranger(RING, hello(ring=OTHER))
    assert all(word in text for word in ("n1", "10.0.0.1:7401", OURS, OTHER))
