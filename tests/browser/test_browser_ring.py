"""The ring page of real nodes: what is seen is what the admin API says, and what happens is seen while it happens."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from playwright.async_api import expect
from tests.browser.conftest import OpenPage
from tests.browser.ring_page import RingPage, apart, owner_of
from tests.cluster.harness import Node, Ring, whole

from coterie_protocol.identifiers import slot_of_name, user_name

LEFT_WITHIN = 3.0
"""Seconds from a kill -9 until the page shows that the node does not answer: promised."""
GONE_WITHIN = 20.0
"""Seconds until its slots are others' (replace_after is 2 s here) and nothing names it any more."""
BACK_WITHIN = 20.0


def home(node: Node) -> str:
    """Return the address of a node's page."""
    return f"{node.place.admin_url}/"


async def test_five_nodes_are_seen_where_the_api_says_they_are(five: Ring, open_page: OpenPage) -> None:
    async with open_page(home(five.nodes[1]), still=True) as visit:
        page = RingPage(visit.page)
        await page.live(5)
        members = await RingPage.members(home(five.nodes[3]))
        assert {one["name"] for one in members} == {node.name for node in five.nodes}
        seen = await page.positions()
        assert seen.keys() == {one["uid"] for one in members}
        for one in members:
            assert apart(seen[one["uid"]], one["position_ratio"]) < 0.001, one["name"]
            assert await page.node(one["uid"]).get_attribute("data-state") == one["state"] == "ready"
        shares = await page.shares()
        for one in members:
            assert abs(shares[one["uid"]] - one["arc_share"]) < 0.003, one["name"]


async def test_the_table_says_the_same_as_the_picture_and_the_api(five: Ring, open_page: OpenPage) -> None:
    async with open_page(home(five.nodes[0])) as visit:
        page = RingPage(visit.page)
        await page.live(5)
        table = await page.table()
        for one in await RingPage.members(home(five.nodes[0])):
            line = table[one["uid"]]
            assert line["Node"] == one["name"]
            assert line["State"] == one["state"]
            assert _number(line["Slot"]) == one["position"]
            assert abs(_number(line["Share"]) - 100 * one["arc_share"]) <= 0.051
            assert _number(line["Slots owned"]) == one["slots"]["users"]
            assert _number(line["Slots backed up"]) == one["slots"]["backups"]
            assert _number(line["Records owned"]) == one["records"]["users"]
            assert _number(line["Records in all"]) == sum(one["records"].values())
            spoken = await page.node(one["uid"]).get_attribute("aria-label") or ""
            for said in (one["name"], one["state"], f"slot {one['position']}", line["Share"]):
                assert said in spoken, spoken


async def test_a_killed_node_is_seen_to_leave_and_to_return(five: Ring, open_page: OpenPage) -> None:
    victim = five.nodes[4]
    async with open_page(home(five.nodes[0])) as visit:
        page = RingPage(visit.page)
        await page.live(5)
        uid = next(one["uid"] for one in await RingPage.members(home(victim)) if one["name"] == victim.name)
        killed = time.monotonic()
        victim.kill()
        try:
            await page.state(uid, "unreachable", LEFT_WITHIN)
            assert time.monotonic() - killed < LEFT_WITHIN
            await expect(visit.page.locator("#lately")).to_contain_text(f"{victim.name} is unreachable")
            await expect(visit.page.locator("#count")).to_have_text("4/5")
            await page.gone(uid, GONE_WITHIN)
            await page.live(4)
        finally:
            victim.start()
        await page.state(uid, "ready", BACK_WITHIN)
        await page.live(5)
        await expect(visit.page.locator("#verdict")).to_have_text("Whole", timeout=BACK_WITHIN * 1000)
        await _agree(page, home(five.nodes[0]))
    await five.ready()


async def test_a_lost_majority_is_the_verdict_with_the_names_of_who_is_missing(five: Ring, open_page: OpenPage) -> None:
    lost = five.nodes[2:]
    async with open_page(home(five.nodes[0])) as visit:
        page = RingPage(visit.page)
        await page.live(5)
        for node in lost:
            node.kill()
        try:
            verdict = visit.page.locator("#verdict")
            await expect(verdict).to_have_text("Unavailable", timeout=LEFT_WITHIN * 1000)
            lead = visit.page.locator("#details-lead")
            await expect(lead).to_contain_text("no majority: no account there can be used")
            for node in lost:
                await expect(lead).to_contain_text(node.name)
        finally:
            for node in lost:
                node.start()
        await expect(verdict).to_have_text("Whole", timeout=BACK_WITHIN * 1000)
    await five.ready()


async def test_the_page_comes_back_after_its_own_node_was_restarted(five: Ring, open_page: OpenPage) -> None:
    node = five.nodes[2]
    async with open_page(home(node)) as visit:
        page = RingPage(visit.page)
        await page.live(5)
        visit.witness.may_lose_the_node()
        node.terminate()
        try:
            await page.lost(LEFT_WITHIN)
            links = await visit.page.locator("#notice a").evaluate_all("(all) => all.map((one) => one.href)")
            assert set(links) == {home(other) for other in five.nodes if other is not node}
        finally:
            node.start()
        await page.live(5, BACK_WITHIN)
        await expect(visit.page.locator("#notice")).to_be_hidden()
        await five.until(whole(5))
        await expect(visit.page.locator("#verdict")).to_have_text("Whole", timeout=BACK_WITHIN * 1000)
        await _agree(page, home(node))
    await five.ready()


async def test_a_lookup_ends_at_the_owner_that_the_api_names(five: Ring, open_page: OpenPage) -> None:
    async with open_page(home(five.nodes[0]), still=True) as visit:
        page = RingPage(visit.page)
        await page.live(5)
        members = await RingPage.members(home(five.nodes[0]))
        for name in ("alice", "bob", "Cäsar"):
            slot, owner = slot_of_name(user_name(name), 1024), owner_of(name, members, 1024)["name"]
            assert (await page.look_up(name))[-1].strip() == f"The owner is {owner}"
            # What the ring suggests comes true: the slot's own nodes say so, too (a test before may have moved it).
            deadline = time.monotonic() + BACK_WITHIN
            while (acting := (await five.acting_node(slot)).name) != owner:
                assert time.monotonic() < deadline, f"{acting} acts for slot {slot}, not {owner}"
                await asyncio.sleep(0.2)
            await expect(visit.page.locator("#lookup-said")).to_contain_text(f"Slot {slot:,}")


async def _agree(page: RingPage, url: str, seconds: float = 5.0) -> None:
    """Wait until the page shows exactly the states and positions that the API names."""
    deadline = time.monotonic() + seconds
    while True:
        members = await RingPage.members(url)
        positions, table = await page.positions(), await page.table()
        wrong: list[Any] = [
            one["name"]
            for one in members
            if one["uid"] not in positions
            or apart(positions[one["uid"]], one["position_ratio"]) > 0.001
            or table[one["uid"]]["State"] != one["state"]
        ]
        if not wrong and len(table) == len(members):
            return
        assert time.monotonic() < deadline, (wrong, table)
        await asyncio.sleep(0.1)


def _number(text: str) -> float:
    """Read a number as the page writes it."""
    return float(text.replace(",", "").removesuffix("%").strip())
