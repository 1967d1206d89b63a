"""Frames of many items between nodes, read item by item when one of them has a value out of bounds.

Such a frame carries what many people wrote. Were it refused as a whole, one item would take the others with it, again
and again; were that item left out, nobody would answer for it. So the items are read without their bounds, and whoever
takes the frame looks at each (`records.fault_of`) before anything else is done with it. The frame's own fields keep
their bounds.
"""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Any, get_type_hints

import msgspec

from .chat import Forward, Post
from .records import Record
from .replication import Offer, RecordsPage, Replicate


def in_parts(body: bytes | msgspec.Raw) -> Any:
    """Read the body of a frame of many items, whose values may then be any numbers, texts and bytes.

    Raises msgspec.MsgspecError, UnicodeError or RecursionError for one that is no such frame, or is none in itself.
    """
    found = _decoder.decode(body)
    message, items, item = _KINDS[type(found)]
    values = msgspec.structs.asdict(found)
    values[items] = [item(*msgspec.structs.astuple(one)) for one in values[items]]
    return message(**values)


def _fields(kind: type[msgspec.Struct], types: dict[str, Any]) -> list[Any]:
    fields = msgspec.structs.fields(kind)
    return [
        (one.name, types[one.name]) if one.default is msgspec.NODEFAULT else (one.name, types[one.name], one.default)
        for one in fields
    ]


def _unbounded(kind: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """Return a type with the fields of an item, and without their bounds."""
    return msgspec.defstruct(f"Any{kind.__name__}", _fields(kind, get_type_hints(kind)), array_like=True)


def _of_items(message: type[msgspec.Struct], items: str, item: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """Return a type with the fields of a message, whose items have no bounds."""
    types = get_type_hints(message, include_extras=True)
    types[items] = list[_unbounded(item)]  # type: ignore[misc]
    tag = message.__struct_config__.tag
    return msgspec.defstruct(f"Any{message.__name__}", _fields(message, types), array_like=True, tag=tag)


_MESSAGES: list[tuple[type[msgspec.Struct], str, type[msgspec.Struct]]] = [
    (Replicate, "records", Record),
    (RecordsPage, "records", Record),
    (Offer, "records", Record),
    (Forward, "posts", Post),
]
_KINDS = {_of_items(*one): one for one in _MESSAGES}
_decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(reduce(or_, _KINDS))
