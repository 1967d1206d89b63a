"""One browser and one ring of five for all tests here, and one event loop with them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser
from tests.browser.staging import Stage, stage
from tests.browser.visits import Visit, browser, visit
from tests.cluster.harness import Ring
from tests.tools.needs import or_skip

OpenPage = Callable[..., contextlib.AbstractAsyncContextManager[Visit]]
TakeStage = Callable[[int], Awaitable[Stage]]
OpenStage = Callable[..., contextlib.AbstractAsyncContextManager[Stage]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests, and have them share a loop: a browser belongs to the one in which it was started."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker("browser")
            if pytest_asyncio.is_async_test(item):
                item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium() -> AsyncIterator[Browser]:
    """The browser; where there can be none the tests skip and say why, but in CI that is a failure."""
    async with contextlib.AsyncExitStack() as stack:
        with or_skip():
            running = await stack.enter_async_context(browser())
        yield running


@pytest.fixture
def open_page(chromium: Browser) -> OpenPage:
    """Open pages: `async with open_page(url, width=360, scheme="dark") as visit`."""
    return lambda url, **how: visit(chromium, url, **how)


@pytest.fixture
def open_stage() -> OpenStage:
    """Start stages: `async with open_stage(50) as stage`."""
    return stage


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def quiet_stage() -> AsyncIterator[TakeStage]:
    """Stages that tests share and only look at, one of each size, nobody writes: `stage = await quiet_stage(300)`."""
    async with contextlib.AsyncExitStack() as stack:
        running: dict[int, Stage] = {}

        async def take(nodes: int) -> Stage:
            if nodes not in running:
                running[nodes] = await stack.enter_async_context(stage(nodes, "--messages", "0"))
            return running[nodes]

        yield take


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def five(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ring]:
    """A ring of five real nodes. Who harms a node makes the ring whole again before the test ends."""
    ring = Ring(tmp_path_factory.mktemp("ring"), 5, {"COTERIE_NODE_REPLACE_AFTER": "2"})
    ring.start()
    try:
        await ring.ready()
        yield ring
        assert all(node.running for node in ring.nodes), [node.last_words for node in ring.nodes]
    finally:
        ring.stop()
