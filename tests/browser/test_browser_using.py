"""Using the ring page: with a pointer, with the keyboard, by typing; and with nodes that have strange names."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import expect
from tests.browser.conftest import OpenPage, OpenStage, TakeStage
from tests.browser.ring_page import RingPage, owner_of

STRANGE = (
    "<img src=x onerror=alert(1)>",
    "\"'><script>alert(2)</script>",
    "</title><svg onload=alert(3)>",
    "&lt;b&gt; &amp;",
    "名前 🦊 \u202ereversed",
)


def _written(name: str) -> str:
    """Return how the page writes a name: without what would turn the words around it."""
    return name.replace("\u202e", "")


async def _shown_in_details(page: RingPage, one: dict[str, Any], members: list[dict[str, Any]]) -> None:
    await expect(page.page.locator("#details-title")).to_have_text(_written(one["name"]))
    details = await page.details()
    names = {other["uid"]: _written(other["name"]) for other in members}
    assert details["Uid"] == one["uid"]
    assert details["Share of the circle"] == f"{100 * one['arc_share']:.1f} %"
    assert details["Successors"] == ", ".join(names[uid] for uid in one["successors"])
    assert f"{one['slots']['users']} as owner" in details["roles"]
    assert f"{one['records']['users']} as owner" in details["roles"]
    assert f"{one['records']['backups']} as replica" in details["roles"]
    # The picture shows whom it points to: a line a successor, and one a finger that is none.
    fingers = set(one["fingers"]) - set(one["successors"])
    await expect(page.page.locator("#ring .successor")).to_have_count(len(one["successors"]))
    await expect(page.page.locator("#ring .finger")).to_have_count(len(fingers))


async def test_pointing_at_a_node_shows_what_is_known_of_it(open_page: OpenPage, quiet_stage: TakeStage) -> None:
    stage = await quiet_stage(50)
    members = await RingPage.members(stage.url)
    async with open_page(stage.url) as visit:
        page = RingPage(visit.page)
        await page.live(50)
        for one in members[3], members[40]:
            await page.node(one["uid"]).hover()
            await _shown_in_details(page, one, members)
        await page.row(members[7]["uid"]).hover()
        await _shown_in_details(page, members[7], members)
        await visit.page.locator("h1").hover()
        await expect(visit.page.locator("#details-title")).to_have_text("The whole ring")
        await expect(visit.page.locator("#ring .successor")).to_have_count(0)


async def test_a_node_that_was_clicked_stays_until_it_is_let_go(open_page: OpenPage, quiet_stage: TakeStage) -> None:
    stage = await quiet_stage(50)
    members = await RingPage.members(stage.url)
    async with open_page(stage.url) as visit:
        page = RingPage(visit.page)
        await page.live(50)
        await page.node(members[9]["uid"]).click()
        await visit.page.locator("h1").hover()
        await _shown_in_details(page, members[9], members)
        assert await page.node(members[9]["uid"]).get_attribute("aria-pressed") == "true"
        await page.row(members[9]["uid"]).locator("button").click()
        await visit.page.locator("h1").hover()
        await expect(visit.page.locator("#details-title")).to_have_text("The whole ring")


async def test_the_keyboard_goes_round_the_ring(open_page: OpenPage, quiet_stage: TakeStage) -> None:
    stage = await quiet_stage(50)
    members = await RingPage.members(stage.url)
    order = [one["uid"] for one in members]
    async with open_page(stage.url) as visit:
        page, keys = RingPage(visit.page), visit.page.keyboard
        await page.live(50)
        await keys.press("Tab")  # the link that skips to the table
        await expect(visit.page.locator(".skip")).to_be_focused()
        await keys.press("Tab")
        at = order.index(await page.focused() or "")
        await _shown_in_details(page, members[at], members)
        for key, step in (("ArrowRight", 1), ("ArrowDown", 1), ("ArrowLeft", -1), ("ArrowLeft", -1), ("ArrowUp", -1)):
            await keys.press(key)
            at = (at + step) % len(order)
            assert await page.focused() == order[at], key
        await _shown_in_details(page, members[at], members)
        await keys.press("End")
        assert await page.focused() == order[-1]
        await keys.press("ArrowRight")
        assert await page.focused() == order[0]
        await keys.press("ArrowLeft")
        await keys.press("Home")
        assert await page.focused() == order[0]
        # Enter keeps it when the focus goes elsewhere; Escape lets it go. The ring is one stop of Tab, not fifty.
        await keys.press("Enter")
        await keys.press("Tab")
        assert await page.focused() is None
        await _shown_in_details(page, members[0], members)
        await keys.press("Escape")
        await expect(visit.page.locator("#details-title")).to_have_text("The whole ring")
        await keys.press("Shift+Tab")
        assert await page.focused() == order[0]


async def test_the_pointer_at_rest_does_not_take_from_the_keyboard(open_page: OpenPage, quiet_stage: TakeStage) -> None:
    stage = await quiet_stage(50)
    members = await RingPage.members(stage.url)
    async with open_page(stage.url, width=360, height=700) as visit:
        page = RingPage(visit.page)
        await page.live(50)
        await visit.page.mouse.move(180, 5)
        await page.node(members[20]["uid"]).focus()
        (track,) = await page.boxes("#ring .track")
        await visit.page.mouse.move(track.x + track.width / 2, track.y + track.height / 2)
        await _shown_in_details(page, members[20], members)
        await visit.page.mouse.move(180, 5)
        await _shown_in_details(page, members[20], members)


async def test_a_lookup_is_followed_from_node_to_node(open_page: OpenPage, quiet_stage: TakeStage) -> None:
    stage = await quiet_stage(300)
    members = await RingPage.members(stage.url)
    names = {one["name"] for one in members}
    async with open_page(stage.url, still=True) as visit:
        page = RingPage(visit.page)
        await page.live(300)
        longest = 0
        for name in ("person7", "person12", "alice", "zoë"):
            lines = await page.look_up(name)
            owner = owner_of(name, members, 4096)["name"]
            assert lines[-1].strip() == f"The owner is {owner}"
            asked = [line.removeprefix("asks ").split(":")[0] for line in lines[1:-1]]
            assert set(asked) <= names
            assert len(asked) <= 9, "more than log2 of the nodes"
            stops = len({*asked, owner})
            await expect(visit.page.locator("#ring .hop")).to_have_count(stops)
            longest = max(longest, len(asked))
        assert longest >= 2
        await visit.page.keyboard.press("Escape")
        await expect(visit.page.locator("#ring .hop")).to_have_count(0)
        await expect(visit.page.locator("#lookup-hops li")).to_have_count(0)


async def test_hops_are_shown_one_after_the_other(open_page: OpenPage, quiet_stage: TakeStage) -> None:
    async with open_page((await quiet_stage(300)).url) as visit:
        page = RingPage(visit.page)
        await page.live(300)
        counts: list[int] = []
        await visit.page.expose_function("counted", lambda count: counts.append(count))
        await visit.page.evaluate(
            """new MutationObserver(() => counted(document.querySelectorAll("#lookup-hops li").length))
                .observe(document.getElementById("lookup-hops"), { childList: true })"""
        )
        lines = await page.look_up("person7")
        assert [count for count in counts if count] == list(range(1, len(lines) + 1))


async def test_who_wants_no_motion_sees_the_whole_way_at_once(open_page: OpenPage, quiet_stage: TakeStage) -> None:
    async with open_page((await quiet_stage(50)).url, still=True) as visit:
        page = RingPage(visit.page)
        await page.live(50)
        await visit.page.clock.install()
        lines = await page.look_up("person7")
        await visit.page.clock.run_for(5000)  # of the page's own time
        assert await visit.page.locator("#lookup-hops li").all_inner_texts() == lines


async def test_what_is_no_name_is_answered_with_a_sentence(open_page: OpenPage, quiet_stage: TakeStage) -> None:
    async with open_page((await quiet_stage(3)).url) as visit:
        page = RingPage(visit.page)
        await page.live(3)
        visit.witness.may_be_refused(400)
        await visit.page.locator("#lookup-word").fill("no such\u0007name")
        await visit.page.locator("#lookup-form button").click()
        await expect(visit.page.locator("#lookup-said")).to_contain_text("could not be looked up")


async def test_the_table_can_be_sorted_and_searched(open_page: OpenPage, quiet_stage: TakeStage) -> None:
    stage = await quiet_stage(50)
    members = await RingPage.members(stage.url)
    async with open_page(stage.url) as visit:
        page = RingPage(visit.page)
        await page.live(50)
        await visit.page.get_by_role("button", name="Records owned").click()
        owned = [int(line["Records owned"].replace(",", "")) for line in (await page.table()).values()]
        assert owned == sorted((one["records"]["users"] for one in members), reverse=True)
        await visit.page.get_by_label("Filter").fill("main-1")
        wanted = {one["name"] for one in members if "main-1" in one["name"]}
        await expect(visit.page.locator("#rows tr")).to_have_count(len(wanted))
        assert {line["Node"] for line in (await page.table()).values()} == wanted


@pytest.mark.parametrize("width", [360, 1280])
async def test_names_with_markup_in_them_stay_text(open_page: OpenPage, open_stage: OpenStage, width: int) -> None:
    given = [word for name in STRANGE for word in ("--name", name)]
    async with (
        open_stage(len(STRANGE), "--messages", "0", *given) as stage,
        open_page(stage.url, width=width, still=True) as visit,
    ):
        page = RingPage(visit.page)
        visit.page.on("dialog", lambda dialog: visit.witness.faults.append(f"a dialog: {dialog.message}"))
        await page.live(len(STRANGE))
        before = await visit.page.evaluate("document.querySelectorAll('script, img, b, [onload], [onerror]').length")
        members = await RingPage.members(stage.url)
        assert [one["name"] for one in members] == list(STRANGE)
        table = await page.table()
        for one in members:
            assert table[one["uid"]]["Node"] == _written(one["name"])
            await page.node(one["uid"]).focus()
            await _shown_in_details(page, one, members)
        await page.look_up("alice")
        stage.say(f"kill {STRANGE[1]}")
        await page.state(members[1]["uid"], "unreachable", 5.0)
        await expect(visit.page.locator("#lately")).to_contain_text(STRANGE[1])
        assert STRANGE[0] in await visit.page.locator("#seat-name").inner_text()
        assert (
            await visit.page.evaluate("document.querySelectorAll('script, img, b, [onload], [onerror]').length")
            == before
        )
        assert not await visit.sideways()
