"""Strategies made of types: what is valid, and the same with one field replaced by something hostile.

The types are looked at by `msgspec.inspect`, so that a message which is added is fuzzed from that day on. Values are
builtins, as they lie on the wire: an array-like struct is a list that begins with its tag.
"""

from __future__ import annotations

import random
import re
import string
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec import inspect as shape
from tests.fuzz.wire import Raw

Strategy = st.SearchStrategy[Any]

NAMES = ("alice", "bob", "carol", "mallory", "")
IDS = tuple(bytes(15) + bytes((number,)) for number in range(8))
NUMBERS = (
    -1, 0, 1, 3, 255, 4095, 4096, 65_535, 65_536, (1 << 31) - 1, 1 << 31, 1 << 32, 253_402_300_799_999,
    (1 << 53) - 1, 1 << 53, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, -(1 << 31), -(1 << 63),
)  # fmt: skip
TEXTS = (
    "", "\ud800", "a\udfffb", "\x00", "\x1b[2J", "\x9b31m", "\x7f", "\r\n", "two\nlines", "\u2028", "\u202e\u2066",
    "\u200b", "Ⅷ", "ß" * 64, "a" * 65, "a" * 256, "a" * 70_000, "/etc/passwd", "../../x", "%s%n", "{}", "-h", "аlice",
)  # fmt: skip
BLOBS = (
    b"",
    b"\x00",
    b"\x80" * 8,
    b"\x80" * 24,
    b"\xff" * 15,
    b"\xff" * 16,
    b"\x00" * 17,
    b"x" * 24,
    b"x" * 73_729,
    b"x" * 300_000,
)
OTHERS: tuple[Any, ...] = (
    None, True, False, [], [[]], {}, {"a": 1}, float("nan"), float("inf"), -0.5, Raw(b"\xc1"), Raw(b"\xd4\x01\x00"),
    Raw(b"\x91" * 200 + b"\x90"), Raw(b"\xdd\xff\xff\xff\xff"), Raw(b"\xc6\xff\xff\xff\xff"), Raw(b"\xa3\xff\xfe\xfd"),
)  # fmt: skip


_dice = st.integers(0, (1 << 64) - 1).map(random.Random)
"""Where a choice should be even: strategies prefer what is small and what they have tried before."""


def hostile() -> Strategy:
    """Return values that no honest sender writes, at least not there."""
    return _dice.map(lambda dice: dice.choice((_number, _text_of, _blob, _other))(dice))


def _number(dice: random.Random) -> int:
    return dice.choice(NUMBERS) if dice.random() < 0.7 else dice.randrange(-(1 << 63), 1 << 64) >> dice.randrange(64)


def _text_of(dice: random.Random) -> str:
    if dice.random() < 0.7:
        return dice.choice(TEXTS)
    return "".join(chr(dice.choice((dice.randrange(0x100), dice.randrange(0x3000)))) for _ in range(dice.randrange(20)))


def _blob(dice: random.Random) -> bytes:
    return dice.choice(BLOBS) if dice.random() < 0.7 else dice.randbytes(dice.randrange(60))


def _other(dice: random.Random) -> Any:
    return dice.choice(OTHERS)


def of(kind: Any) -> Strategy:
    """Return valid values of a type, as builtins."""
    return _of(shape.type_info(kind), 0)


def spoilt(valid: Strategy) -> Strategy:
    """Return valid values with one field of them, however deep, replaced by a hostile value."""
    return st.builds(_replaced, valid, _dice)


def bytes_of(packed: Callable[[Any], bytes], valid: Strategy) -> st.SearchStrategy[bytes]:
    """Return the bytes of values: most with one field spoilt, some valid, some with bytes flipped or cut off."""
    whole = st.one_of(valid, spoilt(valid), spoilt(valid), spoilt(spoilt(valid))).map(packed)
    return st.one_of(whole, whole, damaged(whole))


def damaged(data: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Return bytes with some of them changed, cut off, doubled or put in."""
    return st.builds(_damaged, data, _dice)


def members(union: Any) -> list[type]:
    """Return the structs of a union."""
    found = [msgspec.inspect.type_info(union)]
    if isinstance(found[0], shape.UnionType):
        found = list(found[0].types)
    return [one.cls for one in found if isinstance(one, shape.StructType)]


# --- How ---------------------------------------------------------------------------------------------------------


def _of(info: Any, depth: int) -> Strategy:
    match info:
        case shape.StructType():
            return _struct(info, depth)
        case shape.UnionType():
            return st.one_of([_of(one, depth) for one in info.types])
        case shape.IntType():
            low = info.ge if info.ge is not None else info.gt + 1 if info.gt is not None else 0
            high = info.le if info.le is not None else info.lt - 1 if info.lt is not None else (1 << 63) - 1
            small = st.integers(low, min(high, low + 6))
            return st.one_of(small, small, st.sampled_from((low, high)), st.integers(low, high))
        case shape.FloatType():
            return st.sampled_from((0.0, 0.5, 1.0))
        case shape.StrType():
            return _text(info)
        case shape.BytesType():
            low, high = info.min_length or 0, info.max_length if info.max_length is not None else 1 << 16
            ids = [one for one in IDS if low <= len(one) <= high]
            some = st.binary(min_size=low, max_size=min(high, low + 40))
            return st.one_of(st.sampled_from(ids), some) if ids else some
        case shape.BoolType():
            return st.booleans()
        case shape.NoneType():
            return st.none()
        case shape.ListType() | shape.VarTupleType() | shape.SetType():
            most = 0 if depth > 5 else 3
            return st.lists(
                _of(info.item_type, depth + 1), min_size=info.min_length or 0, max_size=max(most, info.min_length or 0)
            )
        case shape.TupleType():
            return st.tuples(*(_of(one, depth + 1) for one in info.item_types)).map(list)
        case shape.DictType():
            return st.dictionaries(_of(info.key_type, depth + 1), _of(info.value_type, depth + 1), max_size=2)
        case shape.EnumType():
            return st.sampled_from([one.value for one in info.cls])
        case shape.LiteralType():
            return st.sampled_from(info.values)
        case shape.Metadata():
            return _of(info.type, depth)
        case _:
            return hostile()


def _struct(info: shape.StructType, depth: int) -> Strategy:
    fields = [_of(field.type, depth + 1) for field in info.fields]
    if info.array_like:
        head = [st.just(info.tag)] if info.tag is not None else []
        return st.tuples(*head, *fields).map(list)
    names = [field.encode_name for field in info.fields]
    return st.tuples(*fields).map(lambda values: dict(zip(names, values, strict=True)))


def _text(info: shape.StrType) -> st.SearchStrategy[str]:
    most = 64 if info.max_length is None else info.max_length
    if info.pattern is not None:
        return st.from_regex(re.compile(info.pattern, re.ASCII), fullmatch=False).filter(lambda text: len(text) <= most)
    names = st.sampled_from([name for name in NAMES if len(name) <= most])
    return st.one_of(names, names, st.text(string.ascii_lowercase, max_size=min(most, 12)))


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    if isinstance(value, list):
        for index, one in enumerate(value):
            yield from _places(one, (*path, index))
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from _places(one, (*path, key))


def _replaced(value: Any, dice: random.Random) -> Any:
    """Replace the value at some place, mostly by one of its own kind: others are refused at the door."""
    places = list(_places(value))
    path = dice.choice(places) if places else ()
    old = value
    for step in path:
        old = old[step]
    kinds = {int: _number, str: _text_of, bytes: _blob}
    make = kinds.get(type(old), _other) if dice.random() < 0.8 else dice.choice((_number, _text_of, _blob, _other))
    return _put(value, path, make(dice))


def _put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    changed = dict(value) if isinstance(value, dict) else list(value)
    changed[path[0]] = _put(value[path[0]], path[1:], new)
    return changed


def _damaged(data: bytes, dice: random.Random) -> bytes:
    for _ in range(dice.randint(1, 4)):
        at, what = dice.randrange(len(data) + 1), dice.randrange(256)
        match dice.randrange(4):
            case 0 if at < len(data):
                data = data[:at] + bytes((data[at] ^ (what or 1),)) + data[at + 1 :]
            case 1 if dice.random() < 0.3:
                data = data[:at]
            case 2:
                data = data[:at] + data[at : at + what] + data[at:]
            case 3:
                data = data[:at] + bytes((what,)) + data[at:]
    return data
