"""Who a node is: its uid, its ring, its position and the peers it remembers, kept with its data.

The rules of founding (design: a ring is founded once, on purpose) are pure functions here; main carries them out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Annotated, Protocol

import msgspec

from coterie_protocol.bounds import Copies, Count, Nodes, NodeUid, RingUid, SlotCount, SlotOrNone
from coterie_protocol.identifiers import Uid, slot_bits
from coterie_protocol.nodes import NodeRef, PeerHello
from coterie_protocol.registers import SlotRegister

REMEMBERED = 64
"""How many peers are remembered: enough to find the ring again after all of its nodes were down."""
FOUNDERS_PATIENCE = 10.0
"""Seconds that an empty founder with the smaller ring uid waits for the other founder to give up first."""
DEFAULT_REPLICATION_FACTOR = 3


class Meta(Protocol):
    """Named values of the store (`runtime.ports.Tx`)."""

    def meta(self, key: str) -> bytes | None:
        """Return a named value."""
        ...

    def put_meta(self, key: str, value: bytes | None) -> None:
        """Set or remove it."""
        ...


class Holdings(Protocol):
    """What a node keeps for its ring (`runtime.ports.Tx`)."""

    def slots_with_records(self) -> Collection[int]:
        """Return the slots that hold records."""
        ...

    def slots_with_accounts(self) -> Collection[int]:
        """Return the slots that hold accounts."""
        ...

    def slot_registers(self) -> Iterable[tuple[int, SlotRegister]]:
        """Return the slots' configurations."""
        ...


@dataclass(frozen=True)
class Membership:
    """The ring that a node belongs to."""

    ring_uid: RingUid
    replication_factor: Copies
    slots: SlotCount
    founded: bool
    """This node founded it."""


@dataclass(frozen=True)
class Identity:
    """What a data directory says of its node."""

    uid: Uid
    membership: Membership | None
    position: int
    """The slot number at whose first identifier the node stands; -1 before it was granted one."""


# --- What is kept -------------------------------------------------------------------------------------------------

_memberships = msgspec.msgpack.Decoder(Membership)
_peers = msgspec.msgpack.Decoder(Annotated[list[NodeRef], Nodes])


def read_membership(value: bytes | None) -> Membership | None:
    """Read the ring that a store names, None for none; raises ValueError when that cannot be."""
    if value is None:
        return None
    try:
        membership = _memberships.decode(value)
        _possible(membership.replication_factor, membership.slots)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ValueError(f"the ring that it names cannot be: {error}") from None
    return membership


def _possible(replication_factor: int, slots: int) -> None:
    """Raise ValueError for what no ring has."""
    slot_bits(slots)
    if replication_factor < 1:
        raise ValueError(f"a replication factor of {replication_factor}")


def load(tx: Meta, make_uid: Callable[[], Uid]) -> Identity:
    """Read the identity, making a uid for a store without one. Raises WrongRing when it cannot be read.

    Such a one is empty, or `check --repair` has made it: then it has a ring, and the node returns there as a new one.
    """
    try:
        return _load(tx, make_uid)
    except ValueError as error:
        raise WrongRing(
            f"the data directory does not say any more who this node is ({error}); see coterie-node check"
        ) from None


def _load(tx: Meta, make_uid: Callable[[], Uid]) -> Identity:
    uid = tx.meta("uid")
    if uid is None:
        uid = make_uid().encode()
        tx.put_meta("uid", uid)
    position = tx.meta("position")
    return Identity(
        msgspec.convert(uid.decode(), NodeUid),
        read_membership(tx.meta("ring")),
        -1 if position is None else msgspec.convert(int(position), SlotOrNone),
    )


def next_incarnation(tx: Meta, wall_ms: int) -> int:
    """Return an incarnation above every one this node ever had, even when the machine's clock was set back."""
    last = tx.meta("incarnation")
    try:
        incarnation = max(wall_ms, 0 if last is None else msgspec.convert(int(last), Count) + 1)
    except ValueError:
        incarnation = wall_ms  # The note is damaged; the clock is almost always ahead of it.
    tx.put_meta("incarnation", str(incarnation).encode())
    return incarnation


def put_membership(tx: Meta, membership: Membership | None) -> None:
    """Keep which ring the node belongs to; None gives it up, and the position with it."""
    tx.put_meta("ring", None if membership is None else msgspec.msgpack.encode(membership))
    if membership is None:
        tx.put_meta("position", None)


def become_new(tx: Meta) -> None:
    """Give up uid and position, and keep the ring and where its nodes are: the next start makes a new node of it."""
    membership = read_membership(tx.meta("ring"))
    if membership is not None:
        put_membership(tx, replace(membership, founded=False))
    for key in ("uid", "position", "alive", "left"):
        tx.put_meta(key, None)


def note_left(tx: Meta, left: bool) -> None:
    """Keep that the node has left its ring, or forget it."""
    tx.put_meta("left", b"1" if left else None)


def had_left(tx: Meta) -> bool:
    """Say whether the node had left its ring when it was stopped, and forget that."""
    left = tx.meta("left") is not None
    if left:
        note_left(tx, False)
    return left


def put_position(tx: Meta, position: int) -> None:
    """Keep where the node stands."""
    tx.put_meta("position", str(position).encode())


def remembered(tx: Meta) -> list[NodeRef]:
    """Return the peers that were known at last; none when the note cannot be read, for others will be met."""
    value = tx.meta("peers")
    try:
        return [] if value is None else _peers.decode(value)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return []


def remember(tx: Meta, refs: Sequence[NodeRef]) -> None:
    """Keep the newest of these peers."""
    newest = sorted(refs, key=lambda ref: ref.incarnation, reverse=True)[:REMEMBERED]
    tx.put_meta("peers", msgspec.msgpack.encode(newest))


# --- The rules of founding ----------------------------------------------------------------------------------------


class Beginning(Enum):
    """What a starting node does about its ring."""

    BELONG = "belong"
    """Its data say which ring it belongs to."""
    FOUND = "found"
    """It founds a ring."""
    WAIT = "wait"
    """It waits until a ring answers, and joins that."""


class Meeting(Enum):
    """What a node that belongs to a ring does about a node of another ring, which is refused in any case."""

    GIVE_UP = "give up"
    """It founded its ring, holds nothing, and gives it up to join the other."""
    WAIT = "wait"
    """It would give its ring up, but the other may be about to do the same: see whether it is still there later."""
    SAY = "say"
    """It stays, and says loudly that there are two rings."""


class WrongRing(Exception):
    """A node's data and what it was told do not fit together. The text says what to do."""


def begin(
    identity: Identity, *, found: bool, expected: str, replication_factor: int | None, slots: int | None
) -> Beginning:
    """Decide how a node starts. K and S are None where nobody asked for them. Raises WrongRing.

    A data directory that has a ring ignores `found`. A node that expects a certain ring joins no other and founds none
    but one of that uid.
    """
    ring = identity.membership
    if ring is None:
        if found and slots is not None and slots < (k := replication_factor or DEFAULT_REPLICATION_FACTOR):
            raise WrongRing(
                f"--slots {slots} is less than --replication-factor {k}; a ring has ten slots a node or more"
            )
        return Beginning.FOUND if found else Beginning.WAIT
    if expected and expected != ring.ring_uid:
        raise WrongRing(
            f"the data directory belongs to ring {ring.ring_uid}, not to {expected}; "
            "choose another --data-dir, or leave --ring-uid out"
        )
    for name, wanted, has in (
        ("--replication-factor", replication_factor, ring.replication_factor),
        ("--slots", slots, ring.slots),
    ):
        if wanted is not None and wanted != has:
            raise WrongRing(f"the ring has {name} {has}, not {wanted}; it is fixed at the founding: leave it out")
    return Beginning.BELONG


def join(hello: PeerHello, *, expected: str, replication_factor: int | None, slots: int | None) -> Membership | None:
    """Return the membership that a peer's hello offers to a node without a ring; None if it has none to offer.

    Raises WrongRing when the ring is not the expected one or has another K or S than asked for.
    """
    if not hello.ring_uid:
        return None
    try:
        _possible(hello.replication_factor, hello.slots)
    except ValueError as error:
        raise WrongRing(
            f"{hello.node.address} says of ring {hello.ring_uid} what cannot be ({error}); check --seed"
        ) from None
    if expected and hello.ring_uid != expected:
        raise WrongRing(
            f"{hello.node.address} belongs to ring {hello.ring_uid}, not to the expected {expected}; "
            "check --seed and --ring-uid"
        )
    if replication_factor is not None and replication_factor != hello.replication_factor:
        raise WrongRing(
            f"the ring at {hello.node.address} has --replication-factor {hello.replication_factor}, "
            f"not {replication_factor}; start this node with that, or leave it out"
        )
    if slots is not None and slots != hello.slots:
        raise WrongRing(
            f"the ring at {hello.node.address} has --slots {hello.slots}, not {slots}; "
            "start this node with that, or leave it out"
        )
    return Membership(hello.ring_uid, hello.replication_factor, hello.slots, founded=False)


def meet(mine: Membership, theirs: PeerHello, *, expected: str, holds_data: bool, seen_for: float) -> Meeting:
    """Decide what to do about a node of another ring that was first met `seen_for` seconds ago.

    Only a founder that holds nothing gives its ring up: any other's data would become unreachable. Two empty founders
    must not both do it, for then no ring were left: the one with the smaller ring uid waits for the other.
    """
    if not mine.founded or holds_data or (expected and expected != theirs.ring_uid):
        return Meeting.SAY
    if theirs.ring_uid < mine.ring_uid or seen_for >= FOUNDERS_PATIENCE:
        return Meeting.GIVE_UP
    return Meeting.WAIT


def in_use(tx: Holdings) -> bool:
    """Say whether a founder's ring is more than a mistake: it holds data, or its slots were once shared with others.

    After a restart it may be alone at first, remembering addresses that belong to another ring's nodes by now.
    """
    configs = (register.config for _, register in tx.slot_registers())
    return (
        bool(tx.slots_with_records())
        or bool(tx.slots_with_accounts())
        or any(config is not None and len(config.members) > 1 for config in configs)
    )


def stranger(mine: Membership, theirs: PeerHello) -> str:
    """Return what a node says loudly when it has met a node of another ring and stays."""
    who = theirs.node.name or theirs.node.uid
    return (
        f"{who} at {theirs.node.address} belongs to ring {theirs.ring_uid}, this node to {mine.ring_uid}; "
        "the two do not mix: check the seeds, or give the wrong one an empty --data-dir"
    )
