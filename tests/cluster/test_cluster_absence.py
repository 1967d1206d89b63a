"""Nodes that are away: for a moment, which moves nothing, and for so long that the ring goes on without them."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.conftest import MakeRing
from tests.cluster.harness import Node, Ring, get_json, whole
from tests.cluster.people import Stream, read_all, two_people

SHORT_LIVED = {
    "COTERIE_NODE_MESSAGE_TTL": "10m",
    "COTERIE_NODE_TOMBSTONE_TTL": "602s",
    "COTERIE_NODE_REPLACE_AFTER": "1",
}
"""A node may be away for two seconds."""


async def asked(node: Node, path: str) -> Any:
    return await asyncio.to_thread(get_json, f"{node.place.admin_url}/api/v1/{path}")


async def configurations(ring: Ring) -> dict[int, tuple[int, list[str]]]:
    """Return each slot's (epoch, members) once all nodes that know of it say the same, and none is joint.

    A ring is whole when the slots' members are; who is a member no more hears of the last change a moment later.
    Raises AssertionError when they have not come to agree within ten seconds.
    """
    deadline = time.monotonic() + 10.0
    while True:
        found: dict[int, set[tuple[int, tuple[str, ...]]]] = {}
        joint = []
        for node in ring.nodes:
            for report in await asked(node, "slots"):
                found.setdefault(report["slot"], set()).add((report["epoch"], tuple(report["new"])))
                joint += [report] if report["old"] else []
        disputed = {slot: said for slot, said in found.items() if len(said) > 1}
        if not joint and not disputed:
            return {slot: (epoch, list(members)) for slot, ((epoch, members),) in found.items()}
        assert time.monotonic() < deadline, (joint[:3], dict(list(disputed.items())[:3]))
        await asyncio.sleep(0.05)


async def nothing_moved(ring: Ring, before: dict[int, tuple[int, list[str]]]) -> None:
    """Find every slot as it was; say of a few what became of them, and of how many more something did."""
    now = await configurations(ring)
    moved = {slot: (before.get(slot), now.get(slot)) for slot in sorted({*before, *now})}
    moved = {slot: pair for slot, pair in moved.items() if pair[0] != pair[1]}
    assert not moved, f"{len(moved)} slots: {dict(list(moved.items())[:3])}"


@pytest.mark.timeout(120)
async def test_a_rolling_restart_under_load_moves_nothing(make_ring: MakeRing, tmp_path: Path) -> None:
    """Five nodes are stopped and started, one after the other: no slot's configuration changes, no message is lost."""
    ring = make_ring(5)
    alice, bob = await two_people(ring, tmp_path)
    before = await configurations(ring)
    async with alice.online(patience=60.0) as client, Stream(client, bob.name) as stream:
        for node in ring.nodes:
            await stream.steady(20, 10.0)
            assert node.terminate() == 0
            await stream.steady(20, 10.0)
            node.start()
            await ring.ready()
    await nothing_moved(ring, before)
    found = await read_all(bob, len(stream.texts), 30.0)
    assert sorted(found) == sorted(stream.texts)


@pytest.mark.timeout(120)
async def test_a_node_that_was_away_too_long_returns_as_a_new_one(make_ring: MakeRing, tmp_path: Path) -> None:
    """The ring replaced it meanwhile: it says so, empties itself and joins with another uid; no message is lost."""
    ring = make_ring(5, **SHORT_LIVED)
    alice, bob = await two_people(ring, tmp_path)
    async with alice.online() as client:
        sent = [f"message {number}" for number in range(50)]
        await asyncio.gather(*(client.sender.submit(bob.name, text)[1] for text in sent))
    away = ring.nodes[3]
    old = (await asked(away, "node"))["uid"]
    away.kill()
    await ring.until(whole(4), 30.0)
    await asyncio.sleep(2.0)
    away.start()
    await ring.until(whole(5), 40.0)
    assert (await asked(away, "node"))["uid"] != old
    await away.logs("the ring went on without this node: it empties itself", 5.0)
    assert sorted(await read_all(bob, 50, 30.0)) == sorted(sent)


@pytest.mark.timeout(120)
async def test_a_ring_that_slept_too_long_wakes_up_as_it_was(make_ring: MakeRing, tmp_path: Path) -> None:
    """All nodes were away, so nobody went on without anybody; who wakes up first says what it waits for."""
    ring = make_ring(3, **SHORT_LIVED)
    alice, bob = await two_people(ring, tmp_path)
    async with alice.online() as client:
        await client.sender.send(bob.name, "before the winter")
    before = await configurations(ring)
    ring.stop()
    await asyncio.sleep(3.0)
    ring.nodes[0].start()
    found = await ring.nodes[0].until(lambda one: any("was away for" in reason for reason in one.reasons), 10.0)
    assert not found.ready
    ring.start()
    await ring.ready(40.0)
    await nothing_moved(ring, before)
    assert await read_all(bob, 1, 30.0) == ["before the winter"]
