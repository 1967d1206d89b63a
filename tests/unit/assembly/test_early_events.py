"""An event that comes before the node has the room which takes it is no news; one that no room takes is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from bench.ports import free_port
from structlog.testing import capture_logs
from tests.unit.peer import nodes as peers
from tests.unit.peer.nodes import SOON

from coterie_node.assembly.node import Node
from coterie_node.config.settings import Address, NodeConfig
from coterie_protocol.errors import Unavailable
from coterie_protocol.identifiers import Uid
from coterie_protocol.nodes import Ping, WhoIs
from coterie_protocol.replication import ClockTold

ANY = Address("127.0.0.1", 0)


@asynccontextmanager
async def running(directory: Path, port: int) -> AsyncIterator[None]:
    """Run a node that founds a ring."""
    config = NodeConfig(
        data_dir=directory, name="n1", found=True, ring_uid=peers.RING, replication_factor=3, slots=1024, bcrypt_cost=4,
        listen_client=ANY, listen_peer=Address("127.0.0.1", port), listen_admin=ANY,
    )  # fmt: skip
    node = Node(config)
    starting = asyncio.create_task(node.start())
    try:
        await starting
        yield
    finally:
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await node.stop()


async def meet(peer: peers.Node, port: int) -> Uid:
    """Link a peer with the node as soon as that listens."""
    async with asyncio.timeout(SOON):
        while True:
            try:
                return (await peer.links.contact("127.0.0.1", port, SOON)).uid
            except Unavailable:
                await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("message", "unknown"),
    [
        (ClockTold(1), False),
        (WhoIs([]), True),  # a request, and none that may come without a number
    ],
)
async def test_only_what_no_room_takes_is_warned_of(tmp_path: Path, message: Any, unknown: bool) -> None:
    port = free_port(1)
    peer = peers.Node(2)
    await peer.start()
    with capture_logs() as logs:
        async with running(tmp_path, port):
            uid = await meet(peer, port)
            assert peer.links.send(uid, message)
            await peer.links.request(uid, Ping(), SOON)  # what came before it has been taken
    await peer.stop()
    warned = [one["kind"] for one in logs if one["event"] == "unknown event" and one["sender"] == peer.uid]
    assert warned == [type(message).__name__] * unknown
