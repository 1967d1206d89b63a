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
from tests.cluster.harness import CHEAP, PASSWORD, Node, Person, Ring, get_json, person, read_all, whole

from coterie_client.connection import Connection
from coterie_client.errors import Unavailable
from coterie_client.session import login, save_session
from coterie_protocol.identifiers import DEFAULT_SLOTS, slot_of_name

PEOPLE = 16


def recover(ring: Ring, *flags: str, stdin: str = "", code: int = 0) -> str:
    """Run `coterie-node recover` against the first living node; return what it printed."""
    command = [sys.executable, "-m", "coterie_node.main", "recover"]
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


@pytest.mark.timeout(240)
async def test_two_of_three_disks_are_lost_for_good(make_ring: MakeRing, tmp_path: Path) -> None:
    ring = make_ring(5, COTERIE_NODE_REPLACE_AFTER="30")
    ring.start()
    before = await ring.ready()
    people = [await person(ring, tmp_path, f"user{number}") for number in range(PEOPLE)]
    slots = await asyncio.to_thread(members_by_slot, ring)

    # Two nodes whose loss takes the majority of somebody's slot, and leaves somebody else's slot alone.
    def fate(name: str, gone: set[str]) -> int:
        return len(slots[slot_of_name(name, DEFAULT_SLOTS)] & gone)

    uids = {node.name: await asyncio.to_thread(uid_of, node) for node in ring.nodes}
    pairs = [(one, two) for one in ring.nodes for two in ring.nodes if one.name < two.name]
    lost = next(
        pair
        for pair in pairs
        if {1, 2} <= {min(fate(one.name, {uids[node.name] for node in pair}), 2) or 1 for one in people}
    )
    gone = {uids[node.name] for node in lost}
    struck = [one for one in people if fate(one.name, gone) == 2]
    spared = [one for one in people if fate(one.name, gone) < 2]
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
