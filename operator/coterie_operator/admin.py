"""The nodes' admin API, as the operator uses it (design section 8: the operator talks to nodes only through it)."""

from __future__ import annotations

import ipaddress
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp
import msgspec

from coterie_protocol.admin import NodeReport, Refusal, RingReport

from .kube import plain
from .names import ADMIN_PORT

READ_SECONDS = 2.0
"""A healthy node answers in milliseconds. A pass waits for the slowest, so a dead one must not hold it up."""
CHANGE_SECONDS = 5.0
"""A leave begins with a look at the whole ring."""
MOST_BYTES = 16 << 20
"""Of an answer: a ring of a thousand nodes takes one."""

T = TypeVar("T")


class NodeError(Exception):
    """A node that did not do what it was asked; one sentence."""


class NodeUnreachable(NodeError):
    """No answer. Whether a change began is unknown: ask again."""


class NodeRefused(NodeError):
    """The node answered no: `code` is its error code (`busy`: not now), the text its reason."""

    def __init__(self, code: str, detail: str, status: int) -> None:
        super().__init__(detail)
        self.code = code
        self.status = status


class Admin:
    """A client of nodes' admin ports."""

    def __init__(self, port: int = ADMIN_PORT) -> None:
        self._port = port
        # No connection is kept: a pod's address may be another pod's in the next pass.
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True, limit=0))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def node(self, host: str) -> NodeReport:
        """Return a node's report about itself. Raises NodeError."""
        return await self._read(host, "node", NodeReport)

    async def ring(self, host: str) -> RingReport:
        """Return the ring as a node sees it. Raises NodeError."""
        return await self._read(host, "ring", RingReport)

    async def leave(self, host: str, token: str) -> None:
        """Ask a node to leave; again is harmless. Raises NodeError."""
        await self._call("POST", host, "leave", CHANGE_SECONDS, token)

    async def cancel_leave(self, host: str, token: str) -> None:
        """Ask a node to stay. Raises NodeError."""
        await self._call("POST", host, "cancel-leave", CHANGE_SECONDS, token)

    async def move(self, host: str, token: str, position: int) -> None:
        """Ask a node to stand at another slot. Raises NodeError."""
        await self._call("POST", host, "move", CHANGE_SECONDS, token, {"position": position})

    async def _read(self, host: str, what: str, kind: type[T]) -> T:
        data = await self._call("GET", host, what, READ_SECONDS)
        try:
            return msgspec.json.decode(data, type=kind)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise NodeError(f"gives an answer that this operator cannot read ({error}): of another version?") from None

    async def _call(
        self, method: str, host: str, what: str, seconds: float, token: str = "", body: dict[str, Any] | None = None
    ) -> bytes:
        shown = f"[{host}]" if _is_v6(host) else host
        try:
            async with self._session.request(
                method,
                f"http://{shown}:{self._port}/api/v1/{what}",
                headers={"Authorization": f"Bearer {token}"} if token else None,
                json=body,
                timeout=aiohttp.ClientTimeout(total=seconds),
                allow_redirects=False,
            ) as response:
                data = await _body(response)
                if response.status >= 300:
                    raise _refusal(data, response.status)
                return data
        except TimeoutError:
            raise NodeUnreachable(f"does not answer within {seconds:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise NodeUnreachable(f"cannot be reached ({plain(error)})") from None


async def _body(response: aiohttp.ClientResponse) -> bytes:
    """Read an answer. Raises NodeError for one that is larger than any ring's could be."""
    data = bytearray()
    async for chunk in response.content.iter_chunked(1 << 16):
        data += chunk
        if len(data) > MOST_BYTES:
            raise NodeError(f"gives an answer of more than {MOST_BYTES >> 20} MiB")
    return bytes(data)


def _refusal(data: bytes, status: int) -> NodeRefused:
    try:
        said = msgspec.json.decode(data, type=Refusal)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        said = Refusal()
    return NodeRefused(said.error, said.detail or f"HTTP status {status}", status)


def _is_v6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False
