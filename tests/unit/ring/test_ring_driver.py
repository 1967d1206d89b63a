"""The driver on real links: rings of a few nodes on loopback."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial

import msgspec
import pytest
from structlog.testing import capture_logs

from coterie_node.driver import Driver
from coterie_node.peer.links import Links
from coterie_node.peer.settings import PeerSettings
from coterie_node.ring import PRESETS
from coterie_node.runtime.dispatch import Dispatcher, TaskGroup
from coterie_node.runtime.ports import StoreError
from coterie_protocol.errors import CoterieError, ErrorCode
from coterie_protocol.identifiers import Uid
from coterie_protocol.nodes import NodeRef, PeerHello
from coterie_protocol.ring import FindOwner, Nudge

SLOTS = 64
QUICK = PeerSettings(heartbeat=0.05, silence=0.5, dial_timeout=1.0, redial_first=0.02, redial_most=0.2)


class SystemClock:
    """Real time (`ports.Clock`)."""

    def now(self) -> float:
        return time.monotonic()

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Node:
    """A node that has links and a place in the ring, and nothing else."""

    def __init__(self, number: int, known: list[NodeRef], position: int = -1) -> None:
        self.uid = Uid(f"{number:032x}")
        self.kept: list[int] = []
        self.full = False
        self.remembered: list[NodeRef] = []
        self.known = known
        self.first = NodeRef(self.uid, f"n{number}", position, "127.0.0.1", 0, 1, 2, 1000 * number)
        self.driver: Driver | None = None
        self.tasks = TaskGroup()
        self.dispatcher = Dispatcher()
        self.links = Links(self.hello, self.dispatcher, SystemClock(), self.tasks, QUICK)
        self.changed = asyncio.Event()

    def hello(self) -> PeerHello:
        me = self.first if self.driver is None else self.driver.me
        return PeerHello(1, 1, "a" * 32, 3, SLOTS, me, "boot")

    async def persist(self, position: int) -> None:
        if self.full:
            raise StoreError("the disk is full")
        self.kept.append(position)

    async def start(self, found: bool = False) -> Driver:
        port = await self.links.start("127.0.0.1", 0)
        self.first = msgspec.structs.replace(self.first, peer_port=port)
        self.driver = Driver(
            self.first,
            PRESETS["local"],
            3,
            SLOTS,
            self.links,
            self.dispatcher,
            self.tasks,
            SystemClock(),
            random.Random(self.uid),
            self.persist,
            lambda: list(self.known),
            self.remembered.extend,
        )
        self.driver.watch(self.changed.set)
        self.driver.start(found)
        return self.driver

    async def stop(self) -> None:
        if self.driver is not None:
            self.driver.close()
        await self.links.close()
        await self.tasks.close()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


@asynccontextmanager
async def ring_of(count: int) -> AsyncIterator[list[Node]]:
    """Start nodes at the same moment; the others know the founder's address only."""
    founder = Node(1, [])
    nodes = [founder]
    try:
        await founder.start(found=True)
        seed = NodeRef(Uid(""), "", -1, "127.0.0.1", founder.first.peer_port, 0, 0, 0)
        nodes += [Node(number, [seed]) for number in range(2, count + 1)]
        await asyncio.gather(*(node.start() for node in nodes[1:]))
        async with asyncio.timeout(5):
            await asyncio.gather(*(driver_of(node).joined() for node in nodes))
        await woven(nodes)
        yield nodes
    finally:
        await asyncio.gather(*(node.stop() for node in nodes))


def driver_of(node: Node) -> Driver:
    assert node.driver is not None
    return node.driver


def names_after(node: Node) -> list[str]:
    return [ref.uid for ref in driver_of(node).successors()]


async def woven(nodes: list[Node]) -> None:
    """Wait until every node sees all others, in order."""
    order = in_order(nodes)
    for index, node in enumerate(order):
        expected = [other.uid for other in around(order, index)][1:]
        await node.until(partial(lambda node, expected: names_after(node) == expected, node, expected))
        before = order[index - 1].uid
        await node.until(partial(lambda node, before: uid_before(node) == before, node, before))


def uid_before(node: Node) -> str | None:
    before = driver_of(node).predecessor()
    return None if before is None else before.uid


async def seen_leaving(nodes: list[Node], leaving: set[str]) -> None:
    """Wait until every node knows exactly these others to be leaving."""

    def known(node: Node) -> bool:
        return {ref.uid for ref in driver_of(node).successors() if ref.leaving} == leaving

    for node in nodes:
        await node.until(partial(known, node))


def in_order(nodes: list[Node]) -> list[Node]:
    return sorted(nodes, key=lambda node: driver_of(node).me.position)


def around(items: list[Node], start: int) -> Iterator[Node]:
    return iter(items[start:] + items[:start])


async def test_five_nodes_that_start_at_once_become_one_ring() -> None:
    async with ring_of(5) as nodes:
        assert len({driver_of(node).me.position for node in nodes}) == 5
        for node in nodes:
            assert node.kept[-1] == driver_of(node).me.position
            assert {ref.uid for ref in node.remembered} == {other.uid for other in nodes if other is not node}
        assert sum(driver_of(node).arc_share for node in nodes) == pytest.approx(1.0)


async def test_all_nodes_suggest_the_same_members_for_every_slot() -> None:
    async with ring_of(5) as nodes:
        order = in_order(nodes)
        positions = [driver_of(node).me.position for node in order]
        for node in nodes:
            suggested = await driver_of(node).members(range(SLOTS))
            assert sorted(suggested) == list(range(SLOTS))
            for slot, uids in suggested.items():
                first = next((index for index, position in enumerate(positions) if position >= slot), 0)
                assert list(uids) == [other.uid for other in around(order, first)][:3]


async def test_a_leaving_node_is_suggested_for_nothing_until_it_takes_that_back() -> None:
    async with ring_of(4) as nodes:
        leaver, other = nodes[1], nodes[2]
        driver_of(leaver).leave()
        assert driver_of(leaver).state == "leaving"
        others = [node for node in nodes if node is not leaver]
        await seen_leaving(others, {leaver.uid})
        suggested = await driver_of(other).members(range(SLOTS))
        assert all(leaver.uid not in uids and len(uids) == 3 for uids in suggested.values())
        assert driver_of(other).standins([])[-1] == leaver.uid
        driver_of(leaver).cancel_leave()
        await seen_leaving(others, set())
        suggested = await driver_of(other).members(range(SLOTS))
        assert any(leaver.uid in uids for uids in suggested.values())


async def test_a_dead_successor_is_dropped() -> None:
    async with ring_of(4) as nodes:
        order = in_order(nodes)
        await order[1].stop()
        first = driver_of(order[0])
        await order[0].until(lambda: [ref.uid for ref in first.successors()] == [order[2].uid, order[3].uid])
        assert first.standins([order[2].uid]) == [order[3].uid]


async def test_a_node_moves_to_a_free_position_only() -> None:
    async with ring_of(3) as nodes:
        order = in_order(nodes)
        mover = driver_of(order[1])
        for position, why in [(driver_of(order[2]).me.position, "held by"), (SLOTS, "not one of the ring's slots")]:
            with pytest.raises(CoterieError, match=why) as caught:
                await mover.move(position)
            assert caught.value.wire_code is ErrorCode.BAD_REQUEST
        free = driver_of(order[2]).me.position + 1
        await mover.move(free)
        assert mover.me.position == order[1].kept[-1] == free
        await order[0].until(
            lambda: [ref.uid for ref in driver_of(order[0]).successors()] == [order[2].uid, order[1].uid]
        )


async def test_a_position_that_cannot_be_written_is_not_taken() -> None:
    async with ring_of(2) as nodes:
        mover = driver_of(nodes[1])
        nodes[1].full = True
        before = mover.me.position
        with pytest.raises(CoterieError, match="could not be written"):
            await mover.move(before + 1)
        assert mover.me.position == before


async def test_a_traced_lookup_finds_what_a_plain_one_does_and_tells_whom_it_asked() -> None:
    async with ring_of(5) as nodes:
        others = {node.uid for node in nodes}
        for slot in range(0, SLOTS, 5):
            owner, path = await driver_of(nodes[0]).trace(slot)
            assert owner is not None
            assert owner.owner.uid == (await driver_of(nodes[0]).lookup(slot)).owner.uid
            assert len(path) == owner.hops
            assert {hop.node.uid for hop in path} <= others
            assert all(hop.answered and hop.ended > hop.asked for hop in path)
        with pytest.raises(CoterieError, match="not one of the ring's slots"):
            await driver_of(nodes[0]).trace(SLOTS)


async def test_lookups_wait_no_longer_than_the_node_runs() -> None:
    node = Node(1, [NodeRef(Uid(""), "", -1, "127.0.0.1", 9, 0, 0, 0)])
    driver = await node.start()
    try:
        assert driver.state == "joining"
        assert await driver.members([1]) == {}
        with pytest.raises(CoterieError, match="nobody could tell"):
            await driver.lookup(3)
        with pytest.raises(CoterieError, match="not one of the ring's slots"):
            await driver.lookup(SLOTS)
    finally:
        await node.stop()


async def test_events_that_come_too_late_are_dropped_without_a_word() -> None:
    """A node that stopped while it joined used to log a traceback for each."""
    async with ring_of(2) as (one, two):
        driver_of(one).close()
        with capture_logs() as logs:
            one.dispatcher.event(two.uid, Nudge())
        assert logs == []
        with pytest.raises(CoterieError) as refused:
            await one.dispatcher.request(two.uid, FindOwner(0, ()))
        assert refused.value.wire_code is ErrorCode.SHUTTING_DOWN
