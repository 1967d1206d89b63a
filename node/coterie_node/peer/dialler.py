"""The dialling side of a handshake: from an address to a connection whose other end has said hello."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp
import msgspec
from yarl import URL

from coterie_protocol.client_api import MAX_PEER_FRAME_BYTES, PEER_PATH
from coterie_protocol.errors import CoterieError, ErrorCode, FrameError, Unavailable
from coterie_protocol.frames import PeerError
from coterie_protocol.nodes import PeerHello

from ..config.values import ANY_HOST
from . import handshake
from .address_book import seen_at
from .errors import SelfContact, Unreachable
from .settings import PeerSettings
from .whereabouts import is_loopback
from .wire import DiallingSocket, Wire, WireClosed


@dataclass(frozen=True)
class Met:
    """A peer that said hello on a fresh connection."""

    wire: Wire
    hello: PeerHello
    busy: bool
    """It has, or is just getting, another link with this node and wants that one to be used."""


class _Redirected(Exception):
    """The answer to the upgrade was a redirect."""


class Dialler:
    """Opens connections. One HTTP session for all of them."""

    def __init__(self, hello: Callable[[], PeerHello], settings: PeerSettings, notice: Callable[[str], None]) -> None:
        """`notice` is told the local address of each connection, before the node says hello on it."""
        self._hello = hello
        self._notice = notice
        self._settings = settings
        self._session: aiohttp.ClientSession | None = None
        self._own: set[tuple[str, int]] = set()

    async def meet(self, host: str, port: int, timeout: float, *, probe: bool = False) -> Met:
        """Connect and exchange hellos; the caller closes `wire`, or makes a link of it. The hello names a host.

        Raises Unavailable (SelfContact when this node itself answers, at once the next time), or Refused.
        """
        if host in ANY_HOST:
            raise Unavailable("the node has not said at which host it is")
        if (host, port) in self._own:
            raise SelfContact(f"{host}:{port} is this node itself")
        where = f"{host}:{port}"
        wire: Wire | None = None
        try:
            async with asyncio.timeout(timeout):
                wire = await self._connect(host, port)
                self._notice(wire.local)
                self._check_reachable(where, wire)
                await wire.send(handshake.first_message(self._hello(), probe=probe))
                hello, error = handshake.read(await wire.receive())
                return self._judge(host, port, wire, hello, error)
        except BaseException as failure:
            if wire is not None:
                wire.drop()
            raise _explain(where, timeout, failure) from None

    async def close(self) -> None:
        """Close the session. Links have been closed before."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _connect(self, host: str, port: int) -> Wire:
        if self._session is None:
            guard = aiohttp.TraceConfig()
            guard.on_request_redirect.append(_refuse_redirect)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, force_close=True),
                trace_configs=[guard],
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                timeout=aiohttp.ClientTimeout(total=None),
                ws_response_class=DiallingSocket,
            )
        socket = await self._session.ws_connect(
            URL.build(scheme="ws", host=host, port=port, path=PEER_PATH),
            max_msg_size=MAX_PEER_FRAME_BYTES,
            compress=0,
            timeout=aiohttp.ClientWSTimeout(ws_close=self._settings.close_timeout),
        )
        assert isinstance(socket, DiallingSocket)
        return Wire(socket, socket.transport)

    def _check_reachable(self, where: str, wire: Wire) -> None:
        """Raise Unreachable when a node of another machine is met, and this one could not be found from there."""
        mine = self._hello().node
        if is_loopback(mine.host) and wire.local and not is_loopback(wire.local) and wire.local != wire.remote:
            raise Unreachable(
                f"{where} is on another machine and cannot reach this node at {mine.address}; "
                f"start it with --listen-peer 0.0.0.0:{mine.peer_port}, on a network of yours only"
            )

    def _judge(self, host: str, port: int, wire: Wire, hello: PeerHello, error: PeerError | None) -> Met:
        mine = self._hello()
        hello = seen_from(hello, host)
        if hello.node.uid == mine.node.uid:
            if hello.boot == mine.boot:
                self._own.add((host, port))
                raise SelfContact(f"{host}:{port} is this node itself")
            raise handshake.twin(hello)
        if (refusal := handshake.check(mine, hello)) is not None:
            raise refusal
        if error is not None and error.code != ErrorCode.BUSY:
            raise handshake.refused(hello, error)
        return Met(wire, hello, busy=error is not None)


async def _refuse_redirect(*_: object) -> None:
    """Refuse before the next request is made: a peer would have this node ask any address in its name."""
    raise _Redirected


def seen_from(hello: PeerHello, host: str) -> PeerHello:
    """Return the hello with the host at which its node was seen, if it does not name one."""
    return msgspec.structs.replace(hello, node=seen_at(hello.node, host))


def _explain(where: str, timeout: float, failure: BaseException) -> BaseException:
    """Return what the caller is told about a dial that failed."""
    if isinstance(failure, FrameError):
        return Unavailable(f"{where} is not a coterie node's peer port: {failure.detail}")
    if isinstance(failure, CoterieError):
        return failure
    if isinstance(failure, TimeoutError):
        return Unavailable(f"{where} did not answer within {timeout:g} s")
    if isinstance(failure, aiohttp.WSServerHandshakeError):
        return Unavailable(f"{where} is not a coterie node's peer port: it answered HTTP {failure.status}")
    if isinstance(failure, _Redirected):
        return Unavailable(
            f"{where} is not a coterie node's peer port: it sends elsewhere, and no redirect is followed"
        )
    if isinstance(failure, aiohttp.ClientConnectorError):
        failure = failure.os_error  # the library's own sentence speaks of TLS where there is none
    if isinstance(failure, OSError) and failure.errno:
        why = os.strerror(failure.errno) if failure.errno > 0 else failure.strerror
        return Unavailable(f"{where} cannot be reached: {why}")
    if isinstance(failure, (aiohttp.ClientError, OSError, WireClosed)):
        return Unavailable(f"{where} cannot be reached: {failure}")
    if isinstance(failure, ValueError):  # Of whoever makes a URL or a name of it: a peer may have said anything.
        return Unavailable(f"{where} is no address")
    return failure
