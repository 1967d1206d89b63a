"""The peer port: takes connections and hands their WebSockets on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from coterie_protocol.client_api import MAX_PEER_FRAME_BYTES, PEER_PATH

from ..config.settings import Address
from ..http.guard import Guarded, PortLimits
from ..http.listening import Port, plain, upgraded
from ..http.origins import origins_only
from .settings import PeerSettings
from .wire import Wire

MIN_IDLE = 2.0
"""Seconds that a connection has at least for its request; the hello has `dial_timeout` after that."""


class Listener:
    """An HTTP server that knows one path. `serve(wire, host)` is awaited for each connection."""

    def __init__(self, serve: Callable[[Wire, str], Awaitable[None]], settings: PeerSettings) -> None:
        self._serve = serve
        self._settings = settings
        self._port: Port | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen, and return the port (which the system chose when it was 0). Raises ListenError."""
        app = web.Application(middlewares=[origins_only((), "it is for nodes")])
        app.router.add_get(PEER_PATH, self._upgrade)
        settings = self._settings
        idle = max(MIN_IDLE, settings.dial_timeout)
        limits = PortLimits(settings.connections, settings.connections, idle, head=idle)
        self._port = Port(
            app, Address(host, port), "nodes", "--listen-peer", limits, shutdown_timeout=settings.close_timeout
        )
        return await self._port.start()

    async def stop(self) -> None:
        """Take no more connections; those that stand go on."""
        if self._port is not None:
            await self._port.stop()

    async def close(self) -> None:
        """Close the port and what is left of its connections."""
        if self._port is not None:
            await self._port.close()

    async def _upgrade(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(
            max_msg_size=MAX_PEER_FRAME_BYTES, compress=False, timeout=self._settings.close_timeout
        )
        if not await upgraded(socket, request):
            return web.Response()
        if request.transport is not None:
            wire = Wire(socket, request.transport)
            guarded = request.protocol
            assert isinstance(guarded, Guarded)
            guarded.on_broken = wire.broke
            if guarded.broken:  # It came with the upgrade.
                wire.broke(guarded.broken)
            await self._serve(wire, plain(request.remote or ""))
        return socket
