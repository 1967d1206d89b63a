"""The ring page of real nodes: a killed node is seen within seconds, and lookups go where the ring says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import msgspec
from tests.cluster.conftest import MakeRing
from tests.cluster.harness import Node, Ring
from tests.cluster.people import Shell
from tests.streams import next_event

from coterie_protocol.admin_page import Change, LiveMember, Snapshot, Trace
from coterie_protocol.identifiers import slot_of_name

SEEN_WITHIN = 3.0
"""Seconds in which a page shows that a node was killed, or is back: the promise."""


class Page:
    """What an open page knows of the ring, from its stream alone."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.members: dict[str, LiveMember] = {}
        self.said: list[str] = []

    def state(self, name: str) -> str:
        return next((one.state for one in self.members.values() if one.name == name), "gone")

    async def until(self, what: Callable[[Page], bool], seconds: float) -> None:
        """Read on until what the page knows fulfils something."""
        try:
            async with asyncio.timeout(seconds):
                while not what(self):
                    await self._event()
        except TimeoutError:
            states = {one.name: one.state for one in self.members.values()}
            raise AssertionError(f"not within {seconds} s; last: {states}") from None

    async def _event(self) -> None:
        kind, data = await next_event(self.response)
        if kind:
            self.said.append(kind)
        if kind == "ring":
            self.members = {one.uid: one for one in msgspec.json.decode(data, type=Snapshot).members}
        elif kind == "change":
            change = msgspec.json.decode(data, type=Change)
            self.members.update({one.uid: one for one in change.members or ()})
            for uid in change.gone or ():
                self.members.pop(uid)


@asynccontextmanager
async def page_of(node: Node) -> AsyncIterator[Page]:
    # One line holds the whole ring.
    async with (
        aiohttp.ClientSession(read_bufsize=1 << 20) as session,
        session.get(f"{node.place.admin_url}/api/v1/events") as response,
    ):
        assert response.status == 200
        yield Page(response)


def share_of_all(page: Page) -> float:
    return sum(one.arc_share for one in page.members.values())


async def test_a_killed_node_leaves_the_page_and_comes_back(make_ring: MakeRing) -> None:
    ring = make_ring(5)
    ring.start()
    await ring.ready()
    victim = ring.nodes[2]
    async with page_of(ring.nodes[0]) as page:
        await page.until(lambda page: len(page.members) == 5, 5.0)
        assert {one.state for one in page.members.values()} == {"ready"}
        before = next(one for one in page.members.values() if one.name == victim.name)
        victim.kill()
        await page.until(lambda page: page.state(victim.name) in ("unreachable", "gone"), SEEN_WITHIN)
        await page.until(lambda page: share_of_all(page) == 1.0, SEEN_WITHIN)  # the next one has its arc
        assert before.arc_share > 0
        victim.start()
        await victim.until(lambda found: found.ready, 30.0)
        await page.until(lambda page: page.state(victim.name) == "ready", SEEN_WITHIN)
        assert share_of_all(page) == 1.0
        # One that stops in good order says so at once, and is not there either.
        assert victim.terminate() == 0
        await page.until(lambda page: page.state(victim.name) in ("unreachable", "gone"), SEEN_WITHIN)


async def test_a_frozen_node_is_seen_too(make_ring: MakeRing) -> None:
    ring = make_ring(3)
    ring.start()
    await ring.ready()
    async with page_of(ring.nodes[0]) as page:
        await page.until(lambda page: len(page.members) == 3, 5.0)
        ring.nodes[1].freeze()
        try:
            # A second of silence, then a second in which it does not answer.
            await page.until(lambda page: page.state(ring.nodes[1].name) == "unreachable", 2 * SEEN_WITHIN)
        finally:
            ring.nodes[1].thaw()
        await page.until(lambda page: page.state(ring.nodes[1].name) == "ready", 10.0)


async def test_a_node_that_joins_is_seen_with_the_slots_on_their_way(make_ring: MakeRing) -> None:
    ring = make_ring(3)
    ring.start()
    await ring.ready()
    moving: list[tuple[str, str]] = []

    def arrived(page: Page) -> bool:
        names = {one.uid: one.name for one in page.members.values()}
        for one in page.members.values():
            moving.extend((names.get(move.giver, ""), names.get(move.taker, "")) for move in one.handovers)
        return page.state("node-4") == "ready" and share_of_all(page) == 1.0

    async with page_of(ring.nodes[0]) as page:
        await page.until(lambda page: len(page.members) == 3, 5.0)
        ring.add().start()
        await page.until(arrived, 30.0)
    assert all(giver != "node-4" for giver, taker in moving if taker == "node-4")


async def test_a_node_that_stops_tells_its_pages(make_ring: MakeRing) -> None:
    ring = make_ring(3)
    ring.start()
    await ring.ready()
    async with page_of(ring.nodes[0]) as page:
        await page.until(lambda page: len(page.members) == 3, 5.0)
        stopping = asyncio.create_task(asyncio.to_thread(ring.nodes[0].terminate))
        try:
            await page.until(lambda page: "bye" in page.said, 10.0)
        except EOFError:
            raise AssertionError(f"the stream ended without a word: {page.said}") from None
        assert await stopping == 0


async def test_a_lookup_is_traced_to_the_node_that_acts_and_tells_nothing_of_accounts(
    ring: Ring, shell: Callable[[str], Shell], name: Callable[[str], str]
) -> None:
    taken = name("traced")
    await asyncio.to_thread(shell("home").run, "register", taken)
    async with aiohttp.ClientSession() as session:
        ways = {}
        for node in ring.nodes:
            async with session.get(f"{node.place.admin_url}/api/v1/lookup", params={"name": taken}) as response:
                assert response.status == 200
                ways[node.name] = msgspec.json.decode(await response.read(), type=Trace)
        slot = slot_of_name(taken, 1024)
        acting = await ring.acting_node(slot)
        uids = {one.uid: one.name for one in ring.report().members}
        assert {(way.slot, uids[way.owner or ""]) for way in ways.values()} == {(slot, acting.name)}
        assert any(way.hops for way in ways.values()), "in a ring of five somebody has to ask"
        for way in ways.values():
            assert all(hop.answered and 0 < hop.rtt_seconds < 1 for hop in way.hops)
        # A slot that nobody lives in is told in just the same words.
        async with session.get(f"{ring.nodes[0].place.admin_url}/api/v1/lookup", params={"name": f"{taken}x"}) as free:
            assert set(msgspec.json.decode(await free.read())) == set(msgspec.to_builtins(ways["node-1"]))


async def test_the_page_is_served_by_nodes_and_closed_by_a_setting(make_ring: MakeRing) -> None:
    ring = make_ring(1, COTERIE_NODE_PAGE="off")
    ring.start()
    url = ring.nodes[0].place.admin_url
    await ring.nodes[0].until(lambda _: True, 10.0)
    async with aiohttp.ClientSession(headers={"Accept": "text/html"}) as session:
        async with session.get(f"{url}/api/v1/events") as response:
            assert response.status == 404
            assert "--page on" in (await response.json())["detail"]
        async with session.get(url) as response:
            assert response.content_type == "text/plain"
    ring.nodes[0].terminate()
    ring.nodes[0].start("--page", "on")
    await ring.nodes[0].until(lambda _: True, 10.0)
    async with aiohttp.ClientSession(headers={"Accept": "text/html"}) as session, session.get(url) as response:
        assert response.content_type == "text/html"
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
