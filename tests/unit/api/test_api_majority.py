"""Slots without a majority are what counts, and every place says the same number and names who is missing."""

from __future__ import annotations

import msgspec
import pytest
from tests.unit.api.town import SLOTS, Place

from coterie_protocol.admin import NodeReport, RingReport
from coterie_protocol.admin_messages import MemberReport


async def test_two_of_three_gone_leaves_no_slot_a_majority(town: list[Place]) -> None:
    for place in town[1:]:
        place.up = False
    report = await town[0].view.ring_report()
    assert report.slots_without_quorum == SLOTS  # though the survivor acts for six of them
    assert (await town[0].view.node_report()).slots_without_quorum == 6
    assert {member.name: member.slots_without_quorum for member in report.members}["node-0"] == 6
    found = town[0].view.readiness()
    assert (found.ready, found.state) == (False, "ready")
    assert found.reasons == [
        "no slot of this node has a majority of its members: it cannot reach node-1, node-2, node-3"
    ]


async def test_who_still_serves_some_slots_stays_ready_and_says_which_it_cannot(town: list[Place]) -> None:
    town[1].up = town[2].up = False
    report = await town[0].view.ring_report()
    assert report.slots_without_quorum == 4  # 0 and 1, which node 0 acts for, and 2 and 3, which node 3 does
    assert report.slots_unowned == 0
    found = town[0].view.readiness()
    assert (found.ready, found.state) == (True, "ready")
    assert found.reasons == ["2 slots that it acts for have no majority: it cannot reach node-1, node-2"]


async def test_a_whole_ring_has_nothing_to_say(town: list[Place]) -> None:
    assert (await town[0].view.ring_report()).slots_without_quorum == 0
    assert town[0].view.readiness().reasons == []


async def test_a_majority_that_its_owner_cannot_reach_is_none(
    town: list[Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Node 0 has lost its links to all but node 3, which hears everybody: but it is node 0 that acts."""
    alone = town[0].table
    monkeypatch.setattr(alone, "live", lambda uid: uid in (town[0].uid, town[3].uid))
    report = await town[3].view.ring_report()
    assert report.slots_without_quorum == 2  # 0 and 1: everybody leaves them to node 0, which reaches no other member
    assert report.slots_unowned == 0


def test_reports_of_the_release_before_are_read() -> None:
    old = msgspec.json.encode(
        {
            "ring_uid": "ab" * 16,
            "replication_factor": 3,
            "slots": 8,
            "members": [],
            "slots_under_replicated": 0,
            "slots_unowned": 2,
        }
    )
    assert msgspec.json.decode(old, type=RingReport).slots_without_quorum == 0
    assert "slots_without_quorum" in NodeReport.__struct_fields__
    assert MemberReport.__struct_fields__[-1] == "short"
