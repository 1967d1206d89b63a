"""Asking a node's admin port, synchronously and past any proxy."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec

from coterie_protocol.admin import Readiness, RingReport

from ..errors import ClientError, Unavailable

T = TypeVar("T")
MAX_BYTES = 16 * 1024 * 1024
"""Of an answer; a ring of a thousand nodes takes some 2 MB."""


def ring_report(url: str, timeout: float = 3.0) -> RingReport:
    """Ask for the whole ring. Raises Unavailable, or ClientError when something else answers there."""
    return _ask(url, "/api/v1/ring", RingReport, timeout)


def readiness(url: str, timeout: float = 1.0) -> Readiness:
    """Ask whether a node is ready. Raises as ring_report does."""
    return _ask(url, "/readyz", Readiness, timeout)


def _ask(url: str, path: str, kind: type[T], timeout: float) -> T:
    try:
        body = _get(url + path, timeout)
    except (http.client.HTTPException, OSError, ValueError) as error:
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


def _get(url: str, timeout: float) -> bytes:
    """Return an answer's body, whatever its status; no redirect is followed, and `timeout` is for all of it.

    http.client's own limit is one for each wait on the socket, so the socket is shut down when the time is over.
    Raises OSError, HTTPException, and ValueError for a body larger than MAX_BYTES.
    """
    where = urlsplit(url)
    kind = http.client.HTTPSConnection if where.scheme == "https" else http.client.HTTPConnection
    end = time.monotonic() + timeout
    with contextlib.closing(kind(where.hostname or "", where.port, timeout=timeout)) as connection:
        connection.connect()
        over = threading.Timer(max(0.0, end - time.monotonic()), _shut_down, [connection.sock])
        over.daemon = True
        over.start()
        try:
            connection.request("GET", where.path, headers={"Accept-Encoding": "identity"})
            body = _read(connection.getresponse())
        except (http.client.HTTPException, OSError):
            if time.monotonic() >= end:
                raise TimeoutError from None
            raise
        finally:
            over.cancel()
    if time.monotonic() >= end:  # a body without a length ends where the socket was shut down
        raise TimeoutError
    return body


def _read(response: http.client.HTTPResponse) -> bytes:
    body = bytearray()
    while chunk := response.read1(65_536):
        body += chunk
        if len(body) > MAX_BYTES:
            raise ValueError(f"it answers with more than {MAX_BYTES} bytes")
    return bytes(body)


def _shut_down(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _reason(error: Exception, timeout: float) -> str:
    """Say in one line why there was no answer."""
    if isinstance(error, TimeoutError):
        return f"no whole answer within {timeout:g} s"
    if isinstance(error, http.client.HTTPException) and not isinstance(error, http.client.RemoteDisconnected):
        return "what it says is not HTTP"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
