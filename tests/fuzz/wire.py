"""MessagePack for values that no encoder would write: lone surrogates, foreign types, whatever `Raw` holds."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import msgspec

_encode = msgspec.msgpack.encode


@dataclass(frozen=True)
class Raw:
    """Bytes that stand in a message as they are."""

    data: bytes


def pack(value: Any) -> bytes:
    """Write a value made of builtins and Raw. Integers beyond 64 bits become those of 64: there are no others."""
    match value:
        case Raw():
            return value.data
        case bool() | None | float() | bytes():
            return _encode(value)
        case int():
            return _encode(min(max(value, -(1 << 63)), (1 << 64) - 1))
        case str():
            data = value.encode("utf-8", "surrogatepass")
            return b"\xdb" + struct.pack(">I", len(data)) + data
        case list() | tuple():
            return b"\xdd" + struct.pack(">I", len(value)) + b"".join(map(pack, value))
        case dict():
            pairs = b"".join(pack(key) + pack(one) for key, one in value.items())
            return b"\xdf" + struct.pack(">I", len(value)) + pairs
    raise TypeError(type(value).__name__)
