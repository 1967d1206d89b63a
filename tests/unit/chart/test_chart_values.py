"""The chart's values: each has a default, is known to the schema, and is described."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

CHART = Path(__file__).parents[3] / "chart"
FREE = ("operator.resources.", "ring.resources.")
"""What is below these is Kubernetes' own."""


def defaults() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
    return found


def leaves(node: Any, path: str = "") -> Iterator[str]:
    if isinstance(node, dict) and node and f"{path}." not in FREE:
        for key, below in node.items():
            yield from leaves(below, f"{path}.{key}" if path else key)
    else:
        yield path


def known(schema: dict[str, Any], node: dict[str, Any], path: str = "") -> Iterator[str]:
    """Yield the paths of the values that the schema knows."""
    if "$ref" in node:
        yield path
        return
    if "properties" not in node:
        yield path
        return
    assert node["additionalProperties"] is False, f"{path} takes misspelt names"
    for key, below in node["properties"].items():
        yield from known(schema, below, f"{path}.{key}" if path else key)


def schema() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
    return found


def test_schema_and_defaults_know_the_same_names() -> None:
    # `global` is Helm's: every chart gets it.
    assert set(known(schema(), schema())) - {"global"} == set(leaves(defaults()))


@pytest.mark.parametrize("value", list(leaves(defaults())))
def test_every_value_is_described(value: str) -> None:
    """By its whole name, or by its last part in a row that begins with a sibling."""
    parent, _, last = value.rpartition(".")
    rows = [line for line in (CHART / "README.md").read_text().splitlines() if line.startswith("|")]
    assert any(f"`{value}`" in row or (f"`{parent}." in row and f"`.{last}`" in row) for row in rows)


def test_the_ring_can_be_told_everything_by_values() -> None:
    """What a Ring has and values have not is the same for all of the chart's, or has one value only."""
    (version,) = yaml.safe_load((CHART / "crds" / "rings.yaml").read_text())["spec"]["versions"]
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    missing = set(spec) - set(defaults()["ring"])
    assert missing == {"image", "imagePullPolicy", "imagePullSecrets", "update", "monitoring"}
    assert set(spec["monitoring"]["properties"]) < set(defaults()["monitoring"])
    for part in ("storage", "rebalance", "scaleDown", "service"):
        assert set(spec[part]["properties"]) == set(defaults()["ring"][part])


def test_defaults_are_those_of_the_definition() -> None:
    (version,) = yaml.safe_load((CHART / "crds" / "rings.yaml").read_text())["spec"]["versions"]
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]

    def same(properties: dict[str, Any], values: dict[str, Any]) -> Iterator[str]:
        for key, node in properties.items():
            if key in values and "properties" in node:
                yield from same(node["properties"], values[key])
            elif key in values and "default" in node and node["default"] != values[key]:
                yield key

    assert list(same(spec, defaults()["ring"])) == []
    assert list(same(spec["monitoring"]["properties"], defaults()["monitoring"])) == []
