"""A server that lies: in every field of everything that it may say, one at a time.

What it says is built by the honest gateway (`gateway.World`) and falsified on its way out. Which fields there are is
read from the wire types, so that a new one is lied in as soon as it exists.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, get_args

import msgspec
from msgspec import inspect

from coterie_client.envelope import Content, seal
from coterie_protocol.client_api import Error, Event, Reply, ServerFrame, Welcome
from coterie_protocol.frames import encode

WIRE_TYPES: tuple[type[msgspec.Struct], ...] = (*get_args(Reply), *get_args(Event))
"""Everything that a server may say."""

OUTSIDE = "OUTSIDE"
"""Stands in hostile texts for a directory that the client has no business in."""

EVERY_LIE = "COTERIE_TEST_EVERY_LIE"
"""Set: each lie is told to each command, which takes some twenty minutes. Otherwise others are drawn with each run."""

T = TypeVar("T")
Path = tuple[int, ...]
Speak = Callable[[Sequence[ServerFrame]], bytes]


@dataclass(frozen=True)
class Lie:
    """A value that stands where another was, in each message of one type."""

    kind: type[msgspec.Struct]
    path: Path
    """Indices into the array that the message is; empty: the message itself."""
    name: str
    value: Any

    def __str__(self) -> str:
        shown = repr(self.value)
        return f"{self.name} = {shown if len(shown) < 60 else shown[:40] + f'… ({len(shown)})'}"


INTEGERS = (-1, 0, 2**31, 2**53, 2**62, 2**63, 2**64 - 1, -(2**63))
TEXTS = ("", OUTSIDE, "../../outside", "\x00", "a\nb\x1b[2J\u202e\x9b\x7f", "\u0130" * 100_000)
BYTES = (b"", b"\x80" * 8, b"\x00", bytes(1_000_000))
OTHERS: tuple[Any, ...] = (None, [], {}, "text", -1.5)


def lies_in(kind: type[msgspec.Struct]) -> list[Lie]:
    """Return every lie about one type's fields."""
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    return [
        Lie(kind, path, f"{kind.__name__}{name}", value)
        for path, name, leaf in _fields(info, (), "")
        for value in _hostile(leaf)
    ]


def _fields(info: inspect.Type, path: Path, name: str) -> Iterator[tuple[Path, str, inspect.Type]]:
    if path:
        yield path, name, info
    match info:
        case inspect.StructType():
            first = 0 if info.tag is None else 1
            for index, field in enumerate(info.fields, first):
                yield from _fields(field.type, (*path, index), f"{name}.{field.name}")
        case inspect.ListType():
            yield from _fields(info.item_type, (*path, 0), f"{name}[0]")
        case inspect.TupleType():
            for index, item in enumerate(info.item_types):
                yield from _fields(item, (*path, index), f"{name}[{index}]")
        case _:
            pass


def _hostile(info: inspect.Type) -> tuple[Any, ...]:
    match info:
        case inspect.IntType():
            return (*INTEGERS, "text", None)
        case inspect.StrType():
            return (*TEXTS, 7)
        case inspect.BytesType():
            return (*BYTES, 7)
        case inspect.ListType():
            return (*OTHERS, [[]] * 1000, [7] * 100_000)
        case _:
            return OTHERS


def drawn(some: Iterable[T], most: int) -> list[T]:
    """Draw so many with each run; all where EVERY_LIE is set in the environment."""
    every = list(some)
    return every if EVERY_LIE in os.environ else random.sample(every, min(len(every), most))


def sample(info: inspect.Type) -> Any:
    """Return an honest value of a type, as msgpack has it."""
    match info:
        case inspect.StructType():
            values = [sample(field.type) for field in info.fields]
            if info.cls.__name__ == "MailItem":
                names = [field.name for field in info.fields]
                values[names.index("state")] = 0
                values[names.index("part")] = 0
                values[names.index("body")] = seal(Content(1, 1, b"", 1, "hello", "alice"))
            return values if info.tag is None else [info.tag, *values]
        case inspect.ListType():
            return [sample(info.item_type)]
        case inspect.TupleType():
            return [sample(item) for item in info.item_types]
        case inspect.IntType():
            return 1
        case inspect.StrType():
            return "mallory"
        case inspect.BytesType():
            return bytes(range(16))
        case inspect.BoolType():
            return True
        case _:
            raise AssertionError(f"no sample of {info}")


def telling(lie: Lie) -> Speak:
    """Write frames with this lie wherever its type is said.

    An Error stands in place of every answer but the first, an event beside whatever is said.
    """
    unasked = lie.kind in get_args(Event)

    def speak(frames: Sequence[ServerFrame]) -> bytes:
        said = msgspec.msgpack.decode(encode(frames))
        if unasked and not any(isinstance(frame.body, lie.kind) for frame in frames):
            said.append([0, sample(inspect.type_info(lie.kind))])
        for frame, honest in zip(said, frames, strict=False):
            if lie.kind is Error and frame[0] and not isinstance(honest.body, Welcome):
                frame[1] = sample(inspect.type_info(Error))
        for frame in said:
            if frame[1][0] == lie.kind.__struct_config__.tag:
                _put(frame[1], lie, inspect.type_info(lie.kind))
        return msgspec.msgpack.encode(said)

    return speak


def _put(message: list[Any], lie: Lie, info: inspect.Type) -> None:
    honest, at = sample(info), message
    for index in lie.path[:-1]:
        if not isinstance(at[index], list) or not at[index]:
            at[index] = honest[index]
        at, honest = at[index], honest[index]
    at[lie.path[-1] :] = [lie.value, *at[lie.path[-1] + 1 :]]
