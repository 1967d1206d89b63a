"""Damage on the disks of real nodes: found while they run, or by `coterie-node check`, and made good by the others."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.conftest import MakeRing
from tests.cluster.harness import Node, Ring, whole
from tests.cluster.people import Person, person, read_all
from tests.cluster.test_cluster_recover import uid_of
from tests.unit.store.making import behind_the_back_of

from coterie_node.store.registers import decoded_account, decoded_slot
from coterie_node.store.rows import CHECKED_COLUMNS, checked

MESSAGES = 40


def check(node: Node, *flags: str) -> tuple[int, Any]:
    """Run `coterie-node check --json`; return its exit code and what it said."""
    command = [sys.executable, "-m", "coterie_node.cli.main", "check", "--json", "--data-dir", str(node.place.data)]
    done = subprocess.run([*command, *flags], capture_output=True, text=True, timeout=60)
    return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr


def on_disk(node: Node, work: Callable[[sqlite3.Connection], Any]) -> Any:
    connection = sqlite3.connect(node.place.data / "coterie.db", timeout=10)
    connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
    try:
        with connection:
            return work(connection)
    finally:
        connection.close()


def spoil(connection: sqlite3.Connection) -> None:
    """Damage a record, an account, and the configuration of another slot."""
    for sql in (
        "UPDATE records SET body = zeroblob(9) WHERE seq = (SELECT max(seq) FROM records WHERE state = 0)",
        "UPDATE accounts SET register = x'00' WHERE rowid = (SELECT min(rowid) FROM accounts)",
        "UPDATE slot_registers SET register = x'00' WHERE slot = 1000",
    ):
        assert connection.execute(sql).rowcount == 1


def trouble(connection: sqlite3.Connection) -> tuple[int, int, int, int]:
    """Return how many records are sound, and how many records, accounts and configurations are not."""
    rows = connection.execute(f"SELECT {CHECKED_COLUMNS} FROM records").fetchall()
    sound = sum(checked(row) is not None for row in rows)
    accounts = connection.execute("SELECT slot, name, register, row_check FROM accounts").fetchall()
    slots = connection.execute("SELECT slot, register, row_check FROM slot_registers").fetchall()
    return (
        sound,
        len(rows) - sound,
        sum(decoded_account(*row) is None for row in accounts),
        sum(decoded_slot(*row) is None for row in slots),
    )


async def made_good(node: Node, records: int, seconds: float) -> float:
    """Wait until a node's disk is as it was; return how long that took."""
    begun = time.monotonic()
    seen = None
    while time.monotonic() - begun < seconds:
        seen = await asyncio.to_thread(on_disk, node, trouble)
        if seen == (records, 0, 0, 0):
            return time.monotonic() - begun
        await asyncio.sleep(0.1)
    raise AssertionError(f"not made good within {seconds} s: {seen} instead of {records} records")


async def people_with_mail(ring: Ring, tmp_path: Path) -> tuple[Person, Person]:
    ring.start()
    await ring.ready()
    alice, bob = await person(ring, tmp_path, "alice"), await person(ring, tmp_path, "bob")
    async with alice.online() as client:
        for number in range(MESSAGES):
            await client.sender.send(bob.name, f"message {number}")
    return alice, bob


@pytest.mark.timeout(120)
async def test_damage_on_a_running_node_is_made_good(make_ring: MakeRing, tmp_path: Path) -> None:
    ring = make_ring(3, COTERIE_NODE_REPAIR_INTERVAL="2")
    _, bob = await people_with_mail(ring, tmp_path)
    node = ring.nodes[1]
    records = (await asyncio.to_thread(on_disk, node, trouble))[0]
    assert records >= MESSAGES
    await asyncio.to_thread(on_disk, node, spoil)
    print(f"made good after {await made_good(node, records, 60.0):.1f} s")
    await ring.until(whole(3))
    assert len(await read_all(bob, MESSAGES, 30.0)) == MESSAGES


@pytest.mark.timeout(150)
async def test_a_checked_and_mended_store_gets_everything_back(make_ring: MakeRing, tmp_path: Path) -> None:
    ring = make_ring(3, COTERIE_NODE_REPAIR_INTERVAL="2", COTERIE_NODE_REPLACE_AFTER="4")
    _, bob = await people_with_mail(ring, tmp_path)
    node = ring.nodes[2]
    code, said = await asyncio.to_thread(check, node)
    assert (code, "a node runs on" in said) == (2, True)
    uid = await asyncio.to_thread(uid_of, node)
    assert node.terminate() == 0
    code, sound = await asyncio.to_thread(check, node)
    assert (code, sound["whole"], sound["uid"]) == (0, True, uid)
    records = on_disk(node, trouble)[0]

    on_disk(node, spoil)
    code, said = await asyncio.to_thread(check, node, "--repair")
    # The registers are for the running node to have written again.
    assert (code, said["left"], said["heals"]) == (1, 0, 2)
    assert len(said["findings"]) == 3
    node.start()
    await made_good(node, records, 60.0)
    await ring.ready()

    # Without its mark a node does not start, and returns as another one, with its messages.
    assert node.terminate() == 0
    assert (await asyncio.to_thread(check, node))[0] == 0
    on_disk(node, lambda connection: connection.execute("UPDATE mark SET counter = counter - 1"))
    node.start()
    assert await asyncio.to_thread(node.wait, 10.0) == 1
    assert "coterie-node check --repair" in node.last_words
    code, said = await asyncio.to_thread(check, node, "--repair")
    assert (code, said["repaired"]) == (0, [f"saved {records} messages into a new database"])
    node.start()
    await ring.until(whole(3), 60.0)
    assert await asyncio.to_thread(uid_of, node) != uid
    assert len(await read_all(bob, MESSAGES, 30.0)) == MESSAGES


@pytest.mark.timeout(150)
async def test_a_node_whose_database_is_broken_stops_and_is_replaced(make_ring: MakeRing, tmp_path: Path) -> None:
    """It could neither take nor give anything, and stayed a member of its slots: they went with one copy less."""
    ring = make_ring(4, COTERIE_NODE_REPAIR_INTERVAL="2", COTERIE_NODE_REPLACE_AFTER="4")
    _, bob = await people_with_mail(ring, tmp_path)
    node, others = ring.nodes[2], [*ring.nodes[:2], ring.nodes[3]]
    assert node.terminate() == 0
    behind_the_back_of(
        "records_by_key",
        node.place.data / "coterie.db",
        "DELETE FROM records WHERE seq = (SELECT min(seq) FROM records)",
    )
    node.start()
    assert await asyncio.to_thread(node.wait, 20.0) == 1
    assert "is damaged" in node.last_words
    await ring.until(whole(3), 30.0)
    assert all(other.running for other in others)

    node.start()
    assert await asyncio.to_thread(node.wait, 10.0) == 1
    assert "coterie-node check --repair" in node.last_words
    code, said = await asyncio.to_thread(check, node, "--repair")
    assert (code, said["left"]) == (0, 0)
    node.start()
    await ring.until(whole(4), 60.0)
    assert len(await read_all(bob, MESSAGES, 30.0)) == MESSAGES
