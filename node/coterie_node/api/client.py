"""The client port: one WebSocket a client, at `client_api.CLIENT_PATH`."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import cast

import structlog
from aiohttp import web

from coterie_node.chat.gateway import Gateway
from coterie_node.chat.settings import ChatSettings
from coterie_protocol.client_api import CLIENT_PATH, MAX_CLIENT_FRAME_BYTES
from coterie_protocol.errors import CoterieError, ErrorCode

from .connection import Connection

log = structlog.get_logger()

DRAIN_SECONDS = 2.0
"""How long clients have to go elsewhere once they have been told."""
TEXT = "A coterie node. Clients connect by WebSocket at {path}: coterie login NAME\n"


class ClientApi:
    """Takes clients' connections and hands them to the gateway."""

    def __init__(self, gateway: Gateway, settings: ChatSettings) -> None:
        self._gateway = gateway
        self._limit = settings.connections_per_address
        self._open: dict[Connection, str] = {}
        self._by_address: Counter[str] = Counter()
        self._empty = asyncio.Event()
        self._closing = False
        self.app = web.Application()
        self.app.router.add_get("/", self._index)
        self.app.router.add_get(CLIENT_PATH, self._connect)

    async def drain(self) -> None:
        """Tell every client that the node goes away, and give them a moment to leave."""
        self._closing = self._gateway.closing = True
        for connection in list(self._open):
            connection.closing()
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                while self._open:
                    self._empty.clear()
                    await self._empty.wait()
        except TimeoutError:
            log.info("closes the connections that stayed", connections=len(self._open))
        for connection in list(self._open):
            connection.end()

    async def _index(self, _: web.Request) -> web.Response:
        return web.Response(text=TEXT.format(path=CLIENT_PATH))

    async def _connect(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(max_msg_size=MAX_CLIENT_FRAME_BYTES, compress=False)
        writer = await socket.prepare(request)
        transport = request.transport
        if transport is None:
            return socket
        address = request.remote or "unknown"
        connection = Connection(self._gateway, socket, cast(asyncio.Transport, transport), writer.drain, address)
        refusal = self._refusal(address)
        if refusal is not None:
            await connection.refuse(refusal)
            return socket
        self._open[connection] = address
        self._by_address[address] += 1
        try:
            await connection.run()
        finally:
            del self._open[connection]
            self._by_address[address] -= 1
            if not self._by_address[address]:
                del self._by_address[address]
            self._empty.set()
        return socket

    def _refusal(self, address: str) -> CoterieError | None:
        if self._closing:
            return CoterieError("the node is going away; connect to another", code=ErrorCode.SHUTTING_DOWN)
        if self._by_address[address] >= self._limit:
            return CoterieError(
                f"too many open connections from {address}; the limit is {self._limit}",
                code=ErrorCode.RATE_LIMITED,
                value=1000,
            )
        return None
