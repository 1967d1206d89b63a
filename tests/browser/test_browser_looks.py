"""How the ring page looks, measured: nothing covers a name, nothing is too wide, and people can use what they see."""

from __future__ import annotations

import contextlib
import itertools

import pytest
from playwright.async_api import expect
from tests.browser.conftest import OpenPage, OpenStage, TakeStage
from tests.browser.ring_page import RingPage
from tests.browser.visits import Scheme, Visit

PHONE, DESKTOP = 360, 1280
NAMES_SHOWN = {(3, PHONE): 3, (3, DESKTOP): 3, (50, PHONE): 16, (50, DESKTOP): 35, (300, PHONE): 16, (300, DESKTOP): 40}
"""How many names a picture shows at least."""


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
@pytest.mark.parametrize("nodes", [3, 50, 300])
async def test_the_picture_is_readable(open_page: OpenPage, quiet_stage: TakeStage, nodes: int, width: int) -> None:
    stage = await quiet_stage(nodes)
    members = await RingPage.members(stage.url)
    async with open_page(stage.url, width=width, still=True) as visit:
        page = RingPage(visit.page)
        await page.live(nodes)
        await _readable(page, nodes, width)
        assert not await visit.sideways()
        # Whoever is looked at has its name shown, even where there is no room for all; and so has the page's own node.
        for one in members[0], members[nodes // 3], members[nodes - 1]:
            await page.node(one["uid"]).focus()
            await expect(visit.page.locator(f'#ring .label[data-uid="{one["uid"]}"]')).to_be_visible()
            await _readable(page, nodes, width)
        await page.look_up("person7")
        assert not await visit.sideways()


async def _readable(page: RingPage, nodes: int, width: int) -> None:
    labels = await page.boxes("#ring .label")
    assert len(labels) >= NAMES_SHOWN[nodes, width], [one.text for one in labels]
    for one, other in itertools.combinations(labels, 2):
        assert not one.covers(other), (one, other)
    marks = await page.boxes("#ring .track, #ring .nodes > .node .rim")
    for label in labels:
        assert label.x >= 0, label
        assert label.x + label.width <= width, label
        assert not any(label.covers(mark) for mark in marks[1:] if mark.width), label
    # The words in the middle lie within the ring, and lines leave them alone.
    (track,) = await page.boxes("#ring .track")
    for word in await page.boxes("#centre > *"):
        assert not word.text or (word.x > track.x and word.x + word.width < track.x + track.width), word


async def test_nobody_is_left_out(open_page: OpenPage, open_stage: OpenStage) -> None:
    """axe-core finds nothing by day or night, on a phone or a desk: in use, and when the node is gone."""
    schemes: tuple[Scheme, ...] = ("light", "dark")
    async with contextlib.AsyncExitStack() as stack:
        stage = await stack.enter_async_context(open_stage(12))
        windows = [(scheme, width) for scheme in schemes for width in (PHONE, DESKTOP)]
        visits = {
            window: await stack.enter_async_context(open_page(stage.url, scheme=window[0], width=window[1], still=True))
            for window in windows
        }
        for visit in visits.values():
            await RingPage(visit.page).live(12)
        members = await RingPage.members(stage.url)
        stage.say(f"kill {members[6]['name']}")
        for visit in visits.values():
            page = RingPage(visit.page)
            await page.state(members[6]["uid"], "unreachable", 5.0)
            await page.look_up("alice")
            await page.node(members[3]["uid"]).press("Enter")
            await expect(visit.page.locator("#now")).not_to_be_empty()
        await _judge(visits)
        for visit in visits.values():
            visit.witness.may_lose_the_node()
        stage.say("quit")
        for visit in visits.values():
            await RingPage(visit.page).lost(5.0)
        await _judge(visits)


async def _judge(visits: dict[tuple[Scheme, int], Visit]) -> None:
    found = [f"{window}: {fault}" for window, visit in visits.items() for fault in await visit.violations()]
    assert not found, "\n".join(found)
