"""A flood of one source costs others a turn at most: real sockets, real bcrypt."""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
from tests.unit.api.lone_node import LoneNode, Peer, connected, lone_node

from coterie_protocol.client_api import CLIENT_PATH, ClientFrame, Kdf, Login, Register, SessionGranted
from coterie_protocol.frames import encode

COST = 7
"""Some ten milliseconds a hash."""


@contextlib.asynccontextmanager
async def from_elsewhere(node: LoneNode) -> AsyncIterator[Peer]:
    """Connect from another of this machine's addresses."""
    connector = aiohttp.TCPConnector(local_addr=("127.0.0.9", 0))
    async with aiohttp.ClientSession(connector=connector) as http, http.ws_connect(node.url + CLIENT_PATH) as socket:
        yield Peer(socket)


async def test_an_owner_logs_in_while_another_source_floods_with_registrations(tmp_path: Path) -> None:
    auth = base64.b64encode(hashlib.sha256(b"alice").digest()).decode()
    async with lone_node(tmp_path, bcrypt_cost=COST) as node, connected(node.url) as owner:
        await owner.hello()
        await owner.register("alice")
        async with from_elsewhere(node) as flood:
            await flood.hello()
            frames = [
                ClientFrame(number, Register(f"user{number}", Kdf(8, 1, 1), auth, b"", b"", number.to_bytes(16, "big")))
                for number in range(100, 140)
            ]
            await flood.socket.send_bytes(encode(frames))
            await flood.frames()  # It has the worker.
            async with connected(node.url) as device:
                await device.hello()
                await device.ask(Login("alice", auth, bytes(15) + b"\2"), SessionGranted)
            # Some thirty of the flood wait at a time; first come, first served, they would all be before the owner.
            assert node.chat.gateway.registration.counts.registered < 10
