"""Machines that were told nothing of their own addresses form a ring: each learns from its connections where it is."""

from __future__ import annotations

import os

import pytest
from tests.cluster.harness import whole
from tests.cluster.lan import Lan, Machine, ip, why_not

from coterie_protocol.admin import RingReport

ONE_RING = 25.0
"""Seconds in which three machines must be a ring of three that serves every slot, on a busy machine."""
FOUR, SIX = "0.0.0.0", "[::]"  # of namespaces

pytestmark = pytest.mark.skipif(bool(why_not()) and not os.environ.get("CI"), reason=why_not())


def hosts(report: RingReport) -> dict[str, str]:
    """Return where each member says that it is."""
    return {member.name: member.peer.rpartition(":")[0] for member in report.members}


async def one_ring(machines: list[Machine]) -> RingReport:
    """Wait until every machine sees one whole ring; return it."""
    reports = [await machine.ring(whole(len(machines)), ONE_RING) for machine in machines]
    for machine in machines:
        await machine.readiness(lambda found: found.ready, ONE_RING)
    return reports[0]


@pytest.mark.parametrize(
    ("listen", "seeds"),
    [(FOUR, (4, 4)), (SIX, (6, 6)), (SIX, (4, 6))],
    ids=["ipv4", "ipv6", "both"],
)
async def test_three_machines_form_a_ring_without_advertise(lan: Lan, listen: str, seeds: tuple[int, int]) -> None:
    first, *others = lan.machines
    first.run("--found", listen=listen)
    for machine, family in zip(others, seeds, strict=True):
        machine.run("--seed", f"{first.address if family == 4 else f'[{first.address6}]'}:7401", listen=listen)
    found = hosts(await one_ring(lan.machines))
    wanted = {m.name: m.address if f == 4 else f"[{m.address6}]" for m, f in zip(others, seeds, strict=True)}
    assert {name: found[name] for name in wanted} == wanted
    assert found[first.name] in (first.address, f"[{first.address6}]")


async def test_a_machine_with_several_networks_says_the_one_that_the_others_use(lan: Lan) -> None:
    first, second, third = lan.machines
    for machine, number in ((first, 1), (second, 2)):
        ip("-n", machine.namespace, "link", "add", "backup0", "type", "veth", "peer", "name", "backup1")
        ip("-n", machine.namespace, "address", "add", f"10.9.{number}.1/24", "dev", "backup0")
        ip("-n", machine.namespace, "link", "set", "backup0", "up")
    for machine in (second, third):
        machine.run("--seed", f"{first.address}:7401")
    first.run("--found")
    found = hosts(await one_ring(lan.machines))
    assert found == {machine.name: machine.address for machine in lan.machines}


@pytest.mark.parametrize("number", [1, 2], ids=["the-founder", "another"])
async def test_a_machine_that_comes_back_with_another_address_is_found_there(lan: Lan, number: int) -> None:
    """As DHCP does. The founder's own seeds lead nowhere new: it goes by the peers that it remembers."""
    first, *others = lan.machines
    first.run("--found")
    for machine in others:
        machine.run("--seed", f"{first.address}:7401")
    await one_ring(lan.machines)
    moved = lan.machines[number - 1]
    moved.kill()
    moved.take(f"10.74.0.{number + 20}")
    moved.run(*([] if moved is first else ["--seed", f"{first.address}:7401"]))
    found = hosts(await one_ring(lan.machines))
    assert found == {machine.name: machine.address for machine in lan.machines}


async def test_a_node_that_only_its_own_machine_can_reach_says_so_and_stops(lan: Lan) -> None:
    first, second, _ = lan.machines
    first.run("--found")
    await first.readiness(lambda found: found.state == "forming", 15.0)
    second.run("--seed", f"{first.address}:7401", "--listen-peer", "127.0.0.1:7401")
    await second.logs(f"{first.address}:7401 is on another machine and cannot reach this node at 127.0.0.1:7401", 15.0)
    await second.logs("start it with --listen-peer 0.0.0.0:7401", 1.0)
    assert second.wait(5.0) == 1
