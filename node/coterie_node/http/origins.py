"""Who may ask at a port, judged by what a browser says of a request: its Host, its Origin, its Sec-Fetch-Site.

A browser that has opened a stranger's page can be made to ask whatever the person's own computer reaches. It says so:
a page's requests to elsewhere bear an Origin, and one whose name was pointed at this node after it was loaded (DNS
rebinding) bears that name as its Host. An IP address as Host is no name, so nobody can point it anywhere else: each is
known. Other programs say neither of the two, or what they like; they are not whom this is against.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from aiohttp import web

from coterie_protocol.urls import host_name

from ..config.values import ANY_HOST, is_address

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

SAFE = frozenset(("GET", "HEAD", "OPTIONS"))
"""Methods that change nothing."""
LOOPBACK = ("localhost", "*.localhost")
"""Every browser takes these for its own computer, whatever a name server says (RFC 6761, section 6.3)."""

_AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[^\[\]:@/]+)(:\d{0,5})?")

_AUTHORITY_END = re.compile(r"[/?#\\]")


def host_of(authority: str) -> str | None:
    """Return the host of `host[:port]` as it is compared: lower case, without brackets and a last dot.

    None for what is no authority, or one that carries anything else.
    """
    found = _AUTHORITY.fullmatch(authority.lower())
    if found is None:
        return None
    host = found[1].strip("[]") if found[1].startswith("[") else found[1].removesuffix(".")
    if found[1].startswith("["):
        return host if is_address(host) else None
    return host if is_address(host) or host_name(host) else None


class Hosts:
    """The names by which a port is known. `*.NAME` stands for all names below NAME, `*` for every name."""

    def __init__(self, names: Iterable[str]) -> None:
        known = {name.lower().removesuffix(".") for name in (*LOOPBACK, *names) if name}
        self._every = "*" in known
        self._exact = frozenset(name for name in known if "*" not in name)
        self._below = tuple(name[1:] for name in known if name.startswith("*."))

    def know(self, authority: str) -> bool:
        """Say whether a request for `host[:port]` is for this node."""
        host = host_of(authority)
        if host is None:
            return False
        return self._every or is_address(host) or host in self._exact or host.endswith(self._below)


def admin_names(
    *, listen: str, advertise: str, hostname: str, service: str, search: Iterable[str], others: Iterable[str]
) -> list[str]:
    """Return the names by which an admin port is known.

    `service` is the DNS name of the nodes' service, if there is one: names below it are the nodes', and a resolver's
    `search` list completes it.
    """
    names = [name for name in (listen, advertise) if name not in ANY_HOST]
    domains = [domain for domain in search if domain]
    if hostname:
        machine = hostname.partition(".")[0]
        names += [hostname, *(f"{machine}.{domain}" for domain in ("local", *domains))]
    labels = service.removesuffix(".").split(".") if service else []
    for count in range(1, len(labels) + 1):
        short = ".".join(labels[:count])
        bare = [short] if not _registrable(short) or (count == len(labels) > 1) else []
        for whole in (*bare, *(f"{short}.{domain}" for domain in domains)):
            names += [whole, f"*.{whole}"]
    return [*names, *others]


def _registrable(name: str) -> bool:
    """Say whether a name may be anybody's: top-level domains are letters, or internationalised.

    The service `main-peers.chat.svc` is known in its namespace as `main-peers`, and in others as `main-peers.chat`,
    which can be bought.
    """
    last = name.rpartition(".")[2].lower()
    return last.isalpha() or last.startswith("xn--")


def known_hosts_only(hosts: Hosts) -> Any:
    """Return a middleware that refuses requests for names that are not this node's."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        named = request.headers.getall("Host", [])
        if not request.raw_path.startswith("/"):  # Absolute form: this host is asked (RFC 9112, section 3.2.2).
            named.append(_AUTHORITY_END.split(request.raw_path.partition("://")[2], maxsplit=1)[0])
        if not named or not all(map(hosts.know, named)):
            raise web.HTTPForbidden(
                text="this node is not known by the host name of the request: use its address, "
                "or start it with --admin-host NAME"
            )
        return await handler(request)

    return check


def same_site_only() -> Any:
    """Return a middleware that refuses what another site's page asks, but for being opened by a link.

    To be used behind `known_hosts_only`: then who has the same origin is this node's own page.
    """

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        headers = request.headers
        host = headers.get("Host", "").lower()
        foreign = any(origin.lower().partition("://")[2] != host for origin in headers.getall("Origin", ()))
        elsewhere = headers.get("Sec-Fetch-Site", "none").lower() not in ("none", "same-origin")
        opened = request.method in SAFE and headers.get("Sec-Fetch-Mode", "").lower() == "navigate"
        if foreign or (elsewhere and not opened):
            raise web.HTTPForbidden(text="the request comes from another site's page: ask from this node's own")
        return await handler(request)

    return check


def origins_only(allowed: Iterable[str], remedy: str) -> Any:
    """Return a middleware that refuses browsers' requests from pages of other origins than those."""
    taken = frozenset(allowed)

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not taken.issuperset(one.lower().removesuffix("/") for one in request.headers.getall("Origin", ())):
            raise web.HTTPForbidden(text=f"no page of another origin may connect here; {remedy}\n")
        return await handler(request)

    return check


def source_of(address: str) -> str:
    """Return what counts as one source of requests: an IPv4 address, or the 64 bits of IPv6 that one customer gets."""
    try:
        read = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(read, ipaddress.IPv6Address):
        if read.ipv4_mapped is not None:
            return str(read.ipv4_mapped)
        return str(ipaddress.IPv6Network((int(read) >> 64 << 64, 64)))
    return str(read)
