"""Asking a node's admin port, synchronously and past any proxy."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from typing import IO, TypeVar

import msgspec

from coterie_protocol.admin import Readiness, RingReport

from ..errors import ClientError, Unavailable

T = TypeVar("T")
MAX_BYTES = 16 * 1024 * 1024
"""Of an answer; a ring of a thousand nodes takes some 2 MB."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: nobody is asked but whom the user has named."""

    def redirect_request(self, *_: object) -> None:
        """Let the redirect be the answer."""


_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)


def ring_report(url: str, timeout: float = 3.0) -> RingReport:
    """Ask for the whole ring. Raises Unavailable, or ClientError when something else answers there."""
    return _ask(url, "/api/v1/ring", RingReport, timeout)


def readiness(url: str, timeout: float = 1.0) -> Readiness:
    """Ask whether a node is ready. Raises as ring_report does."""
    return _ask(url, "/readyz", Readiness, timeout)


def _read(response: IO[bytes], end: float) -> bytes:
    """Read an answer until `end` (monotonic seconds); raises OSError when it goes on, or is larger than MAX_BYTES."""
    body = bytearray()
    while chunk := response.read1(65_536):  # type: ignore[attr-defined]  # both kinds of response have it
        body += chunk
        if len(body) > MAX_BYTES:
            raise OSError(f"it answers with more than {MAX_BYTES} bytes")
        if time.monotonic() > end:
            raise TimeoutError("timed out")
    return bytes(body)


def _ask(url: str, path: str, kind: type[T], timeout: float) -> T:
    end = time.monotonic() + timeout
    try:
        try:
            response = _opener.open(url + path, timeout=timeout)
        except urllib.error.HTTPError as error:
            response = error
        with response:
            body = _read(response, end)
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise Unavailable(
            f"no node answers at {url}: {reason}; start a ring with coterie up, or name a node's admin port"
        ) from None
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise ClientError(
            f"what answers at {url} is not the admin port of a Coterie node (7402 by default); check the address"
        ) from None
