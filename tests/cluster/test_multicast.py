"""Nodes of an office network find each other by multicast, knowing nothing but the ring's secret."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.cluster.harness import whole
from tests.cluster.lan import ETHERNET, Lan, ip, why_not

from coterie_protocol.admin import RingReport

ONE_RING = 3.0
"""Seconds from the start of the last of three nodes until they are one ring."""
FOUND_AGAIN = 10.0
"""Seconds in which a ring whose nodes have all moved must be one again, the start of the processes included."""
FOUR = 4

pytestmark = pytest.mark.skipif(bool(why_not()) and not os.environ.get("CI"), reason=why_not())


@pytest.fixture
def lan(tmp_path: Path) -> Iterator[Lan]:
    made = Lan(tmp_path)
    try:
        made.build(FOUR)
        yield made
    finally:
        made.close()


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "ring.secret"
    file.write_text("correct horse battery staple\n")
    return file


@pytest.fixture
def other_secret(tmp_path: Path) -> Path:
    file = tmp_path / "other.secret"
    file.write_text("wrong horse battery staple\n")
    return file


def together(nodes: int) -> Callable[[RingReport], bool]:
    """Return what says whether a ring has so many members, and each of them can be reached."""

    def check(report: RingReport) -> bool:
        return len(report.members) == nodes and all(one.state != "unreachable" for one in report.members)

    return check


def is_founder(number: int) -> list[str]:
    return ["--found"] if number == 0 else []


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0)], ids=["founder-first", "second", "last"])
async def test_three_started_in_any_order_are_one_ring(lan: Lan, secret: Path, order: tuple[int, ...]) -> None:
    *first, last = (lan.machines[number] for number in order)
    for machine in first:
        machine.start(secret, *is_founder(lan.machines.index(machine)))
        await machine.readiness(lambda found: not found.ready, 15.0)
    last.start(secret, *is_founder(lan.machines.index(last)))
    begin = time.monotonic()
    reports = [await machine.ring(together(3), 15.0) for machine in (*first, last)]
    took = time.monotonic() - begin
    assert len({report.ring_uid for report in reports}) == 1
    await last.ring(whole(3), 15.0)
    assert took < ONE_RING
    assert last.terminate() == 0


async def test_three_started_at_once_are_one_ring(lan: Lan, secret: Path) -> None:
    begin = time.monotonic()
    for machine in lan.machines[:3]:
        machine.start(secret, "--founder", "node-2")  # told alike, as a StatefulSet tells its pods
    reports = [await machine.ring(together(3), 15.0) for machine in lan.machines[:3]]
    took = time.monotonic() - begin
    assert len({report.ring_uid for report in reports}) == 1
    assert took < ONE_RING


async def test_a_node_without_the_secret_stays_out_and_says_so(lan: Lan, secret: Path, other_secret: Path) -> None:
    founder, second, third, outsider = lan.machines
    founder.start(secret, "--found")
    outsider.start(other_secret)
    words = "hears nodes that have another secret (from "
    found = await outsider.readiness(lambda found: any(words in reason for reason in found.reasons), 15.0)
    assert founder.address in found.reasons[0]
    await outsider.logs(f"{words}{founder.address})", 5.0)
    await founder.logs(f"{words}{outsider.address})", 5.0)
    second.start(secret)
    third.start(secret)
    report = await third.ring(whole(3), 20.0)
    assert outsider.name not in {member.name for member in report.members}
    still = await outsider.readiness(lambda found: bool(found.reasons), 5.0)
    assert (still.ready, still.state) == (False, "joining")
    assert "correct horse" not in outsider.log() + founder.log()
    assert "wrong horse" not in outsider.log() + founder.log()


@pytest.mark.parametrize("addresses", [(2, 3, 1), (11, 12, 13)], ids=["anothers", "new"])
async def test_after_a_power_cut_every_node_has_moved(lan: Lan, secret: Path, addresses: tuple[int, ...]) -> None:
    """What each node remembers of the others is wrong and leads to a third one, or nowhere: only discovery knows."""
    machines = lan.machines[:3]
    for number, machine in enumerate(machines):
        machine.start(secret, "--preset", "cluster", *is_founder(number))
    before = await machines[0].ring(whole(3), 20.0)
    for machine in machines:
        machine.kill()
    for machine, number in zip(machines, addresses, strict=True):
        machine.take(f"10.74.0.{number}")
    for machine in machines:
        machine.start(secret, "--preset", "cluster")
    begin = time.monotonic()
    for machine in machines:
        after = await machine.ring(together(3), 20.0)
        assert after.ring_uid == before.ring_uid
    took = time.monotonic() - begin
    await machines[0].ring(whole(3), 20.0)
    assert took < FOUND_AGAIN


async def test_who_cannot_join_waits_and_says_why(lan: Lan, secret: Path) -> None:
    founder, alike, stranger, larger = lan.machines
    alike.start(secret, "--founder", founder.name, "--ring-uid", "")
    await alike.readiness(lambda found: f"{founder.name} is to found it" in found.reasons[0], 15.0)
    stranger.start(secret, "--ring-uid", "f" * 32)
    larger.start(secret, "--replication-factor", "5")
    founder.start(secret, "--founder", founder.name)
    report = await alike.ring(together(2), 15.0)
    await stranger.readiness(lambda found: "hears nodes of another ring" in found.reasons[0], 15.0)
    await larger.readiness(lambda found: "has --replication-factor 3, not 5" in found.reasons[0], 15.0)
    assert {member.name for member in report.members} == {founder.name, alike.name}


async def test_a_cable_that_is_plugged_in_later_is_used(lan: Lan, secret: Path) -> None:
    founder, late, *_ = lan.machines
    ip("-n", late.namespace, "link", "delete", ETHERNET)
    founder.start(secret, "--found")
    late.start(secret, "--multicast-interface", ETHERNET)
    await founder.readiness(lambda found: found.state == "forming", 15.0)
    await late.logs(f"there is no interface {ETHERNET}", 15.0)
    late.plug_in(late.address)
    report = await late.ring(together(2), 15.0)
    assert {member.name for member in report.members} == {founder.name, late.name}
