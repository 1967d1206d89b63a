"""The host at which this node is reached, when nobody has named one: learnt from its own ends of connections.

What a peer says that it saw is not asked for: it could lie, or see the address of a router between the two. The local
address of a connection is the kernel's word, and a place at which this node was just reached or sent from.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable

from ..config.values import ANY_HOST

_EVERY_IPV4 = "0.0.0.0"  # noqa: S104  # compared with, never bound here


class Whereabouts:
    """Keeps the host. `named` is what the node was told to say, `listens` the host at which it listens for peers.

    `still_here` says whether an address is one of this machine's. `host` is empty until something is known.
    """

    def __init__(self, named: str, listens: str, still_here: Callable[[str], bool] | None = None) -> None:
        self.host = named or ("" if listens in ANY_HOST else listens)
        self._fixed = bool(self.host)
        self._only_ipv4 = listens == _EVERY_IPV4
        self._still_here = still_here or is_local

    def notice(self, local: str) -> bool:
        """Take the local address of a connection with a peer; say whether `host` has changed.

        An address is kept as long as the machine has it, so that a node with several interfaces does not waver. A
        loopback address, which only this machine's nodes can use, gives way to any other.
        """
        if self._fixed or local == self.host or not self._worth(local):
            return False
        if self.host and is_loopback(local) >= is_loopback(self.host) and self._still_here(self.host):
            return False
        self.host = local
        return True

    def _worth(self, local: str) -> bool:
        """Say whether others can make use of an address: IPv6 link-local ones mean another place on each machine."""
        try:
            found = ipaddress.ip_address(local)
        except ValueError:
            return False
        if self._only_ipv4 and found.version != 4:
            return False
        return not (found.is_unspecified or found.is_multicast or (found.version == 6 and found.is_link_local))


def is_loopback(host: str) -> bool:
    """Say whether a host is this machine as only the machine itself knows it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_local(host: str) -> bool:
    """Say whether this machine has an address: only then can something be bound to it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))
    except OSError:
        return False
    return True
