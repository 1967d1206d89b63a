"""`python -m bench.rereplicate`: how fast a lost disk is made good.

Three nodes hold the messages, three copies each. One is killed and its disk deleted; once the ring has given it up, a
new node joins and must be given everything. The time runs from the moment at which the ring lists the new node until no
slot is under-replicated, with the rate limit of bulk lifted. Beside it: SQLite alone copying the same rows.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from contextlib import closing
from pathlib import Path

import aiohttp
from tests.cluster.harness import Node, Ring, get_json, whole

from coterie_node.store.connections import connect as open_database
from coterie_node.store.migrations import migrate
from coterie_node.store.store import DATABASE_NAME

from .load import BODY_BYTES, connect_all, fill
from .ring import print_profile

NODES = 3
GIVEN_UP_AFTER = 1
"""Seconds after which a dead node's slots get another."""
UNLIMITED = {
    "COTERIE_NODE_BULK_BYTES_PER_SECOND": str(1 << 40),
    "COTERIE_NODE_SENDS_PER_SECOND": "1000000",
    "COTERIE_NODE_LOGINS_PER_ADDRESS": "1000000",
    "COTERIE_NODE_REPLACE_AFTER": str(GIVEN_UP_AFTER),
}
FILLERS = 16
LOOK = 0.2
"""Seconds between two looks at the ring's report, which costs what is measured."""


def main() -> None:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.rereplicate",
        description=__doc__,
        epilog="example: python -m bench.rereplicate --rounds 1",
    )
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--mailboxes", type=int, default=400, help="over which they are spread at random")
    parser.add_argument("--rounds", type=int, default=3, help="the median of so many is printed; each loses a disk")
    parser.add_argument("--profile", action="store_true", help="show where an old node and the last new one spend time")
    parser.add_argument("--json", action="store_true", help="one JSON object: seconds of every round")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="coterie-bench-", dir=Path.cwd()) as directory:
        found = asyncio.run(_measure(Path(directory), options))
    if options.json:
        print(json.dumps(found))
        return
    ring, copy = statistics.median(found["ring"]), statistics.median(found["sqlite"])
    print(
        f"{options.records:,} records of {BODY_BYTES} bytes in {options.mailboxes} mailboxes, {NODES} nodes, "
        f"{options.rounds} rounds; median seconds\n"
    )
    print(f"a new node has everything, no slot is under-replicated{ring:9.2f}{options.records / ring:12,.0f} records/s")
    print(f"floor: SQLite alone copies the same rows{copy:23.2f}{options.records / copy:12,.0f} records/s")
    print(f"\nring/SQLite {ring / copy:.1f}")


async def _measure(directory: Path, options: argparse.Namespace) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {"ring": [], "sqlite": []}
    ring = Ring(directory / "ring", NODES, UNLIMITED, spare=options.rounds)
    old, new = directory / "old.profile", directory / "new.profile"
    if options.profile:
        ring.nodes[-1].interpreter = ["-m", "bench.profiled", str(old)]
    try:
        ring.start()
        await ring.ready()
        names = [f"bench-{i}" for i in range(options.mailboxes)]
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            fillers = await connect_all(session, ring.servers, names[:FILLERS])
            for start in range(FILLERS, len(names), FILLERS):  # more registrations at once would be refused
                await connect_all(session, ring.servers, names[start : start + FILLERS])
            await fill(fillers, names, 64, options.records)
        for number in range(options.rounds):
            lost = ring.live[0]
            lost.kill()
            found["sqlite"].append(_copy(lost.place.data / DATABASE_NAME, directory / f"copy-{number}.db"))
            lost.wipe()
            await asyncio.sleep(GIVEN_UP_AFTER)  # so that what is measured is the work, not the waiting for a return
            node = ring.add()
            if options.profile and number == options.rounds - 1:
                node.interpreter = ["-m", "bench.profiled", str(new)]
            found["ring"].append(await _replace(ring, node, options.records))
    finally:
        ring.stop()
    if options.profile:
        print_profile(old, 40)
        print_profile(new, 40)
    return found


async def _replace(ring: Ring, node: Node, records: int) -> float:
    """Let a new node join and return the seconds until it has everything."""
    node.start()
    await ring.until(lambda report: any(member.name == node.name for member in report.members))
    begin = time.monotonic()
    await ring.until(whole(NODES), 120.0, LOOK)
    took = time.monotonic() - begin
    held = (await asyncio.to_thread(get_json, f"{node.place.admin_url}/api/v1/node"))["records"]
    assert sum(held.values()) >= records, f"{held} of {records} records"
    return took


def _copy(source: Path, target: Path) -> float:
    """Copy all records of a database into a new one of the same schema, and return the seconds until it is fsynced."""
    with closing(open_database(target, writable=True)) as connection:
        migrate(connection, target)
        connection.execute("ATTACH ? AS lost", (str(source),))
        begin = time.monotonic()
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO main.records SELECT * FROM lost.records")
        connection.execute("COMMIT")
        took = time.monotonic() - begin
        connection.execute("DETACH lost")
    return took


if __name__ == "__main__":
    main()
