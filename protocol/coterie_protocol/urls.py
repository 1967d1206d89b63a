"""Addresses that people write, and that nodes name: read in one place for all programs. No name is looked up here."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

MOST_SHOWN = 120
"""Characters of an address that an error repeats."""
MOST_NAME = 253
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)(/[^?#]*)?([?#].*)?")
_WHERE = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::([0-9]*))?")
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]*|[0-9]+")

Ip = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Kind:
    """What an address is of."""

    what: str
    schemes: tuple[str, str]
    form: str
    """How to write one."""
    path: bool = False
    """It may go on after the port, where a proxy says so."""


SERVER = Kind("a server's address", ("ws", "wss"), "wss://host:port or ws://127.0.0.1:7400")
ADMIN = Kind("an admin port's address", ("http", "https"), "http://127.0.0.1:7402", path=True)


class BadUrl(ValueError):
    """What is no address of its kind: one sentence with the text, the reason and the form expected."""


@dataclass(frozen=True, slots=True)
class Url:
    """An address that was read; its text is its plain form."""

    scheme: str
    host: str
    """Without brackets, in small letters."""
    port: int | None
    path: str = ""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}{'' if self.port is None else f':{self.port}'}{self.path}"


def read_url(text: str, kind: Kind) -> Url:
    """Read an address to connect to; raises BadUrl."""
    try:
        return _read(text.strip(" "), kind)
    except ValueError as error:
        cut = "…" if len(text) > MOST_SHOWN else ""
        raise BadUrl(f"{text[:MOST_SHOWN]!r}{cut} is not {kind.what}: {error}; write it as {kind.form}") from None


def _read(text: str, kind: Kind) -> Url:
    if not text.isprintable() or " " in text:
        raise ValueError("it has spaces, or characters that cannot be seen")
    found = _URL.fullmatch(text)
    if found is None or found[1].lower() not in kind.schemes:
        raise ValueError(f"it does not begin with {' or '.join(f'{scheme}://' for scheme in kind.schemes)}")
    scheme, place, path, rest = found.groups(default="")
    if "@" in place:
        raise ValueError("it has a user's name, which has no place here")
    path = path.rstrip("/")
    if rest or (path and not kind.path):
        raise ValueError("it goes on after the port")
    where = _WHERE.fullmatch(place)
    if where is None:
        raise ValueError("its port is no number, or the brackets of an IPv6 address are missing")
    port = int(where[2]) if where[2] and len(where[2]) <= 5 else None
    if where[2] and (port is None or not 0 < port < 65536):
        raise ValueError("a port is a number from 1 to 65535")
    bracketed = where[1].startswith("[")
    host = where[1].strip("[]").lower()
    if bracketed:
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise ValueError("what stands in brackets is no IPv6 address") from None
    else:
        check_host(host)
    if is_unspecified(host):
        raise ValueError(f"{host} is where a node listens, and nothing to connect to (this machine is 127.0.0.1)")
    return Url(scheme.lower(), host, port, path)


def check_host(host: str) -> None:
    """Raise ValueError, with the reason, for what can be neither a host's name nor an IP address."""
    if not host:
        raise ValueError("it names no host")
    if ":" in host:
        ipaddress.IPv6Address(host)
        return
    plain = host
    if not host.isascii():
        try:
            plain = host.encode("idna").decode()
        except UnicodeError:
            raise ValueError("its name has characters, or parts, that no name in DNS can have") from None
    labels = plain.removesuffix(".").split(".")
    if not all(labels):
        raise ValueError("a part of its name is empty")
    if len(plain) > MOST_NAME or any(len(label) > 63 for label in labels):
        raise ValueError(f"its name is too long: {MOST_NAME} characters at most, and 63 between dots")
    if not host_name(plain):
        raise ValueError("its name has characters, or parts, that no name in DNS can have")
    # No name ends in a number (RFC 3696, section 2).
    if _NUMBER.fullmatch(labels[-1]) and not (host.isascii() and _ipv4(plain)):
        raise ValueError(f"{plain} is no IPv4 address")


def host_name(text: str) -> bool:
    """Say whether a text has the form of a DNS name."""
    labels = text.removesuffix(".").split(".")
    return len(text) <= 254 and all(_LABEL.fullmatch(label) and _is_decodable(label) for label in labels)


def is_this_machine(host: str) -> bool:
    """Say whether a host is this machine by what is written: a loopback address in any form, or localhost.

    The unspecified address is, too: who connects to it comes to this machine.
    """
    if host.lower().removesuffix(".") == "localhost":
        return True
    ip = ip_of(host)
    return ip is not None and (ip.is_loopback or ip.is_unspecified)


def is_unspecified(host: str) -> bool:
    """Say whether a host is the address that stands for all of a machine's: 0.0.0.0 or ::, in any form."""
    ip = ip_of(host)
    return ip is not None and ip.is_unspecified


def ip_of(host: str) -> Ip | None:
    """Return the IP address that a host is, also in the forms that only resolvers know (127.1, 0x7f.1, 0); else None.

    An IPv4 address within an IPv6 address is the IPv4 address.
    """
    if ":" not in host:
        return _ipv4(host)
    try:
        ip = ipaddress.IPv6Address(host)
    except ValueError:
        return None
    return ip.ipv4_mapped or ip


def _ipv4(host: str) -> ipaddress.IPv4Address | None:
    """Read an IPv4 address as inet_aton(3) does: one to four numbers, the last of which fills what is left."""
    parts = host.split(".")
    if len(parts) > 4 or not all(len(part) < 20 and _NUMBER.fullmatch(part) for part in parts):
        return None
    try:
        *front, last = (_number(part) for part in parts)
    except ValueError:
        return None
    if any(number > 255 for number in front) or last >= 256 ** (4 - len(front)):
        return None
    for index, number in enumerate(front):
        last += number << 8 * (3 - index)
    return ipaddress.IPv4Address(last)


def _number(text: str) -> int:
    if text[:2] in ("0x", "0X"):
        return int(text[2:], 16)
    return int(text, 8 if text.startswith("0") else 10)


def _is_decodable(label: str) -> bool:
    if not label.lower().startswith("xn--"):
        return True
    try:
        decoded = label[4:].encode().decode("punycode")
    except UnicodeError:
        return False
    return decoded.isprintable() and not decoded.isascii()
