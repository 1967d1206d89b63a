"""Values for a type, made of its bounds alone: one that is within all of them, and those that are just outside of one.

They are what an encoder writes (lists for structs, with the tag first), so that any decoder can be tried with them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from msgspec import inspect as mi

MOST_ITEMS = 5_000
"""Lists whose bound is higher are not filled: what is tried is that the decoder knows a bound."""
DEEP = "/somewhere/deep"
TEXTS = ("", "0" * 32, "A" * 43 + "=")
"""One fits every pattern."""


def within(info: mi.Type) -> Any:
    """Return a value within all bounds."""
    match info:
        case mi.Metadata():
            return within(info.type)
        case mi.IntType():
            return _least(info)
        case mi.FloatType():
            return 0.5
        case mi.BoolType():
            return False
        case mi.StrType():
            return next(text for text in TEXTS if info.pattern is None or re.search(info.pattern, text))
        case mi.BytesType():
            return bytes(info.min_length or 0)
        case mi.ListType() | mi.VarTupleType():
            return [within(info.item_type)]
        case mi.DictType():
            return {within(info.key_type): within(info.value_type)}
        case mi.TupleType():
            return [within(one) for one in info.item_types]
        case mi.UnionType():
            return within(next(one for one in info.types if not isinstance(one, mi.NoneType)))
        case mi.StructType():
            return _struct(info, [within(field.type) for field in info.fields])
        case mi.NoneType():
            return None
    raise NotImplementedError(info)


def outside(info: mi.Type, at: str) -> Iterator[tuple[str, Any]]:
    """Yield values that are outside of one bound each, with the place of that one."""
    match info:
        case mi.Metadata():
            yield from outside(info.type, at)
        case mi.IntType():
            high = info.le if info.le is not None else None if info.lt is None else info.lt - 1
            numbers = {_least(info) - 1, -(1 << 63)} if info.ge is not None or info.gt is not None else set()
            if high is not None:
                numbers |= {high + 1, (1 << 64) - 1} | ({1 << 63} if high < 1 << 63 else set())
            yield from ((f"{at} = {number}", number) for number in sorted(numbers) if -(1 << 63) <= number < 1 << 64)
        case mi.FloatType():
            yield from ((f"{at} = {number}", number) for number in (float("nan"), float("inf"), -float("inf"), 1e300))
        case mi.StrType():
            assert info.max_length is not None
            yield f"{at}: too long", "a" * (info.max_length + 1)
            if info.pattern is not None:
                yield f"{at}: of another form", DEEP
        case mi.BytesType():
            assert info.max_length is not None
            yield f"{at}: too long", bytes(info.max_length + 1)
            if info.min_length:
                yield f"{at}: too short", bytes(info.min_length - 1)
        case mi.ListType() | mi.VarTupleType():
            assert info.max_length is not None
            if info.max_length < MOST_ITEMS:
                yield f"{at}: too many", [within(info.item_type)] * (info.max_length + 1)
            yield from ((place, [within(info.item_type), one]) for place, one in outside(info.item_type, at + "[]"))
        case mi.DictType():
            for place, one in outside(info.value_type, at + "{}"):
                yield place, {within(info.key_type): one}
        case mi.TupleType():
            values = within(info)
            for index, item in enumerate(info.item_types):
                for place, one in outside(item, f"{at}[{index}]"):
                    yield place, [*values[:index], one, *values[index + 1 :]]
        case mi.UnionType():
            for one in info.types:
                yield from outside(one, at)
        case mi.StructType():
            values = [within(field.type) for field in info.fields]
            for index, field in enumerate(info.fields):
                for place, one in outside(field.type, f"{at}.{field.name}"):
                    yield place, _struct(info, [*values[:index], one, *values[index + 1 :]])


def _least(info: mi.IntType) -> int:
    if info.ge is not None:
        return info.ge
    return 0 if info.gt is None else info.gt + 1


def _struct(info: mi.StructType, values: list[Any]) -> Any:
    if info.array_like:
        return values if info.tag is None else [info.tag, *values]
    return {field.encode_name: value for field, value in zip(info.fields, values, strict=True)}
