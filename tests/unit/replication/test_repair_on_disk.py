"""The rooms of records on the store that nodes use, with real time: append, damage on disk, give-up."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.unit.replication.nodes import SLOT, Ring, known, message, moved, patient
from tests.unit.store.making import behind_the_back_of

from coterie_node.replication.antientropy.repair import Repair
from coterie_node.replication.antientropy.transfer import Offers
from coterie_node.replication.append.coordinator import Appender
from coterie_node.replication.commits import Arrivals
from coterie_node.replication.configuration import SlotTable
from coterie_node.replication.handoff import Strays
from coterie_node.runtime.dispatch import Dispatcher, TaskGroup
from coterie_node.runtime.ports import FIRST, NO_LIMIT_MS
from coterie_node.store.errors import StoreDamaged, StoreError
from coterie_node.store.store import DATABASE_NAME, Store
from coterie_protocol.errors import CoterieError
from coterie_protocol.identifiers import Uid
from coterie_protocol.nodes import NodeRef
from coterie_protocol.records import State, key_hash

LONG_AGO = -(10**11)
"""Milliseconds before the time at which simulations begin."""
SETTINGS = patient(repair_interval=0.2, settled_ms=1, offer_retry=0.1)
A, B, C, D = (Uid(name) for name in "abcd")


class WallClock:
    """`ports.Clock` of the machine."""

    def now(self) -> float:
        return time.monotonic()

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class DirectPeers:
    """`ports.Peers` that hand everything to the other dispatcher at once; all nodes are alive."""

    def __init__(self, me: Uid, everybody: dict[Uid, Dispatcher]) -> None:
        self.me = me
        self._everybody = everybody

    def alive(self, uid: Uid) -> bool:
        return True

    def down_since(self, uid: Uid) -> float | None:
        return None

    def learn(self, refs: Iterable[NodeRef]) -> None:
        """Everybody is known."""

    def ref(self, uid: Uid) -> NodeRef | None:
        return None

    def want(self, uids: Iterable[Uid]) -> None:
        """All links stand."""

    def watch(self, callback: Callable[[Uid, bool], None]) -> None:
        """Nothing changes."""

    def send(self, uid: Uid, message: Any, *, bulk: bool = False) -> bool:
        asyncio.get_running_loop().call_soon(self._everybody[uid].event, self.me, message)
        return True

    async def request(self, uid: Uid, message: Any, timeout: float, *, bulk: bool = False) -> Any:
        return await self._everybody[uid].request(self.me, message)

    async def contact(self, host: str, port: int, timeout: float) -> NodeRef:
        raise NotImplementedError

    async def probe(self, ref: NodeRef, timeout: float) -> bool:
        return True


class DiskNode:
    """A node's rooms of records on a store of its own."""

    def __init__(self, uid: Uid, directory: Path, store: Store, everybody: dict[Uid, Dispatcher]) -> None:
        self.directory = directory
        self.everybody = everybody
        self.store = store
        self.tasks = TaskGroup()
        dispatcher = everybody[uid] = Dispatcher()
        peers = DirectPeers(uid, everybody)
        self.table = SlotTable(peers, 8, 3)
        clock = WallClock()
        self.arrivals = arrivals = Arrivals()
        shared = (self.table, store, peers)
        self.appender = Appender(*shared, Ring(), dispatcher, self.tasks, clock, arrivals, SETTINGS)
        offers = Offers(*shared, dispatcher, clock, arrivals, SETTINGS)
        self.repair = Repair(*shared, offers, dispatcher, self.tasks, clock, arrivals, SETTINGS)
        self.strays = Strays(*shared, self._refresh, offers, clock, arrivals, SETTINGS)
        self.tasks.start(self.repair.run(), "repair")
        self.tasks.start(self.strays.run(), "strays")

    async def _refresh(self, slot: int) -> None:
        """Nobody knows more."""

    async def count(self) -> int:
        versions = await self.store.read(lambda tx: tx.versions(SLOT, None, FIRST, 1 << 20, NO_LIMIT_MS))
        return len(versions)


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[dict[Uid, DiskNode]]:
    everybody: dict[Uid, Dispatcher] = {}
    made: dict[Uid, DiskNode] = {}
    for uid in (A, B, C, D):
        made[uid] = DiskNode(uid, tmp_path / uid, await Store.open(tmp_path / uid), everybody)
    yield made
    for node in made.values():
        await node.tasks.close()
    for node in made.values():
        await node.store.close()


async def _until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await holds():  # noqa: ASYNC110 - a disk tells nobody what is on it
            await asyncio.sleep(0.02)


async def _until_count(node: DiskNode, count: int) -> None:
    async def counted() -> bool:
        return await node.count() == count

    await _until(counted)


async def test_appends_of_many_callers_reach_every_disk(nodes: dict[Uid, DiskNode]) -> None:
    for uid in (A, B, C):
        nodes[uid].table.learn([known(3, (A, B, C))])
    copies = await asyncio.gather(*(nodes[A].appender.append_one(message(number)) for number in range(500)))
    assert min(copies) >= 2
    for uid in (A, B, C):
        await _until_count(nodes[uid], 500)


async def test_a_record_damaged_on_disk_is_brought_back(nodes: dict[Uid, DiskNode]) -> None:
    for uid in (A, B, C):
        nodes[uid].table.learn([known(3, (A, B, C))])
    precious = message(1, b"precious", at=LONG_AGO)
    await nodes[A].appender.append_one(precious)
    await _until_count(nodes[B], 1)
    connection = sqlite3.connect(nodes[B].directory / DATABASE_NAME, timeout=10)
    with connection:
        changed = connection.execute(
            "UPDATE records SET body = CAST('Precious' AS BLOB) WHERE body = CAST('precious' AS BLOB)"
        )
        assert changed.rowcount == 1
    connection.close()
    await nodes[B].store.read(lambda tx: tx.record(precious.key))  # A reader finds the damage.

    async def mended() -> bool:
        return await nodes[B].store.read(lambda tx: tx.record(precious.key)) == precious

    await _until(mended)


async def test_a_damaged_copy_does_not_confirm(nodes: dict[Uid, DiskNode]) -> None:
    precious = message(1, b"precious", at=LONG_AGO)
    for uid in (A, B, C):
        nodes[uid].table.learn([known(3, (A, B, C))])
        await nodes[uid].store.transact(lambda tx: tx.merge([precious]))
    connection = sqlite3.connect(nodes[B].directory / DATABASE_NAME, timeout=10)
    with connection:
        connection.execute("UPDATE records SET body = CAST('Precious' AS BLOB)")
    connection.close()
    nodes[D].table.learn([known(3, (A, B, C))])
    nodes[D].arrivals.publish(await nodes[D].store.transact(lambda tx: tx.merge([precious])))
    await _until_count(nodes[D], 0)
    assert await nodes[B].store.read(lambda tx: tx.record(precious.key)) == precious


async def test_a_member_whose_index_names_anothers_row_harms_no_other_copy(nodes: dict[Uid, DiskNode]) -> None:
    """Its copy of a message was overwritten with the archive copy of one that it had lost, and that won everywhere."""
    for uid in (A, B, C, D):
        nodes[uid].table.learn([known(3, (A, B, C)), known(3, (A, B, C), slot=SLOT + 1)])
    lost = message(1, b"lost", at=LONG_AGO)
    await nodes[A].store.transact(lambda tx: tx.merge([lost]))
    await nodes[A].tasks.close()
    await nodes[A].store.close()
    behind_the_back_of("records_by_key", nodes[A].directory / DATABASE_NAME, "DELETE FROM records")
    nodes[A] = DiskNode(A, nodes[A].directory, await Store.open(nodes[A].directory), nodes[A].everybody)
    nodes[A].table.learn([known(3, (A, B, C)), known(3, (A, B, C), slot=SLOT + 1)])

    precious = message(2, b"precious", SLOT + 1, at=LONG_AGO)
    for uid in (B, D):  # C was away, and D stood in.
        nodes[uid].arrivals.publish(await nodes[uid].store.transact(lambda tx: tx.merge([precious])))
    archived = moved(lost, State.ARCHIVED, b"archive copy")
    with suppress(StoreError):  # A comparison may have found it out already.
        await nodes[A].store.transact(lambda tx: tx.merge([precious]))
        await nodes[A].store.transact(lambda tx: tx.merge([archived]))
    neighbour = next(
        one
        for number in itertools.count(3)
        if key_hash((one := message(number, slot=SLOT + 1, at=LONG_AGO)).key)[0] == key_hash(precious.key)[0]
    )
    await nodes[C].store.transact(lambda tx: tx.merge([neighbour]))
    with suppress(CoterieError):
        await nodes[C].repair.pull(SLOT + 1, A)

    async def compared() -> bool:
        held = await nodes[B].store.read(lambda tx: tx.records([precious.key, neighbour.key]))
        held += await nodes[C].store.read(lambda tx: tx.records([precious.key, neighbour.key]))
        return None not in held

    await _until(compared)
    await asyncio.sleep(1.0)  # Five rounds of repair, in which the wrong one would win.
    for uid in (B, C, D):
        assert await nodes[uid].store.read(lambda tx: tx.record(precious.key)) == precious
    with pytest.raises(StoreDamaged):
        await nodes[A].store.read(lambda tx: tx.record(precious.key))
