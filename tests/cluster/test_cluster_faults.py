"""Nodes are killed, frozen, wiped and replaced; nothing that was acknowledged is lost, and everything is shown once."""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tests.cluster.conftest import MakeRing
from tests.cluster.harness import Node, whole
from tests.cluster.people import Inbox, Person, Stream, person, read_all, two_people

from coterie_protocol.identifiers import DEFAULT_SLOTS, slot_of_name

NEXT_ACKNOWLEDGEMENT = 1.0
"""Seconds after a kill -9 within which the stream must go on, every time."""
KILLED_GATEWAY = 0.1
"""The median of seconds without an acknowledgement when the client's own node is killed; alone on its machine 0.02."""
FROZEN = 1.5
"""The same for a node that says nothing more: nodes and clients give each other about a second."""


async def time_to_connect(someone: Person) -> float:
    """Return the seconds until a client has found a node and resumed its session: how busy the machine is."""
    begin = time.monotonic()
    async with someone.online():
        return time.monotonic() - begin


def in_order(stream: Stream) -> list[str]:
    """Return what was acknowledged in the order in which it was sent."""
    return sorted(stream.texts, key=lambda text: int(text.split()[1]))


@pytest.mark.timeout(180)
async def test_any_node_may_be_killed_during_a_steady_stream(make_ring: MakeRing, tmp_path: Path) -> None:
    ring = make_ring(5)
    alice, bob = await two_people(ring, tmp_path)
    waits: dict[str, float] = {}
    async with Inbox(bob) as inbox:
        async with alice.online(patience=60.0) as client, Stream(client, bob.name) as stream:
            await stream.steady(50, 10.0)
            owner = await ring.acting_node(slot_of_name(bob.name, DEFAULT_SLOTS))
            gateway = next(node for node in ring.nodes if node.url == inbox.gateway)
            victims: list[tuple[str, Node]] = [("the recipient's gateway", gateway), ("the owner", owner)]
            victims += [(node.name, node) for node in ring.nodes if node not in (gateway, owner)]
            for what, node in victims:
                node.kill()
                waits[what] = await stream.next_acknowledgement(time.monotonic(), 10.0)
                await stream.steady(50, 10.0)
                node.start()
                await ring.ready()
        await inbox.reach(len(stream.texts), 15.0)
    assert inbox.texts == in_order(stream)
    assert max(waits.values()) < NEXT_ACKNOWLEDGEMENT, waits


@pytest.mark.timeout(120)
async def test_a_killed_gateway_is_replaced_within_a_tenth_of_a_second(make_ring: MakeRing, tmp_path: Path) -> None:
    ring = make_ring(5)
    alice, bob = await two_people(ring, tmp_path)
    waits: list[float] = []
    fresh: list[float] = []
    async with alice.online(patience=60.0) as client, Stream(client, bob.name) as stream:
        for _ in range(7):
            await stream.steady(50, 10.0)
            fresh.append(await time_to_connect(alice))
            gateway = next(node for node in ring.nodes if node.url == client.connection.url)
            since = time.monotonic()
            gateway.kill()
            waits.append(await stream.outage(since, 10.0))
            gateway.start()
            await ring.ready()
    found = await read_all(bob, len(stream.texts), 30.0)
    assert sorted(found) == sorted(stream.texts)
    # Where everything is slow, finding another node may take as long as a few connections do.
    assert statistics.median(waits) < max(KILLED_GATEWAY, 6 * statistics.median(fresh)), (waits, fresh)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("what", ["owner", "gateway"])
async def test_a_frozen_node_is_passed_by(make_ring: MakeRing, tmp_path: Path, what: str) -> None:
    """Frozen, it takes connections and says nothing: only its silence tells."""
    ring = make_ring(5)
    alice, bob = await two_people(ring, tmp_path)
    owner = await ring.acting_node(slot_of_name(bob.name, DEFAULT_SLOTS))
    others = tuple(node.url for node in ring.nodes if node is not owner)
    through = replace(alice, settings=replace(alice.settings, servers=others))
    waits: list[float] = []
    fresh: list[float] = []
    async with through.online() as client, Stream(client, bob.name) as stream:
        for _ in range(3):
            await stream.steady(50, 10.0)
            fresh.append(await time_to_connect(through))
            gateway = next(node for node in ring.nodes if node.url == client.connection.url)
            node = owner if what == "owner" else gateway
            since = time.monotonic()
            node.freeze()
            waits.append(await stream.outage(since, 10.0))
            await stream.steady(50, 10.0)
            node.thaw()
            await ring.ready()
    found = await read_all(bob, len(stream.texts), 30.0)
    assert sorted(found) == sorted(stream.texts)
    assert statistics.median(waits) < max(FROZEN, 1.0 + 10 * statistics.median(fresh)), (waits, fresh)


@pytest.mark.timeout(90)
async def test_all_killed_at_once_and_started_again(make_ring: MakeRing, tmp_path: Path) -> None:
    ring = make_ring(5)
    alice, bob = await two_people(ring, tmp_path)
    async with alice.online(patience=60.0) as client, Stream(client, bob.name) as stream:
        await stream.steady(200, 10.0)
        for node in ring.nodes:
            node.signal(9)
        for node in ring.nodes:
            node.wait(5.0)
        begin = time.monotonic()
        ring.start()
        await stream.next_acknowledgement(begin, 20.0)
        took = time.monotonic() - begin
        await stream.steady(50, 10.0)
    found = await read_all(bob, len(stream.texts), 30.0)
    assert found == in_order(stream)
    assert took < 5.0


@pytest.mark.timeout(180)
async def test_a_lost_disk_is_made_good_and_then_two_more_nodes_may_go(make_ring: MakeRing, tmp_path: Path) -> None:
    ring = make_ring(5, COTERIE_NODE_REPLACE_AFTER="2")
    alice, bob = await two_people(ring, tmp_path)
    people = [await person(ring, tmp_path, f"reader{i}") for i in range(20)]
    async with alice.online() as client:
        sent = {reader.name: [f"{i} for {reader.name}" for i in range(10)] for reader in people}
        await asyncio.gather(*(client.sender.submit(to, text)[1] for to, texts in sent.items() for text in texts))
    # The disk goes for good; another node joins.
    lost = await ring.acting_node(slot_of_name(people[0].name, DEFAULT_SLOTS))
    lost.kill()
    lost.wipe()
    ring.add().start()
    await ring.until(whole(5), 60.0)
    # Two more in turn, each for good.
    for _ in range(2):
        gone = next(node for node in ring.live if node is not ring.nodes[-1])
        gone.kill()
        gone.wipe()
        await ring.until(whole(len(ring.live)), 60.0)
    assert len(ring.live) == 3
    for reader in people:
        assert await read_all(reader, 10, 30.0) == sent[reader.name]
    async with bob.online() as client:
        await client.sender.send(alice.name, "accounts have survived, too")
    assert await read_all(alice, 1, 30.0) == ["accounts have survived, too"]


@pytest.mark.timeout(90)
async def test_a_restart_moves_nothing(make_ring: MakeRing, tmp_path: Path) -> None:
    ring = make_ring(3)
    alice, bob = await two_people(ring, tmp_path)
    node = ring.nodes[1]
    assert node.terminate() == 0
    async with alice.online() as client:
        await client.sender.send(bob.name, "while one of three is away")
    node.start()
    report = await ring.ready()
    assert len(report.members) == 3
    ring.nodes[0].kill()
    ring.nodes[2].kill()
    ring.nodes[0].start()
    await ring.until(lambda found: not found.slots_unowned, 30.0)
    assert await read_all(bob, 1, 30.0) == ["while one of three is away"]
