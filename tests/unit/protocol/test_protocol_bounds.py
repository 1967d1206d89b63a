"""Every field of everything that travels or is read back has a bound: all types are walked, so none is forgotten."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta
from msgspec import inspect as mi

import coterie_client
import coterie_node
import coterie_operator
import coterie_protocol
from coterie_protocol.bounds import Count, Items

PACKAGES = (coterie_protocol, coterie_client, coterie_node, coterie_operator)
ITEM_BY_ITEM = "coterie_protocol.parts"
"""Reads frames of many items once a bound was broken, without bounds: whoever takes them looks at each item."""
GENERIC = {"kind", "type_"}
"""What a function that decodes for others calls their type: theirs are Structs, and so are walked."""


def modules() -> Iterator[ModuleType]:
    for package in PACKAGES:
        yield package
        for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if not found.name.endswith("__main__"):
                yield importlib.import_module(found.name)


MODULES = list(modules())


def structs() -> list[type[msgspec.Struct]]:
    """Return every Struct that a module of ours defines."""
    return [
        value
        for module in MODULES
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, msgspec.Struct) and value.__module__ == module.__name__
    ]


def decoded() -> list[tuple[str, Any]]:
    """Return every type that a module of ours hands to a decoder, with the place where it does."""
    found = []
    for module in MODULES:
        if module.__name__ == ITEM_BY_ITEM:
            continue
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            given = [one.value for one in node.keywords if one.arg == "type"] if node.func.attr == "decode" else []
            if node.func.attr == "Decoder":
                given = list(node.args)
            for one in given:
                text = ast.unparse(one)
                if text not in GENERIC:
                    found.append((f"{module.__name__}:{one.lineno}", eval(text, vars(module))))
    return found


def unbounded(info: mi.Type, at: str, within: tuple[type, ...] = ()) -> Iterator[str]:
    """Yield the places of a type that have no bound."""
    match info:
        case mi.Metadata():
            if not (info.extra and "bound" in info.extra):
                yield from unbounded(info.type, at, within)
        case mi.IntType() | mi.FloatType():
            low = info.ge is not None or info.gt is not None
            high = info.le is not None or info.lt is not None
            if not (low and high):
                yield f"{at}: a number without {'an upper' if low else 'a lower'} bound"
        case mi.StrType() | mi.BytesType():
            if info.max_length is None:
                yield f"{at}: a text or bytes without a length"
        case mi.ListType() | mi.VarTupleType() | mi.SetType() | mi.FrozenSetType():
            if info.max_length is None:
                yield f"{at}: a list without a count"
            yield from unbounded(info.item_type, at + "[]", within)
        case mi.DictType():
            if info.max_length is None:
                yield f"{at}: an object without a count"
            yield from unbounded(info.key_type, at + "{key}", within)
            yield from unbounded(info.value_type, at + "{value}", within)
        case mi.TupleType():
            for place, item in enumerate(info.item_types):
                yield from unbounded(item, f"{at}[{place}]", within)
        case mi.UnionType():
            for one in info.types:
                yield from unbounded(one, at, within)
        case mi.StructType() | mi.DataclassType() | mi.TypedDictType() | mi.NamedTupleType():
            if info.cls not in within:
                for field in info.fields:
                    yield from unbounded(field.type, f"{at}.{field.name}", (*within, info.cls))
        case mi.BoolType() | mi.NoneType() | mi.EnumType() | mi.LiteralType():
            pass
        case _:
            yield f"{at}: {type(info).__name__}, which bounds nothing"


def test_there_is_something_to_walk() -> None:
    names = {kind.__name__ for kind in structs()}
    assert {"Send", "Mail", "Forward", "Replicate", "Record", "Config", "Standing", "RecoveryFacts"} <= names
    assert {"MemberReport", "RingReport", "Snapshot", "Account", "Content", "Session", "RingFile"} <= names
    assert {"Announcement", "PeerHello", "ClientFrame", "ServerFrame", "PeerFrame"} <= names
    assert any("Membership" in str(kind) for _, kind in decoded())


@pytest.mark.parametrize("kind", structs(), ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_every_field_of_every_struct_has_a_bound(kind: type[msgspec.Struct]) -> None:
    assert list(unbounded(mi.type_info(kind), kind.__name__)) == []


@pytest.mark.parametrize(("place", "kind"), decoded(), ids=lambda one: one if isinstance(one, str) else "")
def test_every_type_that_a_decoder_is_given_has_bounds(place: str, kind: Any) -> None:
    assert list(unbounded(mi.type_info(kind), "it")) == [], place


class Inner(msgspec.Struct):
    free: str


class Loose(msgspec.Struct, array_like=True):
    bounded: Count
    number: int
    half: Annotated[int, Meta(ge=0)]
    rate: float
    text: str
    data: bytes | None
    many: list[Count]
    deep: Annotated[list[tuple[Count, str]], Items]
    table: Annotated[dict[str, Count], Items]
    inner: tuple[Inner, ...]
    anything: Any
    raw: msgspec.Raw


def test_the_walk_finds_whatever_has_no_bound() -> None:
    found = {one.split(":")[0].removeprefix("Loose.") for one in unbounded(mi.type_info(Loose), "Loose")}
    assert found == {
        "number", "half", "rate", "text", "data", "many", "deep[][1]", "table{key}", "inner", "inner[].free",
        "anything", "raw",
    }  # fmt: skip
