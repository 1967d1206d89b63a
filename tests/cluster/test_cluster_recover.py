"""Two of three disks of a slot are gone for good: what is refused, what is still taken, and the way out."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.cluster.conftest import MakeRing
from tests.cluster.harness import Node, Ring, get_json, whole
from tests.cluster.people import CHEAP, PASSWORD, Person, person, read_all

from coterie_client.connection import Connection
from coterie_client.errors import Unavailable
from coterie_client.session import login, save_session
from coterie_protocol.identifiers import DEFAULT_SLOTS, slot_of_name

PEOPLE = 16


def recover(ring: Ring, *flags: str, stdin: str = "", code: int = 0) -> str:
    """Run `coterie-node recover` against the first living node; return what it printed."""
    command = [sys.executable, "-m", "coterie_node.cli.main", "recover"]
    command += ["--admin-token-file", str(ring.place.token_file)]
    if not any(flag in ("--admin", "--data-dir") for flag in flags):
        command += ["--admin", ring.live[0].place.admin_url]
    done = subprocess.run([*command, *flags], input=stdin, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return done.stdout + done.stderr


def members_by_slot(ring: Ring) -> dict[int, set[str]]:
    slots: dict[int, set[str]] = {}
    for node in ring.live:
        for one in get_json(f"{node.place.admin_url}/api/v1/slots"):
            if one["state"] != "stray":
                slots[one["slot"]] = {*one["old"], *one["new"]}
    return slots


def uid_of(node: Node) -> str:
    return str(get_json(f"{node.place.admin_url}/api/v1/node")["uid"])


async def log_in(ring: Ring, one: Person, patience: float = 30.0) -> None:
    """Log somebody in anew: the session's epoch rises in the account's register."""
    async with Connection(ring.servers, patience=patience) as connection:
        one.session = await login(connection, one.name, PASSWORD, minimum=CHEAP)
    save_session(one.settings.session_file, one.session)


async def doomed(
    ring: Ring, people: list[Person], slots: dict[int, set[str]]
) -> tuple[tuple[Node, Node], set[str], list[Person], list[Person]]:
    """Choose two nodes that are the majority of somebody's slot, and not of somebody else's.

    Return them, their uids, whose slot loses its majority with them, and whose does not.
    """
    uids = {node.name: await asyncio.to_thread(uid_of, node) for node in ring.nodes}
    for one in ring.nodes:
        for two in ring.nodes:
            gone = {uids[one.name], uids[two.name]}
            struck = [who for who in people if len(slots[slot_of_name(who.name, DEFAULT_SLOTS)] & gone) == 2]
            if one is not two and struck and len(struck) < len(people):
                return (one, two), gone, struck, [who for who in people if who not in struck]
    raise AssertionError("no two nodes hold somebody's majority; register more people")


@pytest.mark.timeout(240)
async def test_two_of_three_disks_are_lost_for_good(make_ring: MakeRing, tmp_path: Path) -> None:
    ring = make_ring(5, COTERIE_NODE_REPLACE_AFTER="30")
    ring.start()
    before = await ring.ready()
    people = [await person(ring, tmp_path, f"user{number}") for number in range(PEOPLE)]
    slots = await asyncio.to_thread(members_by_slot, ring)
    lost, gone, struck, spared = await doomed(ring, people, slots)
    sender, reader = spared[0], struck[0]

    assert "nothing to recover" in await asyncio.to_thread(recover, ring)
    live = [node for node in ring.nodes if node not in lost]
    async with sender.online(patience=2.0) as client:
        await client.sender.send(reader.name, "before")
        for node in lost:
            node.kill()
            node.wipe()
        ring.nodes = [*live]
        await ring.until(lambda found: sum(member.state == "ready" for member in found.members) == 3, 20.0)
        # Accounts of these slots answer `unavailable`: a login changes the account.
        with pytest.raises(Unavailable):
            await log_in(ring, reader, patience=5.0)
        # Messages are still taken, on the survivor and a stand-in.
        await asyncio.wait_for(client.sender.send(reader.name, "meanwhile"), 30.0)

    looked = json.loads((await asyncio.to_thread(recover, ring, "--json", code=2)).splitlines()[0])
    stuck = {one["slot"] for one in looked["slots"]}
    assert stuck == {slot for slot, members in slots.items() if len(members & gone) == 2}
    assert all(set(one["lost"]) == gone for one in looked["slots"])
    assert "not confirmed" in await asyncio.to_thread(
        lambda: recover(ring, "--accept-loss", stdin="yes, please\n", code=2)
    )
    begun = time.monotonic()
    said = await asyncio.to_thread(lambda: recover(ring, "--accept-loss", stdin=before.ring_uid + "\n"))
    assert f"{len(stuck)} slots without a majority" in said
    assert "kept at " in said
    await ring.until(lambda found: not found.slots_unowned and not found.slots_forming, 30.0)
    for one in struck:
        await log_in(ring, one)
    print(f"served again after {time.monotonic() - begun:.1f} s")
    await ring.until(whole(3), 120.0)
    print(f"whole again after {time.monotonic() - begun:.1f} s")
    assert (await read_all(reader, 2, 30.0)) == ["before", "meanwhile"]
    assert "nothing to recover" in await asyncio.to_thread(recover, ring, "--data-dir", str(live[0].place.data))
    async with reader.online() as client:
        for one in people:
            if one is not reader:
                await client.sender.send(one.name, "kept")
    for one in people:
        if one is not reader:
            assert await read_all(one, 1, 30.0) == ["kept"]


@pytest.mark.timeout(180)
async def test_two_nodes_that_are_left_serve_with_two_copies(make_ring: MakeRing, tmp_path: Path) -> None:
    """K is 3, and nobody else may ever come: a majority of K disks is what an acknowledgement promises."""
    ring = make_ring(3, COTERIE_NODE_REPLACE_AFTER="3")
    ring.start()
    await ring.ready()
    reader = await person(ring, tmp_path, "alice")
    survivor, second, third = ring.nodes
    for node in (second, third):
        node.kill()
        node.wipe()
    ring.nodes = [survivor, second]
    second.start()  # as another node
    await ring.until(lambda found: sum(one.state != "unreachable" for one in found.members) == 2, 30.0)
    looked = await asyncio.to_thread(recover, ring, code=2)
    assert "these slots are served with 2 copies until another node joins" in looked
    assert "1 account " in looked
    await asyncio.to_thread(lambda: recover(ring, "--accept-loss", "--yes"))
    report = await ring.until(lambda found: not found.slots_without_quorum, 40.0)
    assert report.slots_under_replicated == report.slots  # two copies are not three
    await log_in(ring, reader)
    other = await person(ring, tmp_path, "bob")
    async with other.online() as client:
        await client.sender.send(reader.name, "with two")
    ring.nodes.append(third)
    third.start()
    await ring.until(whole(3), 90.0)
    assert await read_all(reader, 1, 30.0) == ["with two"]


@pytest.mark.timeout(240)
async def test_who_was_given_up_and_comes_back_brings_its_messages_and_no_second_history(
    make_ring: MakeRing, tmp_path: Path
) -> None:
    ring = make_ring(5, COTERIE_NODE_REPLACE_AFTER="20")
    ring.start()
    await ring.ready()
    people = [await person(ring, tmp_path, f"user{number}") for number in range(PEOPLE)]
    slots = await asyncio.to_thread(members_by_slot, ring)
    lost, gone, struck, spared = await doomed(ring, people, slots)
    reader = struck[0]
    uids = {await asyncio.to_thread(uid_of, node): node for node in ring.nodes}
    third = uids[(slots[slot_of_name(reader.name, DEFAULT_SLOTS)] - gone).pop()]

    # What only the two that are going to be lost have confirmed: a login, and a message.
    async with spared[0].online() as client:
        await client.sender.send(reader.name, "everywhere")
        third.kill()
        await log_in(ring, reader)
        await client.sender.send(reader.name, "with the lost")
        third.start()
        for node in lost:
            node.kill()
    at_the_lost = reader.session.epoch
    everyone, ring.nodes = ring.nodes, [node for node in ring.nodes if node not in lost]
    # The third one started alone: it has nobody to compare with, and says `syncing` until the loss is accepted.
    await ring.until(lambda found: sum(member.state in ("ready", "syncing") for member in found.members) == 3, 20.0)
    await asyncio.to_thread(lambda: recover(ring, "--accept-loss", "--yes"))
    await ring.until(lambda found: not found.slots_unowned and not found.slots_forming, 30.0)
    await log_in(ring, reader)
    after = reader.session.epoch

    ring.nodes = everyone
    for node in lost:
        node.start()
    for node in lost:
        await node.logs("begun anew without this node", 20.0)
    await ring.until(whole(5), 90.0)
    await log_in(ring, reader)
    # The history that went on goes on, whoever acts now; the login of the lost is passed over, or was known before.
    assert at_the_lost <= after + 1
    assert reader.session.epoch == after + 1
    assert sorted(await read_all(reader, 2, 30.0)) == ["everywhere", "with the lost"]
