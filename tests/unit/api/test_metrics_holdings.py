"""What a node holds, by role and kind, as metrics count it: on a real store and slot table."""

from __future__ import annotations

from typing import Any

from tests.unit.api.town import Place, mail
from tests.unit.store.making import moved

from coterie_node.api.metrics.sources import KINDS, ROLES, Holdings
from coterie_protocol.identifiers import Uid
from coterie_protocol.records import State
from coterie_protocol.registers import ACCOUNT_ZERO, AccountBallot, AccountRegister, Ballot, Config, KnownConfig

ACCOUNT = AccountRegister(ACCOUNT_ZERO, AccountBallot(3, 1, "x"), b"v")


def held_by(place: Place) -> Holdings:
    return Holdings(place.view.part.acting(), place.store.contents())


def counted(holdings: Holdings) -> dict[Any, int]:
    assert holdings.slots.keys() == set(ROLES)
    assert holdings.records.keys() == {(role, kind) for role in ROLES for kind in KINDS}
    return {key: number for key, number in holdings.records.items() if number}


async def test_records_are_counted_by_role_and_kind(town: list[Place]) -> None:
    place = town[0]  # It acts for 0 and 1, and is a member of 4 to 7.
    later = [moved(mail(0), State.ARCHIVED), moved(mail(6), State.DELETED), moved(mail(2), State.EXPIRED)]
    await place.store.transact(lambda tx: tx.merge([mail(1), *later, mail(7)]))
    await place.store.transact(lambda tx: tx.put_account(0, "bob", ACCOUNT))
    await place.store.transact(lambda tx: tx.put_account(3, "eve", ACCOUNT))
    found = held_by(place)
    assert found.slots == {"users": 2, "backups": 4, "held": 2}
    assert counted(found) == {
        ("users", "pending"): 1,
        ("users", "archived"): 1,
        ("users", "account"): 1,
        ("backups", "tombstone"): 1,
        ("backups", "pending"): 1,
        ("held", "tombstone"): 1,
        ("held", "account"): 1,
    }


async def test_roles_follow_links_and_configurations(town: list[Place]) -> None:
    place = town[0]
    assert sorted(held_by(place).acting.slots) == [0, 1]
    town[3].up = False
    found = held_by(place)
    assert sorted(found.acting.slots) == [0, 1, 6, 7]  # Node 3 acted for 6 and 7; this one comes next.
    assert (found.slots, found.acting.without_quorum) == ({"users": 4, "backups": 2, "held": 0}, 0)
    town[1].up = False
    found = held_by(place)
    assert found.acting.without_quorum == 2  # Of 6 and 7 nobody else is left.
    others = tuple(Uid(one.uid) for one in town[1:])
    place.table.learn([KnownConfig(0, Ballot(2, "x"), Config(5, Ballot(2, "x"), (), others))])
    assert 0 not in held_by(place).acting.slots
