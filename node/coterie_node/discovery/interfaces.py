"""The network interfaces over which multicast goes: each that is up and has an IPv4 address."""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import socket
import struct
import sys
from dataclasses import dataclass

_SIOCGIFFLAGS = 0x8913
_SIOCGIFADDR = 0x8915
_IFF_UP, _IFF_LOOPBACK, _IFF_MULTICAST = 0x1, 0x8, 0x1000
_IFREQ_BYTES = 40
_NONE = "0.0.0.0"  # noqa: S104  # an empty field, nothing is bound to it


@dataclass(frozen=True)
class Interface:
    """An interface by its number; 0 lets the system choose."""

    index: int
    name: str = ""
    address: str = _NONE
    loopback: bool = False

    def request(self, group: str = _NONE) -> bytes:
        """Return the `struct ip_mreqn` that names this interface, the address to send from, and a group to join."""
        return struct.pack("4s4si", socket.inet_aton(group), socket.inet_aton(self.address), self.index)


def interfaces(only: str = "") -> list[Interface]:
    """Return the interfaces to use: those that take multicast, loopback only where there is no other.

    `only` names one, by its name or its address. Where the system is not Linux it is asked to choose.
    """
    if not sys.platform.startswith("linux"):
        return [Interface(0)]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        every = [one for index, name in socket.if_nameindex() if (one := _look(probe, index, name)) is not None]
    if only:
        return [one for one in every if only in (one.name, one.address)]
    return [one for one in every if not one.loopback] or every


def is_group(host: str) -> bool:
    """Say whether a host is an IPv4 multicast group."""
    with contextlib.suppress(ValueError):
        return ipaddress.IPv4Address(host).is_multicast
    return False


def _look(probe: socket.socket, index: int, name: str) -> Interface | None:
    request = struct.pack(f"{_IFREQ_BYTES}s", name.encode()[:15])
    try:
        flags = struct.unpack_from("H", fcntl.ioctl(probe, _SIOCGIFFLAGS, request), 16)[0]
        address = socket.inet_ntoa(fcntl.ioctl(probe, _SIOCGIFADDR, request)[20:24])
    except OSError:
        return None  # it has no IPv4 address, or has just gone
    loopback = bool(flags & _IFF_LOOPBACK)
    if not flags & _IFF_UP or not (loopback or flags & _IFF_MULTICAST):
        return None
    return Interface(index, name, address, loopback)
