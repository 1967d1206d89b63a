"""A decoder that knows the types of fields and none of their bounds, as all decoders once were."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import inspect as shape


class Loose:
    """Decodes as `msgspec.msgpack.Decoder(kind)` would if no field had a bound."""

    def __init__(self, kind: Any) -> None:
        self._info = shape.type_info(kind)

    def decode(self, data: Any) -> Any:
        return _loose(self._info, msgspec.msgpack.decode(data))


def loose(kind: Any, value: Any) -> Any:
    """Make a value of a type out of builtins, without regard to bounds."""
    return _loose(shape.type_info(kind), value)


def _loose(info: Any, value: Any) -> Any:
    match info:
        case shape.Metadata():
            return _loose(info.type, value)
        case shape.StructType():
            return _struct(info, value)
        case shape.UnionType():
            return _union(info, value)
        case shape.ListType():
            return [_loose(info.item_type, one) for one in _are(value, list)]
        case shape.VarTupleType():
            return tuple(_loose(info.item_type, one) for one in _are(value, list))
        case shape.TupleType():
            if len(_are(value, list)) != len(info.item_types):
                raise msgspec.ValidationError("another length")
            return tuple(_loose(kind, one) for kind, one in zip(info.item_types, value, strict=True))
        case shape.IntType():
            return _are(value, int)
        case shape.StrType():
            return _are(value, str)
        case shape.BytesType():
            return _are(value, bytes)
        case shape.BoolType():
            return _are(value, bool)
        case shape.NoneType():
            return _are(value, type(None))
        case shape.RawType():
            return msgspec.Raw(msgspec.msgpack.encode(value))
    return value


def _are(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise msgspec.ValidationError(f"expected {kind.__name__}")
    return value


def _struct(info: shape.StructType, value: Any) -> Any:
    if info.array_like:
        rest = _are(value, list)
        if info.tag is not None:
            if not rest or rest[0] != info.tag:
                raise msgspec.ValidationError("another tag")
            rest = rest[1:]
        given = dict(zip((field.name for field in info.fields), rest, strict=False))
    else:
        given = {
            field.name: _are(value, dict)[field.encode_name] for field in info.fields if field.encode_name in value
        }
    if missing := [field.name for field in info.fields if field.required and field.name not in given]:
        raise msgspec.ValidationError(f"{missing[0]} is missing")
    return info.cls(
        **{field.name: _loose(field.type, given[field.name]) for field in info.fields if field.name in given}
    )


def _union(info: shape.UnionType, value: Any) -> Any:
    for one in info.types:
        tag = one.tag if isinstance(one, shape.StructType) else None
        if tag is not None and not (isinstance(value, list) and value and value[0] == tag):
            continue
        try:
            return _loose(one, value)
        except msgspec.ValidationError:
            if tag is not None:
                raise
    raise msgspec.ValidationError("of no kind of the union")
