"""What the other tests here trust: whoever opens a bad page is told so."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import web
from tests.browser.conftest import OpenPage

RULES = "default-src 'none'; script-src 'self'; img-src * data:; connect-src *; style-src 'unsafe-inline'"
BAD = {
    "violates script-src": "<script>document.title = 'run'</script>",
    "asks elsewhere": "<img alt='far away' src='http://example.invalid/x.png'>",
    "Failed to load resource": "<script src='missing.js'></script>",
    "error: out of order": "<script src='throws.js'></script>",
}


@pytest_asyncio.fixture(loop_scope="session")
async def site() -> AsyncIterator[str]:
    """A site with a page for each sin, and a good one."""

    async def page(request: web.Request) -> web.Response:
        body = BAD.get(request.query.get("sin", ""), "")
        text = (
            f"<!doctype html><html lang=en><title>A page</title><link rel=icon href='data:,'><main><h1>Page</h1>{body}"
        )
        return web.Response(text=text, content_type="text/html", headers={"Content-Security-Policy": RULES})

    async def throws(_: web.Request) -> web.Response:
        return web.Response(text="throw new Error('out of order')", content_type="text/javascript")

    app = web.Application()
    app.router.add_get("/", page)
    app.router.add_get("/throws.js", throws)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        at = web.TCPSite(runner, "127.0.0.1", 0)
        await at.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("sin", BAD)
async def test_a_page_that_does_what_it_must_not_is_found_out(open_page: OpenPage, site: str, sin: str) -> None:
    with pytest.raises(AssertionError, match=sin):
        async with open_page(f"{site}?sin={sin}") as visit:
            await visit.page.wait_for_load_state("networkidle")
    async with open_page(site):
        pass


async def test_what_people_cannot_use_and_what_is_too_wide_is_found(open_page: OpenPage, site: str) -> None:
    async with open_page(site, width=360) as visit:
        assert not await visit.violations()
        assert not await visit.sideways()
        await visit.page.evaluate(
            """document.querySelector("main").insertAdjacentHTML(
                "beforeend", "<button></button><p style='width: 400px; color: #ccc'>pale, and wide</p>")"""
        )
        found = "\n".join(await visit.violations())
        assert "button-name" in found
        assert "color-contrast" in found
        assert await visit.sideways() > 0
