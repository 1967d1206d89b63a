"""The ring page as its tests speak of it: nodes by name, what is shown of them, what one can do."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from playwright.async_api import Locator, Page, expect
from tests.cluster.harness import get_json

from coterie_protocol.identifiers import slot_of_name, user_name

SEEN_WITHIN = 10.0
"""Seconds for what has no promise of its own."""


@dataclass(frozen=True)
class Box:
    """A rectangle of the window, in CSS pixels."""

    x: float
    y: float
    width: float
    height: float
    text: str = ""

    def covers(self, other: Box) -> bool:
        """Say whether the two overlap by more than a hair."""
        across = min(self.x + self.width, other.x + other.width) - max(self.x, other.x)
        down = min(self.y + self.height, other.y + other.height) - max(self.y, other.y)
        return across > 0.5 and down > 0.5


class RingPage:
    """The page, open in a window."""

    def __init__(self, page: Page) -> None:
        self.page = page

    @staticmethod
    async def members(url: str) -> list[dict[str, Any]]:
        """Return what the admin API behind the page says, by position."""
        for more in range(5, -1, -1):
            try:
                report = await asyncio.to_thread(get_json, f"{url}api/v1/ring")
            except TimeoutError:  # Three hundred nodes in one process have to share a CPU with all else.
                if not more:
                    raise
            else:
                break
        return sorted(report["members"], key=lambda one: (one["position"], one["uid"]))

    async def live(self, nodes: int, seconds: float = SEEN_WITHIN) -> None:
        """Wait until the stream runs and so many nodes are shown, in the picture and in the table."""
        await expect(self.page.locator("#live")).to_have_attribute("data-state", "live", timeout=seconds * 1000)
        await expect(self.page.locator("#rows tr")).to_have_count(nodes, timeout=seconds * 1000)
        await expect(self.page.locator("#ring .nodes > .node")).to_have_count(nodes, timeout=seconds * 1000)

    async def lost(self, seconds: float) -> None:
        """Wait until the page says that its node does not answer."""
        await expect(self.page.locator("#live")).to_have_attribute("data-state", "lost", timeout=seconds * 1000)
        await expect(self.page.locator("#notice")).to_be_visible()

    # --- the picture ---

    def node(self, uid: str) -> Locator:
        """Return a node in the picture."""
        return self.page.locator(f'#ring .nodes > .node[data-uid="{uid}"]')

    def row(self, uid: str) -> Locator:
        """Return its line in the table."""
        return self.page.locator(f'#rows tr[data-uid="{uid}"]')

    async def state(self, uid: str, state: str, seconds: float) -> None:
        """Wait until picture and table show a node in a state."""
        for shown in (self.node(uid), self.row(uid)):
            await expect(shown).to_have_attribute("data-state", state, timeout=seconds * 1000)

    async def gone(self, uid: str, seconds: float) -> None:
        """Wait until neither picture nor table shows a node."""
        for shown in (self.node(uid), self.row(uid)):
            await expect(shown).to_have_count(0, timeout=seconds * 1000)

    async def moving(self, seconds: float) -> None:
        """Wait until slots are seen on their way."""
        await expect(self.page.locator("#ring .handover").first).to_be_attached(timeout=seconds * 1000)

    async def positions(self) -> dict[str, float]:
        """Return where each node is seen on the circle, in [0, 1) from the top clockwise: measured from the pixels."""
        found: dict[str, float] = {}
        seen: dict[str, Any] = await self.page.evaluate(_CENTRES)
        x, y = seen["middle"]
        for uid, (at_x, at_y) in seen["nodes"].items():
            found[uid] = (math.atan2(at_x - x, y - at_y) / math.tau) % 1.0
        return found

    async def shares(self) -> dict[str, float]:
        """Return how long each node's arc is, as a part of the circle: measured from what is drawn."""
        found: dict[str, float] = await self.page.evaluate(_SHARES)
        return found

    async def boxes(self, selector: str) -> list[Box]:
        """Return where elements lie in the window, and their texts."""
        return [Box(**one) for one in await self.page.locator(selector).evaluate_all(_BOXES)]

    # --- what one can do ---

    async def look_up(self, name: str, seconds: float = SEEN_WITHIN) -> list[str]:
        """Type a user's name and follow it; return the lines of the way once it is over."""
        await self.page.locator("#lookup-word").fill(name)
        await self.page.locator("#lookup-form button").click()
        hops = self.page.locator("#lookup-hops li")
        await expect(hops.last).to_contain_text("The owner is", timeout=seconds * 1000)
        return await hops.all_inner_texts()

    async def table(self) -> dict[str, dict[str, str]]:
        """Return the lines of the table by uid, each cell by the title of its column."""
        found: dict[str, dict[str, str]] = await self.page.evaluate(_TABLE)
        return found

    async def details(self) -> dict[str, str]:
        """Return what the card of details says: its facts by their names, and its title."""
        return dict(await self.page.evaluate(_DETAILS))

    async def focused(self) -> str | None:
        """Return the uid of the node in the picture that has the keyboard's focus."""
        uid: str | None = await self.page.evaluate("document.activeElement?.closest('#ring [data-uid]')?.dataset.uid")
        return uid


def owner_of(name: str, members: Sequence[dict[str, Any]], slots: int) -> dict[str, Any]:
    """Return the node that owns a user's slot: the first one at it or after it, round the circle."""
    slot = slot_of_name(user_name(name), slots)
    return next((one for one in members if one["position"] >= slot), members[0])


def apart(one: float, two: float) -> float:
    """Return how far two positions are apart on the circle."""
    far = abs(one - two) % 1.0
    return min(far, 1.0 - far)


_CENTRES = """() => {
  const centre = (element) => {
    const box = element.getBoundingClientRect();
    return [box.x + box.width / 2, box.y + box.height / 2];
  };
  const nodes = [...document.querySelectorAll("#ring .nodes > .node")];
  return {
    middle: centre(document.querySelector("#ring .track")),
    nodes: Object.fromEntries(nodes.map((one) => [one.dataset.uid, centre(one.querySelector(".rim, .speck"))])),
  };
}"""
_SHARES = """() => {
  const round = 2 * Math.PI * document.querySelector("#ring .track").r.baseVal.value;
  const arcs = [...document.querySelectorAll("#ring .arc")];
  return Object.fromEntries(arcs.map((one) => [one.dataset.uid, one.querySelector(".band").getTotalLength() / round]));
}"""
_BOXES = """(elements) => elements.map((one) => {
  const { x, y, width, height } = one.getBoundingClientRect();
  // Of a line of text the letters count, not the white above and below them.
  const letters = one.localName === "text" ? parseFloat(getComputedStyle(one).fontSize) : height;
  return { x, y: y + (height - letters) / 2, width, height: letters, text: one.textContent };
})"""
_TABLE = """() => {
  const titles = [...document.querySelectorAll("#columns th")].map((one) => one.textContent);
  const lines = [...document.querySelectorAll("#rows tr")];
  return Object.fromEntries(lines.map((line) => [
    line.dataset.uid, Object.fromEntries([...line.children].map((cell, i) => [titles[i], cell.textContent]))]));
}"""
_DETAILS = """() => [
  ["title", document.getElementById("details-title").textContent],
  ["lead", document.getElementById("details-lead").textContent],
  ["roles", document.getElementById("details-roles").textContent],
  ...[...document.querySelectorAll("#details-facts div")].map(
    (one) => [one.querySelector("dt").textContent, one.querySelector("dd").textContent]),
]"""
