"""`python -m tests.browser.screenshots`: the ring page in each size, with small and large rings, by day and by night.

Nobody compares the pictures with older ones: they are for people to look at, after each change of what is seen.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from playwright.async_api import Browser
from tests.browser.memory_ring import REPLICATION_FACTOR
from tests.browser.ring_page import RingPage
from tests.browser.staging import Stage, stage
from tests.browser.visits import Scheme, browser, visit
from tests.tools.needs import CannotRun

SIZES = {"phone": (360, 780), "tablet": (820, 1180), "desktop": (1440, 900)}
NODES = (3, 50, 300)
SCHEMES: tuple[Scheme, ...] = ("light", "dark")
SEARCHED = "person7"


async def shoot(running: Browser, shown: Stage, nodes: int, folder: Path) -> None:
    """Take pictures of one ring: at rest, with one node looked at and a lookup followed, with a node gone,
    and when the page's own node is."""
    members = await RingPage.members(shown.url)
    looked_at, victim = members[nodes // 3]["uid"], members[nodes // 2]
    for size, (width, height) in SIZES.items():
        for scheme in SCHEMES:
            async with visit(running, shown.url, width=width, height=height, scheme=scheme, still=True) as seen:
                ring = RingPage(seen.page)
                await ring.live(nodes)
                picture = f"{nodes}-{size}-{scheme}"
                await seen.page.screenshot(path=folder / f"{picture}.png", full_page=nodes < 100)
                await ring.look_up(SEARCHED)
                await ring.node(looked_at).press("ArrowRight")  # by keyboard: it is not the pointer that counts
                await seen.page.screenshot(path=folder / f"{picture}-looking.png")
    async with visit(running, shown.url, still=True) as seen:
        ring = RingPage(seen.page)
        await ring.live(nodes)
        shown.say(f"kill {victim['name']}")
        await ring.state(victim["uid"], "unreachable", 5.0)
        await seen.page.screenshot(path=folder / f"{nodes}-missing.png")
        if nodes > REPLICATION_FACTOR:  # Fewer have nobody to hand anything over to.
            await ring.moving(20.0)
            await seen.page.screenshot(path=folder / f"{nodes}-moving.png")
        seen.witness.may_lose_the_node()
        shown.say("quit")
        await ring.lost(5.0)
        await seen.page.screenshot(path=folder / f"{nodes}-lost.png")


async def take(folder: Path, sizes: tuple[int, ...]) -> None:
    """Take all pictures. Raises CannotRun."""
    async with browser() as running:
        for nodes in sizes:
            async with stage(nodes) as shown:
                await shoot(running, shown, nodes, folder)


def main() -> int:
    """Run the command; 0 done, 1 there is no browser."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.browser.screenshots",
        description=__doc__,
        epilog="example: python -m tests.browser.screenshots --out /tmp/pictures --nodes 50",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, help="the folder for the pictures")
    parser.add_argument("--nodes", type=int, action="append", help="how many (default: 3, 50 and 300 after each other)")
    given = parser.parse_args()
    try:
        given.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--out {given.out}: {error.strerror}")
    try:
        asyncio.run(take(given.out, tuple(given.nodes or NODES)))
    except CannotRun as why:
        print(why, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
