"""Ports that take HTTP: opened with a clear error, guarded (`guard.py`), closed without waiting for anybody."""

from __future__ import annotations

import asyncio
import resource
import socket
from typing import Any

import structlog
from aiohttp import web

from ..config.settings import Address
from .guard import Guard, Guarded, PortLimits
from .pieces import say_product

log = structlog.get_logger()

BACKLOG = 1024
SPARE_DESCRIPTORS = 256
"""Files and links of the node itself, which are not for clients."""
MOST_DESCRIPTORS = 65_536


class ListenError(Exception):
    """A port cannot be opened: the node cannot run. The text names the address and the remedy."""


class Port:
    """One application on one address. `whom` and `flag` are for the error: who is listened for, and how to move."""

    def __init__(
        self,
        app: web.Application,
        address: Address,
        whom: str,
        flag: str,
        limits: PortLimits,
        *,
        shutdown_timeout: float = 1.0,
    ) -> None:
        self._address = address
        self._whom = whom
        self._flag = flag
        self._limits = limits
        self.guard = Guard(whom, limits)
        app.on_response_prepare.append(say_product)
        self._runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=shutdown_timeout)
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        """Listen, and return the port (which the system chose when it was 0). Raises ListenError."""
        await self._runner.setup()
        manager = self._runner.server
        assert manager is not None
        try:
            self._server = await asyncio.get_running_loop().create_server(
                lambda: Guarded(self.guard, manager, self._limits),
                **_where(self._address),
                backlog=BACKLOG,
            )
        except OSError as error:
            await self._runner.cleanup()
            raise ListenError(
                f"cannot listen for {self._whom} on {self._address}: {error.strerror or error}; "
                f"stop what uses the address, or choose another with {self._flag}"
            ) from None
        self.guard.start()
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Take no more connections; those that stand go on."""
        if self._server is not None:
            self._server.close()

    async def close(self) -> None:
        """Close the port and what is left of its connections."""
        await self.stop()
        self.guard.stop()
        await self._runner.cleanup()


def plain(host: str) -> str:
    """Return an address without what a socket adds to it: the scope, or IPv6's clothes of an IPv4 address."""
    host = host.partition("%")[0]
    return host.removeprefix("::ffff:") if "." in host else host


def _where(address: Address) -> dict[str, Any]:
    """Return what to listen on. `[::]` is every address, IPv4's too where the system has both; libuv would leave those.

    Raises OSError.
    """
    if address.host != "::":
        return {"host": address.host, "port": address.port}
    made = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.bind((address.host, address.port))
    except OSError:
        made.close()
        raise
    return {"sock": made}


async def upgraded(socket: web.WebSocketResponse, request: web.Request) -> bool:
    """Make a request's connection a WebSocket; False when whoever asked has gone away before that.

    Then an empty `web.Response` is to be returned. The socket would be closed by aiohttp, which fails for one that was
    not made; the response is not written, for want of a connection, and nothing is said of it.
    """
    try:
        await socket.prepare(request)
    except ConnectionError:
        return False
    return True


def room_for(connections: int) -> int:
    """Return how many connections this process can have of those that are wanted; takes what the system allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(connections + SPARE_DESCRIPTORS, MOST_DESCRIPTORS)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = most
    room = connections if soft == resource.RLIM_INFINITY else min(connections, max(soft - SPARE_DESCRIPTORS, 16))
    if room < connections:
        log.warning("fewer connections than are allowed", most=room, remedy=f"raise `ulimit -n`, which is {soft}")
    return room
