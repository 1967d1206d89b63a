"""Round trips to the near peers, on real links."""

from __future__ import annotations

import asyncio

import pytest
from tests.unit.peer.conftest import MakeNode
from tests.unit.peer.nodes import SOON, SystemClock

from coterie_node.peer import rtt as module
from coterie_node.peer.rtt import Echo
from coterie_protocol.identifiers import Uid


class Looks(SystemClock):
    """A clock that wakes at each look, and lets a test wait for the next one."""

    def __init__(self) -> None:
        self.looked = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self.looked.set()
        await asyncio.sleep(0.01)

    async def next(self) -> None:
        for _ in range(2):  # The look that was under way may not have seen what has just changed.
            self.looked.clear()
            async with asyncio.timeout(SOON):
                await self.looked.wait()


async def test_near_peers_are_measured_and_others_forgotten(make: MakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INTERVAL", 0.0)
    one, two, three = await make(1), await make(2), await make(3)
    await one.meet(two)
    await one.meet(three)
    near: list[Uid] = [two.uid, three.uid]
    clock = Looks()
    echo = Echo(one.links, lambda: near, clock)
    run = asyncio.create_task(echo.run())
    try:
        await clock.next()
        first = echo.seconds()
        assert set(first) == {two.uid, three.uid}
        assert all(0 < seconds < SOON for seconds in first.values())
        await clock.next()
        assert echo.seconds()[two.uid] != first[two.uid]  # Measured anew.
        near.remove(three.uid)
        assert set(echo.seconds()) == {two.uid}
        await two.stop()
        await one.until(lambda: not one.links.alive(two.uid))
        assert not echo.seconds()
    finally:
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)


async def test_a_node_that_is_far_or_not_linked_is_not_asked(make: MakeNode) -> None:
    one, two = await make(1), await make(2)
    one.links.learn([two.me])
    clock = Looks()
    echo = Echo(one.links, lambda: [two.uid], clock)
    run = asyncio.create_task(echo.run())
    try:
        await clock.next()
        assert not one.links.alive(two.uid)  # It would have been dialled by the book.
        assert not echo.seconds()
    finally:
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
