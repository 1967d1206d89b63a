"""A node that leaves says so, and so does one that had left and is started again."""

from __future__ import annotations

import asyncio

import pytest
from tests.cluster.conftest import MakeRing
from tests.cluster.harness import Ring, post, whole


@pytest.mark.timeout(120)
async def test_who_has_left_says_so_and_comes_back_when_it_is_started_again(make_ring: MakeRing) -> None:
    ring: Ring = make_ring(4)
    ring.start()
    await ring.ready()
    leaver = ring.nodes[3]
    assert await asyncio.to_thread(post, f"{leaver.place.admin_url}/api/v1/leave", ring.token) == 202
    await leaver.until(lambda found: found.state == "left", 40.0)
    await leaver.logs("has left the ring", 5.0)
    assert leaver.terminate() == 0
    leaver.start()
    await leaver.logs("this node had left its ring and joins it again", 10.0)
    await ring.until(whole(4), 60.0)
    assert leaver.terminate() == 0
    leaver.place.log.write_text("")
    leaver.start()
    await leaver.until(lambda found: found.ready, 20.0)
    assert "had left" not in leaver.place.log.read_text()
