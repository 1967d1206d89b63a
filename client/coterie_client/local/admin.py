"""Asking a node's admin port, synchronously and past any proxy."""

from __future__ import annotations

import asyncio
import os
from typing import TypeVar

import aiohttp
import msgspec

from coterie_protocol.admin import Readiness, RingReport

from ..errors import ClientError, Unavailable

T = TypeVar("T")
MAX_BYTES = 16 * 1024 * 1024
"""Of an answer; a ring of a thousand nodes takes some 2 MB."""
_UNLIMITED = aiohttp.ClientTimeout(total=None)
"""One limit is enough: that of the whole exchange."""


def ring_report(url: str, timeout: float = 3.0) -> RingReport:
    """Ask for the whole ring. Raises Unavailable, or ClientError when something else answers there."""
    return _ask(url, "/api/v1/ring", RingReport, timeout)


def readiness(url: str, timeout: float = 1.0) -> Readiness:
    """Ask whether a node is ready. Raises as ring_report does."""
    return _ask(url, "/readyz", Readiness, timeout)


def _ask(url: str, path: str, kind: type[T], timeout: float) -> T:
    try:
        body = asyncio.run(_get(url + path, timeout))
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise Unavailable(
            f"no node answers at {url}: {_reason(error, timeout)}; "
            "start a ring with coterie up, or name a node's admin port"
        ) from None
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise ClientError(
            f"what answers at {url} is not the admin port of a Coterie node (7402 by default); check the address"
        ) from None


async def _get(url: str, timeout: float) -> bytes:
    """Return an answer's body, whatever its status; no redirect is followed, and `timeout` is for all of it.

    Raises aiohttp.ClientError, OSError, and ValueError for a body larger than MAX_BYTES.
    """
    async with (
        asyncio.timeout(timeout),
        aiohttp.ClientSession(
            cookie_jar=aiohttp.DummyCookieJar(), trust_env=False, auto_decompress=False, timeout=_UNLIMITED
        ) as session,
        session.get(url, allow_redirects=False, headers={"Accept-Encoding": "identity"}) as response,
    ):
        body = bytearray()
        async for chunk in response.content.iter_chunked(1 << 16):
            body += chunk
            if len(body) > MAX_BYTES:
                raise ValueError(f"it answers with more than {MAX_BYTES} bytes")
        return bytes(body)


def _reason(error: Exception, timeout: float) -> str:
    """Say in one line why there was no answer."""
    if isinstance(error, TimeoutError):
        return f"no whole answer within {timeout:g} s"
    if isinstance(error, aiohttp.ClientConnectorError):
        error = error.os_error
    if isinstance(error, aiohttp.ClientResponseError | aiohttp.ClientPayloadError):
        return "what it says is not HTTP"
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
