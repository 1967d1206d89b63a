"""Looking at a page in a real browser, and noting everything that a page must not do.

A page of ours reports no error, asks nobody but its own node and breaks no rule of its Content-Security-Policy; every
visit checks that at its end, whatever else the test is about.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator
from typing import Any, Literal
from urllib.parse import urlsplit

from playwright.async_api import Browser, ConsoleMessage, Page, Request, async_playwright
from tests.browser.needs import axe, chromium

Scheme = Literal["light", "dark"]

_NO_OUTSIDE = "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost"
"""The browser resolves nothing: what a page, or the browser itself, asks elsewhere fails at once."""
_LOST = re.compile(r"net::ERR_(CONNECTION_REFUSED|CONNECTION_RESET|INCOMPLETE_CHUNKED_ENCODING|EMPTY_RESPONSE)|503")
"""What the browser itself says in the console when the node goes away under a page."""
_REPORT_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (event) => console.error(
  `violates ${event.effectiveDirective}: ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`));
"""


@contextlib.asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    """Run a browser without a screen. Raises CannotRun."""
    path = chromium()
    async with async_playwright() as driver:
        # Root has no sandbox; what is shown comes from our own nodes only.
        running = await driver.chromium.launch(
            executable_path=path,
            headless=True,
            chromium_sandbox=False,
            args=[_NO_OUTSIDE, "--force-color-profile=srgb"],
        )
        try:
            yield running
        finally:
            await running.close()


class Witness:
    """Notes what a page does that it must not."""

    def __init__(self, page: Page, home: str) -> None:
        self._home = urlsplit(home).netloc
        self._expected: list[re.Pattern[str]] = []
        self.faults: list[str] = []
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        page.on("request", self._request)

    def may_lose_the_node(self) -> None:
        """Expect the node to go away from now on: the browser itself complains of that, in the console."""
        self._expected.append(_LOST)

    def may_be_refused(self, status: int) -> None:
        """Expect the node to answer with this status: the browser complains of that, too."""
        self._expected.append(re.compile(rf"the server responded with a status of {status}"))

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not any(one.search(message.text) for one in self._expected):
            self.faults.append(f"{message.type}: {message.text} ({message.location.get('url', '')})")

    def _request(self, request: Request) -> None:
        address = urlsplit(request.url)
        if address.scheme not in ("data", "blob") and address.netloc != self._home:
            self.faults.append(f"asks elsewhere: {request.url}")

    def check(self) -> None:
        """Raise AssertionError with everything that was noted."""
        assert not self.faults, "\n".join(self.faults)


class Visit:
    """A page, open in a browser window of a given size."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.witness = Witness(page, url)

    async def violations(self) -> list[str]:
        """Return what axe-core finds wrong for people who see, hear or point differently: one line an element."""
        if not await self.page.evaluate("'axe' in window"):
            await self.page.evaluate(axe().read_text())
        found: dict[str, Any] = await self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        return [
            f"{one['id']} ({one['impact']}): {one['help']}\n    {node['html'][:200]}\n    {node['failureSummary']}"
            for one in found["violations"]
            for node in one["nodes"]
        ]

    async def sideways(self) -> int:
        """Return by how many pixels the page is wider than its window."""
        wider: int = await self.page.evaluate(
            "document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth"
        )
        return wider


@contextlib.asynccontextmanager
async def visit(
    browser: Browser, url: str, *, width: int = 1280, height: int = 900, scheme: Scheme = "light", still: bool = False
) -> AsyncIterator[Visit]:
    """Open an address in a window of its own; check at the end what the page must not do.

    `still`: as for people who have asked their system to move nothing.
    """
    context = await browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=scheme,
        reduced_motion="reduce" if still else "no-preference",
        locale="en-GB",
    )
    try:
        page = await context.new_page()
        await page.add_init_script(_REPORT_VIOLATIONS)
        one = Visit(page, url)
        await page.goto(url)
        yield one
        one.witness.check()
    finally:
        await context.close()
