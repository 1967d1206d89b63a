"""How the values of settings are read and written. A reader takes a text and raises ValueError with a reason."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coterie_protocol.bounds import MAX_COPIES, MAX_COUNT, MAX_LABEL
from coterie_protocol.numbers import decimal, whole
from coterie_protocol.urls import check_host, host_name, is_unspecified

Reader = Callable[[str], Any]

ANY_HOST = ("", "0.0.0.0", "::")  # noqa: S104  (these are told apart, not listened on)
"""Hosts that say nothing of where a node is: whoever meets it uses the address seen."""


@dataclass(frozen=True)
class Address:
    """host:port; port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def address(value: str) -> Address:
    """Read HOST:PORT; an IPv6 address stands in brackets."""
    host, separator, port = value.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    digits = port.isascii() and port.isdecimal() and len(port) <= 5
    if not separator or not digits or int(port) > 65535 or (":" in host) != bracketed:
        raise ValueError("must be HOST:PORT, such as 127.0.0.1:7401 or [::1]:7401")
    host = host[1:-1] if bracketed else host
    if not host or len(host) > MAX_LABEL:
        raise ValueError("must be HOST:PORT, such as 127.0.0.1:7401 or [::1]:7401")
    try:
        check_host(host)
    except ValueError as error:
        raise ValueError(
            f"must be HOST:PORT, such as 127.0.0.1:7401 or [::1]:7401; of {host[:120]!r}: {error}"
        ) from None
    return Address(host, int(port))


def addresses(value: str) -> tuple[Address, ...]:
    """Read addresses to connect to, separated by commas."""
    found = tuple(address(part.strip()) for part in value.split(",") if part.strip())
    for one in found:
        if is_unspecified(one.host):
            raise ValueError(
                f"must be where a node is; {one.host} is where one listens (on this machine it is at 127.0.0.1)"
            )
    return found


def text(value: str) -> str:
    """Take a text as it is."""
    return value.strip()


def label(value: str) -> str:
    """Take a text that other nodes are told: a name or a host."""
    told = value.strip()
    if len(told) > MAX_LABEL or not told.isprintable():
        raise ValueError(f"must be printable, and have at most {MAX_LABEL} characters")
    return told


def uid(value: str) -> str:
    """Read a ring's uid."""
    if value and not re.fullmatch(r"[0-9a-f]{32}", value):
        raise ValueError("a ring's uid is 32 hexadecimal digits; `coterie ring` shows it")
    return value


def positive(value: str) -> int:
    """Read a whole number above 0."""
    return _positive(value, MAX_COUNT - 1)


def copies(value: str) -> int:
    """Read a replication factor."""
    return _positive(value, MAX_COPIES)


def slots(value: str) -> int:
    """Read a number of slots."""
    number = _whole(value)
    if number < 1 or number > 1 << 20 or number & (number - 1):
        raise ValueError("must be a power of two of at most 1048576, such as 1024")
    return number


def bcrypt_cost(value: str) -> int:
    """Read a cost that bcrypt takes and a login survives."""
    number = _whole(value)
    if not 4 <= number <= 20:
        raise ValueError("must be between 4 and 20")
    return number


def seconds(value: str) -> float:
    """Read a time in seconds, above 0."""
    try:
        number = decimal(value)
    except ValueError:
        raise ValueError("must be a number of seconds, such as 0.5") from None
    if not 0 < number < 1e9:
        raise ValueError("must be a number of seconds above 0")
    return number


class Duration(float):
    """Seconds, written in the largest unit that they are a whole number of: 30d, 12h, 15m, 90s."""

    def __str__(self) -> str:
        for unit, size in _UNITS.items():
            if self >= size and self % size == 0:
                return f"{self / size:.0f}{unit}"
        return f"{float(self):g}s"


_UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}


def duration(value: str) -> Duration:
    """Read a time such as 30d, 12h, 15m, 90s or 90 (seconds), above 0."""
    found = re.fullmatch(r"([0-9]{1,18}(?:\.[0-9]{1,18})?)([dhms]?)", value.strip())
    number = float(found[1]) * _UNITS[found[2] or "s"] if found else 0.0
    if not 0 < number < 1e10:
        raise ValueError("must be a time above 0, such as 30d, 12h or 90s")
    return Duration(number)


def boolean(value: str) -> bool:
    """Read yes or no."""
    if value.lower() in ("1", "true", "yes", "on"):
        return True
    if value.lower() in ("0", "false", "no", "off", ""):
        return False
    raise ValueError("must be true or false")


def choice(*choices: str) -> Reader:
    """Return a reader that takes one of these words."""

    def read(value: str) -> str:
        if value not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return value

    return read


def file(value: str) -> Path | None:
    """Read the name of a file; empty for none."""
    return Path(value) if value.strip() else None


def service(value: str) -> str:
    """Read the DNS name of a service, whole or to be completed by the search list; empty for none."""
    name = value.strip()
    if name and not host_name(name):
        raise ValueError("must be a DNS name without a port, such as main-peers.chat.svc")
    if name.removesuffix(".").rpartition(".")[2].isdecimal():
        raise ValueError("is an address; name it with --seed HOST:PORT")
    return name


def is_address(host: str) -> bool:
    """Say whether a text is an IP address, written as everybody writes it."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def hosts(value: str) -> tuple[str, ...]:
    """Read host names, separated by commas: NAME, *.NAME for all names below it, or * for every name."""
    names = tuple(part.strip().lower() for part in value.split(",") if part.strip())
    if not all(name == "*" or host_name(name.removeprefix("*.")) for name in names):
        raise ValueError("must be a host name without a port, such as node.example.org or *.example.org")
    return names


def origins(value: str) -> tuple[str, ...]:
    """Read origins of pages, separated by commas, as a browser writes them (RFC 6454, section 6.2)."""
    found = tuple(part.strip().lower().removesuffix("/") for part in value.split(",") if part.strip())
    if not all(re.fullmatch(r"[a-z][a-z0-9+.-]*://(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(:[0-9]{1,5})?", one) for one in found):
        raise ValueError("must be an origin, such as https://chat.example.org or http://localhost:8000")
    return found


def group(value: str) -> Address:
    """Read GROUP:PORT, an IPv4 multicast group."""
    try:
        read = address(value)
        whole = ipaddress.IPv4Address(read.host).is_multicast and read.port > 0
    except ValueError:
        whole = False
    if not whole:
        raise ValueError("must be an IPv4 multicast group and a port, such as 239.255.74.1:7403")
    return read


SEVERAL: tuple[Reader, ...] = (addresses, hosts, origins)
"""What reads settings that may be given more than once."""


def _positive(value: str, most: int) -> int:
    number = _whole(value)
    if number < 1:
        raise ValueError("must be at least 1")
    if number > most:
        raise ValueError(f"must be at most {most}")
    return number


def _whole(value: str) -> int:
    try:
        return whole(value)
    except ValueError:
        raise ValueError("must be a whole number") from None


def written(value: Any) -> str:
    """Write a value of a TOML file as one would type it as a flag."""
    if isinstance(value, list):
        return ",".join(written(part) for part in value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def shown(value: Any) -> str:
    """Write the value of a setting as one would type it; empty for none."""
    if value is None or value == Path():
        return ""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    if isinstance(value, Duration):
        return str(value)
    if isinstance(value, float):
        return f"{value:g}"
    return written(value)
