"""Who connects to a port, asks for a WebSocket, and is gone before it is answered."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from aiohttp import web

from coterie_node.http.guard import Guarded

LEAVINGS = ["before the answer is begun", "while it is written"]


async def leave_during_upgrade(url: str, when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask for a WebSocket, and let the reset come right behind what was asked: at one of two turns of the loop."""

    def taken(guarded: Guarded, data: bytes) -> None:
        web.RequestHandler.data_received(guarded, data)
        if when == LEAVINGS[0]:
            guarded.wire.abort()
        else:  # The handler then runs while the transport closes but is not yet known to be lost.
            asyncio.get_running_loop().call_soon(guarded.wire.abort)

    with monkeypatch.context() as patched:
        patched.setattr(Guarded, "data_received", taken)
        async with aiohttp.ClientSession() as http:
            with pytest.raises(aiohttp.ClientError):
                await http.ws_connect(url)
