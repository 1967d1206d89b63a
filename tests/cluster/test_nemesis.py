"""A few minutes of the nemesis (python -m tests.cluster.nemesis is the long run), and that it would notice a loss."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import sqlite3
from pathlib import Path

import pytest
from bench.ports import free_port
from tests.cluster.nemesis import disk, losses, network
from tests.cluster.nemesis.cluster import Cluster
from tests.cluster.nemesis.run import Options, Run
from tests.cluster.nemesis.schedule import LONG, WEIGHTS, schedule
from tests.cluster.people import person
from tests.history.mailboxes import Mailboxes

from coterie_node.store import schema

MESSAGES = 200
SCHEMA = Path(schema.__file__).with_name("0001_start.sql")
needs_shim = pytest.mark.skipif(bool(disk.why_not()), reason=disk.why_not())


@pytest.mark.slow
@pytest.mark.timeout(480)
async def test_nothing_acknowledged_comes_to_harm(tmp_path: Path) -> None:
    seed = int(os.environ.get("COTERIE_NEMESIS_SEED") or random.SystemRandom().randrange(1 << 32))
    lines: list[str] = []
    run = Run(Options(tmp_path, messages=20_000, faults=45, seed=seed, minutes=1.6), lines.append)
    report = await run.go()
    print("\n".join(lines), report.text(), sep="\n")
    assert report.good, report.text()
    assert report.acknowledged >= 20_000
    assert sum(report.faults.values()) == 45
    assert report.faults.keys() >= {event.kind for event in run.events}


def test_a_seed_gives_one_schedule() -> None:
    one, again, other = (schedule(seed, 200, 2.0) for seed in (1, 1, 2))
    assert one == again != other
    assert {event.kind for event in one} == set(WEIGHTS)
    assert 1.0 < sum(event.pause for event in one) / 200 < 3.0
    assert not LONG & {event.kind for event in schedule(1, 500, 2.0, without=LONG)}


@pytest.mark.skipif(bool(network.why_not()), reason=network.why_not())
async def test_a_cut_is_silent_and_has_a_direction(tmp_path: Path) -> None:
    port = free_port(2)
    heard: asyncio.Queue[bytes] = asyncio.Queue()
    writers: list[asyncio.StreamWriter] = []

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        while data := await reader.read(100):
            heard.put_nowait(data)
            writer.write(data)

    async def silent(reader: asyncio.StreamReader) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await reader.read(100)

    net = network.Network(dict)
    await net.add(network.Place("one", 1, port))
    await net.add(network.Place("two", 2, port + 1))
    async with asyncio.timeout(20), await asyncio.start_server(echo, network.listen_host(2), port + 1):
        from_one = (network.listen_host(1), 0)
        reader, writer = await asyncio.open_connection(network.public_host(2), port + 1, local_addr=from_one)
        writer.write(b"hello")
        assert await heard.get() == await reader.read(100) == b"hello"
        net.cut("answers", [("two", "one")])
        writer.write(b"anybody?")
        assert await heard.get() == b"anybody?"
        await silent(reader)
        net.cut("questions", [("one", "two")])
        net.heal("answers")
        assert await reader.read(100) == b"anybody?"
        writer.write(b"still there?")
        await silent(reader)
        assert heard.empty()
        late_reader, late_writer = await asyncio.open_connection(network.public_host(2), port + 1, local_addr=from_one)
        late_writer.write(b"new here")
        await silent(late_reader)
        net.heal("questions")
        assert await heard.get() == await reader.read(100) == b"still there?"
        await net.close()
        for each in (writer, late_writer, *writers):
            each.close()
            with contextlib.suppress(OSError):
                await each.wait_closed()
    assert net.unknown == 0


def test_a_cut_of_the_log_takes_records_and_spares_registers(tmp_path: Path) -> None:
    """A register is written after the tenth of thirty commits of records."""
    (tmp_path / "live").mkdir()
    live = tmp_path / "live" / "coterie.db"
    record = "INSERT INTO records VALUES (?, 1, ?, 'bob', 'ann', x'00', 0, 0, x'00', 1, x'', 1, 1, 1, zeroblob(2000))"
    with contextlib.closing(sqlite3.connect(live)) as connection:
        connection.executescript(f"PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; {SCHEMA.read_text()}")
        for number in range(30):
            connection.execute(record, (number, b"%d" % number))
            if number == 10:
                connection.execute("INSERT INTO slot_registers VALUES (1, x'01', x'02')")
            connection.commit()
        shutil.copytree(live.parent, tmp_path / "dead", ignore=shutil.ignore_patterns("*-shm"))
    dead = tmp_path / "dead" / live.name
    size = losses.harmless_cut(dead)
    assert size is not None
    os.truncate(f"{dead}-wal", size)
    with contextlib.closing(sqlite3.connect(dead)) as connection:
        (newest,) = connection.execute("SELECT max(seq) FROM records").fetchone()
        assert 10 <= newest < 29
        assert connection.execute("SELECT count(*) FROM slot_registers").fetchone() == (1,)


@needs_shim
@pytest.mark.timeout(120)
@pytest.mark.parametrize("careless", [False, True], ids=["real store", "store that does not wait for the disk"])
async def test_a_power_cut_of_all_takes_what_was_not_synced(tmp_path: Path, careless: bool) -> None:
    cluster = Cluster(tmp_path / "ring", 3, disk.build(tmp_path))
    boxes = Mailboxes()
    try:
        await cluster.begin()
        alice, bob = await person(cluster, tmp_path, "alice"), await person(cluster, tmp_path, "bob")
        for node in cluster.nodes:
            assert await node.terminate_now() == 0
        cluster.careless = careless
        cluster.start()
        await cluster.ready()
        async with alice.online() as client:
            for number in range(MESSAGES):
                message, task = client.sender.submit(bob.name, str(number))
                boxes.sent(alice.name, bob.name, message.id.hex(), number)
                await task
                boxes.acknowledged(alice.name, bob.name, number)
        await asyncio.gather(*(node.kill_now() for node in cluster.nodes))
        for node in cluster.nodes:
            assert node.disk is not None
            node.disk.lose_unsynced(None)
        cluster.careless = False
        cluster.start()
        await cluster.ready()
        async with asyncio.timeout(30), bob.online(receive=True) as client:
            client.mailbox.start()
            drained = False
            while not drained:
                batch = await client.mailbox.next_batch()
                for message in batch.messages:
                    boxes.shown(bob.name, message.sender, message.id.hex(), int(message.text or "-1"))
                client.mailbox.done(batch)
                drained = batch.drained
        boxes.drained(bob.name)
    finally:
        await cluster.end()
    if careless:
        assert boxes.lost_count > 0
        assert "acknowledged, but not shown" in boxes.complaints()[0]
    else:
        assert boxes.complaints() == []
        assert boxes.shown_count == MESSAGES
