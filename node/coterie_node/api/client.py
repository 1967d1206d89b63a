"""The client port (7400): a WebSocket at client_api.CLIENT_PATH, and a line of text for people with a browser."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import structlog
from aiohttp import web

from coterie_node.chat.gateway.conversation import Gateway
from coterie_node.chat.limits import Counter
from coterie_protocol.client_api import CLIENT_PATH, MAX_CLIENT_FRAME_BYTES
from coterie_protocol.errors import CoterieError, ErrorCode
from coterie_protocol.words import counted

from ..http.guard import Guarded, PortLimits
from ..http.listening import upgraded
from ..http.newcomers import NewcomersRate
from ..http.origins import origins_only
from .connection import Connection, Lines, refuse
from .memory_budget import Debts

log = structlog.get_logger()

HEARTBEAT = 20.0
"""Seconds between pings to a client; one that does not answer within half of it is gone."""
CLOSE_TIMEOUT = 2.0
REQUEST_TIMEOUT = 10.0
"""Seconds that somebody who has connected may take to ask for something."""
REFUSED_AT_ONCE = 64
"""Connections above the limits that are told so in a frame; those beyond get a line of HTTP."""
ROOT_TEXT = (
    "This is the client port of a Coterie node ({name}). Chat with it by the `coterie` command:\n"
    "COTERIE_SERVERS=ws://HOST:PORT coterie register NAME\n"
)


class ClientApi:
    """Serves clients on `app`. `drain` and `close` end it in good order."""

    def __init__(self, gateway: Gateway, allowed_origins: Iterable[str] = ()) -> None:
        self._gateway = gateway
        self._connections: set[Connection] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        settings = gateway.settings
        self._by_address = Counter(settings.connections_per_address)
        self._debts = Debts(settings.clients_bytes)
        self._lines = Lines()
        self.limits = PortLimits(
            settings.connections + REFUSED_AT_ONCE,
            settings.connections_per_address + REFUSED_AT_ONCE,
            REQUEST_TIMEOUT,
            newcomers=NewcomersRate(settings.newcomers_at_once, settings.newcomer_pause),
        )
        """For the port: above what is refused here by name, so that clients are told so."""
        self.app = web.Application(middlewares=[origins_only(allowed_origins, "--allowed-origin ORIGIN allows one")])
        self.app.router.add_get("/", self._root)
        self.app.router.add_get(CLIENT_PATH, self._serve)

    @property
    def connections(self) -> int:
        """Return how many clients are connected."""
        return len(self._connections)

    def drain(self) -> None:
        """Tell all clients to go to another node, and take no new ones."""
        self._gateway.closing = True
        for connection in self._connections:
            connection.closing()

    async def close(self, timeout: float) -> None:
        """End all connections, once what is queued has gone or `timeout` seconds are over."""
        for connection in list(self._connections):
            connection.end()
        try:
            async with asyncio.timeout(timeout):
                await self._empty.wait()
        except TimeoutError:
            log.info("clients did not close in time", count=len(self._connections))
        self._lines.tell()

    async def _root(self, _: web.Request) -> web.Response:
        return web.Response(text=ROOT_TEXT.format(name=self._gateway.facts.node_name))

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(
            max_msg_size=MAX_CLIENT_FRAME_BYTES,
            compress=False,
            heartbeat=HEARTBEAT,
            timeout=CLOSE_TIMEOUT,
            autoping=False,  # Pings count among what has come, too.
        )
        if not await upgraded(socket, request):
            return web.Response()
        guarded = request.protocol
        assert isinstance(guarded, Guarded)
        address = guarded.address
        within = self._by_address.enter(address)
        try:
            if request.transport is None:
                return socket
            if self._gateway.closing:
                await refuse(socket, CoterieError("the node is going away", code=ErrorCode.SHUTTING_DOWN))
            elif not within:
                await refuse(socket, _too_many(self._gateway.settings.connections_per_address))
            elif len(self._connections) >= self._gateway.settings.connections:
                await refuse(socket, CoterieError("the node has too many clients", code=ErrorCode.BUSY, value=1000))
            else:
                await self._converse(Connection(self._gateway, socket, guarded, self._debts, self._lines))
        finally:
            self._by_address.leave(address)
        return socket

    async def _converse(self, connection: Connection) -> None:
        self._connections.add(connection)
        self._empty.clear()
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)
            if not self._connections:
                self._empty.set()


def _too_many(limit: int) -> CoterieError:
    return CoterieError(
        f"more than {counted(limit, 'connection')} from one address; close some and try again",
        code=ErrorCode.RATE_LIMITED,
        value=1000,
    )
