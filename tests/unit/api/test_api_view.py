"""What a node says of itself and of the ring: real stores and slot tables, joined without sockets."""

from __future__ import annotations

import pytest
from tests.unit.api.town import SLOTS, Place, mail

from coterie_protocol.admin import HandOver
from coterie_protocol.errors import CoterieError, ErrorCode
from coterie_protocol.identifiers import Uid
from coterie_protocol.registers import ACCOUNT_ZERO, AccountBallot, AccountRegister, Ballot, Config, KnownConfig


async def test_slots_and_records_are_counted_by_role(town: list[Place]) -> None:
    await town[0].store.transact(lambda tx: tx.merge([mail(0), mail(6), mail(2)]))
    await town[0].store.transact(
        lambda tx: tx.put_account(0, "bob", AccountRegister(ACCOUNT_ZERO, AccountBallot(3, 1, "x"), b"v"))
    )
    report = await town[0].view.node_report()
    # Node 0 owns 0 and 1, backs up 4 to 7, and holds a record of slot 2, of which it is no member.
    assert (report.slots.users, report.slots.backups, report.slots.held) == (2, 4, 1)
    assert (report.records.users, report.records.backups, report.records.held) == (2, 1, 1)
    assert (report.state, report.reasons, report.sessions) == ("ready", [], 2)


async def test_the_walk_finds_everybody_and_the_arcs_add_up(town: list[Place]) -> None:
    report = await town[1].view.ring_report()
    assert [member.name for member in report.members] == ["node-0", "node-1", "node-2", "node-3"]
    assert [member.arc_share for member in report.members] == [0.25] * 4
    assert [member.position_ratio for member in report.members] == [0.0, 0.25, 0.5, 0.75]
    assert sum(member.slots.users for member in report.members) == SLOTS
    assert (report.slots_unowned, report.slots_forming, report.slots_under_replicated) == (0, 0, 0)


async def test_a_dead_member_is_shown_for_as_long_as_a_slot_names_it(town: list[Place]) -> None:
    town[2].up = False
    town[1].under = [2, 3]
    for place in town:
        place.next = [ref for ref in place.next if ref.uid != town[2].uid]
    report = await town[0].view.ring_report()
    states = {member.name: member.state for member in report.members}
    assert states == {"node-0": "ready", "node-1": "ready", "node-3": "ready", "node-2": "unreachable"}
    assert report.slots_unowned == 0  # the next member acts
    assert report.slots_under_replicated == 2
    assert sum(member.arc_share for member in report.members) == 1.0


async def test_slots_that_nobody_acts_for_are_counted(town: list[Place]) -> None:
    for place in town[1:]:
        place.up = False
    report = await town[0].view.ring_report()
    assert report.slots_unowned == 2  # 2 and 3 belong to nodes 1, 2 and 3


async def test_states_and_their_reasons(town: list[Place]) -> None:
    place = town[0]
    place.synced = False
    assert place.view.readiness().state == "syncing"
    place.fault = "disk full"
    assert any("disk full" in reason for reason in place.view.readiness().reasons)
    place.synced, place.fault = True, ""
    assert place.view.readiness().ready
    place.table.stored(KnownConfig(0, Ballot(2, "x"), Config(4, Ballot(2, "x"), (), (Uid(place.uid),))))
    found = place.view.readiness()
    assert (found.ready, found.state) == (False, "forming")
    place.ring_uid = ""
    found = place.view.readiness()
    assert (found.state, found.reasons) == ("joining", ["waiting for a ring to answer at 127.0.0.1:7401"])


async def test_a_full_disk_takes_readiness_but_not_the_state(town: list[Place]) -> None:
    town[0].fault = "disk full"
    found = town[0].view.readiness()
    assert (found.ready, found.state) == (False, "ready")
    assert found.reasons == ["the store cannot be written: disk full"]


async def test_slots_are_listed_by_state(town: list[Place]) -> None:
    place = town[0]
    await place.store.transact(lambda tx: tx.merge([mail(2)]))
    place.under = [1]
    joint = Config(4, Ballot(2, "x"), (Uid(place.uid),), tuple(Uid(one.uid) for one in town[:3]))
    place.table.stored(KnownConfig(0, Ballot(2, "x"), joint))
    by_state = {
        state: await place.view.slot_reports(state) for state in ("plain", "joint", "under_replicated", "stray")
    }
    assert {state: [report.slot for report in found] for state, found in by_state.items()} == {
        "plain": [4, 5, 6, 7],
        "joint": [0],
        "under_replicated": [1],
        "stray": [2],
    }
    assert len(await place.view.slot_reports(None)) == 7
    assert {operation.kind for operation in await place.view.operations()} == {"handover", "repair", "strays"}


async def test_leaving_is_refused_while_the_rest_could_not_hold_everything(town: list[Place]) -> None:
    town[3].up = False
    with pytest.raises(CoterieError, match="other 2 ready nodes cannot hold 3 copies") as caught:
        await town[0].view.leave()
    assert caught.value.wire_code is ErrorCode.BUSY
    assert not town[0].me.leaving


async def test_leaving_and_taking_it_back(town: list[Place]) -> None:
    place = town[0]
    await place.view.leave()
    await place.view.leave()
    assert place.view.readiness().state == "leaving"
    leave = next(operation for operation in await place.view.operations() if operation.kind == "leave")
    assert (leave.state, leave.detail) == ("running", "6 slots to go")
    others = [one.uid for one in town[1:]]
    for slot in range(SLOTS):
        uids = tuple(Uid(uid) for uid in others)
        place.table.stored(KnownConfig(slot, Ballot(9, "x"), Config(9, Ballot(9, "x"), (), uids)))
    place.strays = 2
    assert place.view.readiness().state == "leaving"
    assert place.view.readiness().reasons == ["leaving: the contents of 2 slots are still being given to their members"]
    place.strays = 0
    assert place.view.readiness().state == "left"
    await place.view.cancel_leave()
    assert place.view.readiness().state == "ready"


async def test_moving_stays_on_the_circle(town: list[Place]) -> None:
    await town[0].view.move(7)
    for position in (-1, SLOTS):
        with pytest.raises(CoterieError, match="0 to 7"):
            await town[0].view.move(position)
    assert town[0].moved == [7]


async def test_slots_on_their_way_are_told_by_giver_and_taker(town: list[Place]) -> None:
    one, two, three, four = (Uid(place.uid) for place in town)
    ballot = Ballot(9, "x")
    town[0].table.stored(KnownConfig(0, ballot, Config(9, ballot, (one, two, three), (one, two, four))))
    town[0].table.stored(KnownConfig(1, ballot, Config(9, ballot, (one, two, three), (one, two, four))))
    report = await town[1].view.ring_report()
    by_name = {member.name: member.handovers for member in report.members}
    assert by_name == {"node-0": [HandOver(three, four, 2)], "node-1": [], "node-2": [], "node-3": []}
    town[0].table.stored(KnownConfig(0, Ballot(10, "x"), Config(10, ballot, (one,), (one, two, three))))
    assert {(found.giver, found.taker) for found in (await town[0].view.ring_report()).members[0].handovers} == {
        (one, two),
        (one, three),
        (three, four),
    }


async def test_a_lookup_is_told_with_its_way_and_who_holds_the_slot(town: list[Place]) -> None:
    found = await town[0].view.lookup(4)
    assert (found.slot, found.position_ratio, found.start) == (4, 0.5, town[0].uid)
    assert [(hop.name, hop.position, hop.rtt_seconds, hop.answered) for hop in found.hops] == [
        ("node-1", 2, 0.25, True)
    ]
    assert (found.owner, found.successors) == (town[2].uid, [town[0].uid])
    assert found.holders == [town[2].uid, town[3].uid, town[0].uid]


async def test_who_watches_is_told_of_neighbours_and_of_slots(town: list[Place]) -> None:
    told: list[str] = []
    town[0].view.watch(lambda: told.append("changed"))
    for neighbours_changed in town[0].watchers:
        neighbours_changed()
    assert told == ["changed"]
    town[0].table.stored(KnownConfig(0, Ballot(9, "x"), Config(9, Ballot(9, "x"), (), (Uid(town[0].uid),))))
    assert told == ["changed", "changed"]
