"""Addresses of servers and admin ports as the client takes them, from wherever they were named."""

from __future__ import annotations

from coterie_protocol.urls import ADMIN, SERVER, BadUrl, Kind, Url, is_this_machine, read_url

from .errors import UsageError

DEFAULT_PORT = 7400


def check_server(text: str, *, insecure: bool, source: str = "") -> str:
    """Return a server's address in its plain form; raises UsageError saying where it stands and what is wrong."""
    url = _read(text, SERVER, source)
    if url.scheme == "ws" and not insecure and not is_this_machine(url.host):
        raise UsageError(
            f"{_of(source)}{url} would send everything in the clear to another machine; use wss://, "
            "or --insecure if the way there is safe"
        )
    return str(Url(url.scheme, url.host, url.port or DEFAULT_PORT))


def check_admin(text: str, source: str) -> str:
    """Return an admin port's address in its plain form; raises UsageError."""
    return str(_read(text, ADMIN, source))


def _read(text: str, kind: Kind, source: str) -> Url:
    try:
        return read_url(text, kind)
    except BadUrl as error:
        raise UsageError(f"{_of(source)}{error}") from None


def _of(source: str) -> str:
    return f"{source}: " if source else ""
