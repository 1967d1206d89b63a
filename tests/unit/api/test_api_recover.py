"""Slots that lost their majority: what a recovery shows, does, and leaves alone."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import msgspec
import pytest
from tests.unit.api.town import SLOTS, Place, mail

from coterie_node.replication.consensus.acceptor import account_read, config_accept, config_learn, config_prepare
from coterie_node.store.store import DATABASE_NAME
from coterie_protocol.errors import CoterieError, ErrorCode, StaleEpoch
from coterie_protocol.identifiers import Uid
from coterie_protocol.recovery import RecoveryEnd, RecoveryQuery
from coterie_protocol.registers import (
    ACCOUNT_ZERO,
    AccountBallot,
    AccountRead,
    AccountRegister,
    Ballot,
    Config,
    KnownConfig,
    SlotRegister,
)


async def registered(town: list[Place]) -> None:
    """Write everybody's registers to disk, and an account of each slot to all of its members."""
    for place in town:
        for slot in range(SLOTS):
            known = place.table.known(slot)
            assert known is not None
            if place.uid in known.config.members:
                account = AccountRegister(ACCOUNT_ZERO, AccountBallot(3, 1, "x"), b"old")
                await place.store.transact(
                    lambda tx, known=known, account=account: (  # type: ignore[misc]
                        tx.put_slot_register(known.slot, SlotRegister(known.ballot, known.ballot, known.config)),
                        tx.put_account(known.slot, "bob", account),
                    )
                )


async def test_slots_with_a_majority_are_left_alone(town: list[Place]) -> None:
    await registered(town)
    town[3].up = False
    ring_uid = town[0].ring_uid
    assert (await town[0].view.recover(None)).slots == []
    report = await town[0].view.recover(ring_uid)
    assert (report.accepted, report.slots) == (True, [])
    with pytest.raises(CoterieError, match="not to other") as caught:
        await town[0].view.recover("other")
    assert caught.value.wire_code is ErrorCode.BAD_REQUEST


async def test_a_lost_majority_is_gone_on_without_once_it_is_accepted(town: list[Place]) -> None:
    await registered(town)
    newer = AccountRegister(ACCOUNT_ZERO, AccountBallot(3, 9, "x"), b"new")
    await town[1].store.transact(lambda tx: tx.put_account(3, "bob", newer))
    await town[0].store.transact(lambda tx: tx.merge([mail(0)]))
    town[2].up = town[3].up = False
    looked = await town[1].view.recover(None)
    # Slots 2 to 5 have 2 and 3 among their members: 1, 2, 3 and 2, 3, 0.
    assert [(one.slot, one.keeper, one.state) for one in looked.slots] == [
        (2, town[1].uid, "stuck"),
        (3, town[1].uid, "stuck"),
        (4, town[0].uid, "stuck"),
        (5, town[0].uid, "stuck"),
    ]
    assert {tuple(one.lost) for one in looked.slots} == {(town[2].uid, town[3].uid)}
    assert await town[1].store.read(lambda tx: tx.slot_register(3)) == SlotRegister(*_state(town[1], 3))
    report = await town[1].view.recover(town[1].ring_uid)
    assert [(one.state, one.accounts, one.given_up) for one in report.slots] == [("recovered", 1, [])] * 4
    for slot, keeper in ((2, town[1]), (3, town[1]), (4, town[0]), (5, town[0])):
        register = await keeper.store.read(lambda tx, slot=slot: tx.slot_register(slot))  # type: ignore[misc]
        assert register is not None
        assert register.config is not None
        assert (register.config.generation, register.config.old, register.config.new) == (1, (), (Uid(keeper.uid),))
    assert await town[1].store.read(lambda tx: tx.account(3, "bob")) == newer
    assert (await town[1].view.recover(None)).slots == []


async def test_who_comes_back_too_late_puts_its_accounts_aside(town: list[Place]) -> None:
    await registered(town)
    town[2].up = town[3].up = False
    # A proposer may be counting from there already, and so may those that were lost.
    high = Ballot((1 << 32) + 5, "z")
    await town[1].store.transact(lambda tx: config_prepare(tx, [(3, high)]))
    await town[2].store.transact(lambda tx: config_prepare(tx, [(3, high)]))
    await town[2].store.transact(lambda tx: config_accept(tx, [KnownConfig(3, high, _state(town[2], 3)[2])]))
    await town[1].view.recover(town[1].ring_uid)
    known = town[1].table.own(3)
    assert known is not None
    assert known.config.generation == 1
    lost = town[2]
    known = KnownConfig(3, Ballot(high.counter - 1, "a"), known.config)
    assert await lost.store.transact(lambda tx: config_learn(tx, [known])) == [known]
    assert await lost.store.read(lambda tx: tx.account(3, "bob")) is None
    aside = await lost.store.read(lambda tx: tx.meta("aside/3/3"))
    assert msgspec.msgpack.decode(aside or b"", type=list[tuple[str, AccountRegister]])[0][1].value == b"old"
    # Its vote under the old configuration counts no more, wherever the others of it are.
    with pytest.raises(StaleEpoch):
        await lost.store.transact(lambda tx: account_read(tx, AccountRead(3, 3, Ballot(1, "x"), ["bob"])))


async def test_a_slot_of_which_nobody_is_left_begins_empty_where_the_ring_wants_it(town: list[Place]) -> None:
    await registered(town)
    for place in town[1:]:
        place.up = False
    report = await town[0].view.recover(town[0].ring_uid)
    gone = next(one for one in report.slots if one.slot == 2)
    assert (gone.keeper, gone.accounts, gone.state) == (town[0].uid, 0, "recovered")
    assert gone.may_be_lost.startswith("every account and message")
    assert {one.slot for one in report.slots} == set(range(SLOTS))


async def test_two_recoveries_do_not_run_at_once(town: list[Place]) -> None:
    await registered(town)
    town[2].up = town[3].up = False
    await town[0].dispatcher.request(Uid(town[1].uid), RecoveryQuery("somebody else's", 0))
    with pytest.raises(CoterieError, match="another recovery is under way") as caught:
        await town[1].view.recover(town[1].ring_uid)
    assert caught.value.wire_code is ErrorCode.BUSY
    town[0].dispatcher.event(Uid(town[1].uid), RecoveryEnd("somebody else's"))
    assert len((await town[1].view.recover(town[1].ring_uid)).slots) == 4


async def test_a_damaged_only_copy_is_named(town: list[Place], tmp_path: Path) -> None:
    await registered(town)
    town[2].up = town[3].up = False
    connection = sqlite3.connect(tmp_path / "node-1" / DATABASE_NAME, timeout=10)
    with connection:
        connection.execute("UPDATE accounts SET register = x'00' WHERE slot = 3")
        connection.execute("UPDATE slot_registers SET register = x'00' WHERE slot = 3")
    connection.close()
    report = await town[0].view.recover(town[0].ring_uid)
    damaged = next(one for one in report.slots if one.slot == 3)
    assert (damaged.keeper, damaged.state, damaged.given_up) == (town[1].uid, "recovered", ["bob"])
    assert await town[1].store.read(lambda tx: tx.damaged_registers([3])) == []


async def test_a_joint_configuration_whose_new_members_died_is_gone_back_from(town: list[Place]) -> None:
    await registered(town)
    old, new = tuple(Uid(one.uid) for one in town[:2]), tuple(Uid(one.uid) for one in town[2:])
    ballot = Ballot(7, "x")
    joint = KnownConfig(0, ballot, Config(4, ballot, old, new))
    for place in town[:2]:
        await place.store.transact(lambda tx: tx.put_slot_register(0, SlotRegister(ballot, ballot, joint.config)))
        place.table.stored(joint)
    newer = AccountRegister(ACCOUNT_ZERO, AccountBallot(4, 2, "x"), b"under the joint one")
    await town[1].store.transact(lambda tx: tx.put_account(0, "bob", newer))
    town[2].up = town[3].up = False
    report = await town[1].view.recover(town[1].ring_uid)
    one = next(one for one in report.slots if one.slot == 0)
    assert (one.keeper, one.state, one.epoch, one.lost) == (town[0].uid, "recovered", 4, list(new))
    # The keeper has what the other old member had accepted since.
    assert await town[0].store.read(lambda tx: tx.account(0, "bob")) == newer


async def test_two_damaged_registers_of_three_are_a_lost_majority(town: list[Place], tmp_path: Path) -> None:
    await registered(town)
    for number in (1, 2):
        connection = sqlite3.connect(tmp_path / f"node-{number}" / DATABASE_NAME, timeout=10)
        with connection:
            connection.execute("UPDATE slot_registers SET register = x'00' WHERE slot = 1")
        connection.close()
    report = await town[3].view.recover(town[3].ring_uid)
    assert [(one.slot, one.keeper, one.lost) for one in report.slots] == [
        (1, town[0].uid, [town[1].uid, town[2].uid]),
    ]
    known = town[0].table.own(1)
    assert known is not None
    # Told of it, a damaged register is whole again: the new ballot is above every mark.
    await town[1].store.transact(lambda tx: config_learn(tx, [known]))
    assert await town[1].store.read(lambda tx: tx.damaged_registers([1])) == []


def _state(place: Place, slot: int) -> tuple[Ballot, Ballot, Config]:
    known = place.table.known(slot)
    assert known is not None
    return known.ballot, known.ballot, known.config
