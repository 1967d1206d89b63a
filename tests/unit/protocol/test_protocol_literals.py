"""What a node writes by hand fits the bounds of what its peers read: one too narrow hurts honest senders."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from typing import Any, get_type_hints

import msgspec
import pytest

import coterie_client
import coterie_node
import coterie_operator

PACKAGES = (coterie_client, coterie_node, coterie_operator)


def written() -> list[tuple[str, type[msgspec.Struct], str, Any]]:
    """Return (place, type, field, value) for every literal with which a module of ours makes something that travels."""
    found = []
    for package in PACKAGES:
        for one in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if one.name.endswith("__main__"):
                continue
            module = importlib.import_module(one.name)
            for node in ast.walk(ast.parse(inspect.getsource(module))):
                if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                    continue
                kind = vars(module).get(node.func.id)
                if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
                    continue
                if not kind.__module__.startswith("coterie_protocol."):
                    continue  # It does not travel; what is read back from a file is made whole first.
                pairs = list(zip(kind.__struct_fields__, node.args, strict=False))
                pairs += [(word.arg, word.value) for word in node.keywords if word.arg]
                if any(isinstance(value, ast.Starred) for _, value in pairs):
                    continue
                for field, value in pairs:
                    try:
                        literal = ast.literal_eval(value)
                    except ValueError:
                        continue
                    found.append((f"{one.name}:{node.lineno}", kind, field, literal))
    return found


def test_literals_are_found() -> None:
    assert len(written()) > 30


@pytest.mark.parametrize(("place", "kind", "field", "value"), written(), ids=str)
def test_a_literal_fits_its_field(place: str, kind: type[msgspec.Struct], field: str, value: Any) -> None:
    hint = get_type_hints(kind, include_extras=True)[field]
    assert msgspec.convert(value, hint) == value, place
