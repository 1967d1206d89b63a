"""A lost majority is said alike by all that tell of the ring, and the user is told how many of whom can be reached."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cluster.conftest import MakeRing
from tests.cluster.harness import Ring, get_json, whole
from tests.cluster.lan import Lan, ip, why_not
from tests.cluster.people import person
from tests.cluster.scraping import scrapes, total

from coterie_client.local import admin
from coterie_protocol.identifiers import DEFAULT_SLOTS


def coterie(*arguments: str, home: Path, servers: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "COTERIE_HOME": str(home),
        "COTERIE_SERVERS": servers,
        "COTERIE_PASSWORD": "a b c d e f",
    }
    command = [sys.executable, "-m", "coterie_client", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)


@pytest.mark.timeout(120)
async def test_two_of_three_gone_is_told_alike_everywhere(make_ring: MakeRing, tmp_path: Path) -> None:
    ring: Ring = make_ring(3)
    ring.start()
    await ring.ready()
    await person(ring, tmp_path, "alice")
    survivor, *lost = ring.nodes
    for node in lost:
        node.kill()
    report = await ring.until(lambda found: found.slots_without_quorum == DEFAULT_SLOTS, 20.0)
    assert report.slots_unowned == 0  # the survivor acts for all: that is why this number told nothing
    away = ", ".join(node.name for node in lost)
    found = await survivor.until(lambda found: not found.ready, 5.0)
    assert found.reasons == [f"no slot of this node has a majority of its members: it cannot reach {away}"]
    admin = survivor.place.admin_url
    said = await asyncio.to_thread(get_json, f"{admin}/api/v1/node")
    assert (said["slots_without_quorum"], said["reasons"]) == (DEFAULT_SLOTS, found.reasons)
    assert total(await scrapes([survivor]), "coterie_slots_without_quorum") == DEFAULT_SLOTS
    table = await asyncio.to_thread(coterie, "ring", "--admin", admin, home=tmp_path, servers="")
    assert f"{DEFAULT_SLOTS} slots without a majority" in table.stdout
    assert f"bring back {away}" in table.stdout
    listed = await asyncio.to_thread(coterie, "ring", "--admin", admin, "--json", home=tmp_path, servers="")
    lines = {one["name"]: one for one in map(json.loads, listed.stdout.splitlines())}
    assert lines[survivor.name]["slots_without_quorum"] == DEFAULT_SLOTS
    assert {lines[node.name]["state"] for node in lost} == {"unreachable"}

    done = await asyncio.to_thread(coterie, "register", "bob", home=tmp_path / "bob", servers=survivor.url)
    assert done.returncode == 5
    assert "no majority: 1 of the 3 nodes that hold this name can be reached" in done.stderr
    assert survivor.name not in done.stderr  # it is well

    for node in lost:
        node.start()
    await ring.until(whole(3), 40.0)
    assert (await survivor.until(lambda found: found.ready, 10.0)).reasons == []


@pytest.mark.skipif(bool(why_not()) and not os.environ.get("CI"), reason=why_not())
async def test_three_nodes_that_cannot_find_each_other_each_say_so(lan: Lan) -> None:
    first, *others = lan.machines
    first.run("--found")
    for machine in others:
        machine.run("--seed", f"{first.address}:7401")
    await first.ring(whole(3), 30.0)
    for one in lan.machines:  # each still reaches the switch, from where it is looked at
        for other in lan.machines:
            if other is not one:
                ip("-n", one.namespace, "route", "add", "blackhole", f"{other.address}/32")
    for machine in lan.machines:
        report = await machine.ring(lambda found: found.slots_without_quorum == found.slots, 20.0)
        assert report.slots_unowned == 0
        found = await machine.readiness(lambda found: not found.ready, 5.0)
        assert all(other.name in found.reasons[0] for other in lan.machines if other is not machine)
    for one in lan.machines:
        for other in lan.machines:
            if other is not one:
                ip("-n", one.namespace, "route", "delete", "blackhole", f"{other.address}/32")
    await first.ring(whole(3), 40.0)
    await first.readiness(lambda found: found.ready and not found.reasons, 10.0)


@pytest.mark.timeout(90)
async def test_a_dead_node_is_listed_for_as_long_as_slots_name_it(make_ring: MakeRing) -> None:
    """Also past the time after which another would take its place, when there is no other."""
    ring: Ring = make_ring(3, COTERIE_NODE_REPLACE_AFTER="1")
    ring.start()
    await ring.ready()
    dead = ring.nodes[2]
    dead.kill()
    await ring.until(lambda found: found.slots_under_replicated == found.slots, 20.0)
    await asyncio.sleep(5.0)  # what is tried is that nothing happens
    for node in ring.live:
        report = await asyncio.to_thread(admin.ring_report, node.place.admin_url)
        assert {one.name: one.state for one in report.members}[dead.name] == "unreachable"
    ring.nodes[1].kill()
    await ring.until(lambda found: found.slots_without_quorum == found.slots, 20.0)
    assert [one.state for one in ring.report().members].count("unreachable") == 2
