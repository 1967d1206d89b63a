"""What a chart's values may make of a Ring: specs of any kind, read by the operator without a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st
from tests.fuzz import shapes
from tests.fuzz.engine import Found, Target

from coterie_operator.spec import SpecError, read_spec

CRD = Path(__file__).parents[2] / "chart" / "crds"
WORDS = ("", "10Gi", "-1", "1e400", "10m", "0", "Off", "Auto", "dns", "9" * 400, "1Ki" * 50, "\ud800", "Ⅷm", "١٢m")


class ChartValues(Target):
    """Specs as the definition's schema describes them, with hostile values in any place."""

    name = "chart-values"
    about = "specs of Rings -> what the operator makes of them"

    def cases(self) -> st.SearchStrategy[Any]:
        valid = _of(schema())
        return st.one_of(valid, shapes.spoilt(valid), shapes.spoilt(valid), shapes.spoilt(shapes.spoilt(valid)))

    def feed(self, case: Any) -> None:
        try:
            read_spec({"spec": case}, "an/image:1")
        except SpecError as refused:
            sentence = str(refused)
            if "\n" in sentence.strip("\n") or not sentence.startswith("spec."):
                raise Found(f"it is refused with {sentence!r}") from None


def schema() -> dict[str, Any]:
    """Return the schema of a Ring's spec, from the CustomResourceDefinition."""
    for path in sorted(CRD.glob("*.yaml")):
        for one in yaml.safe_load_all(path.read_text()):
            if one["spec"]["names"]["kind"] == "Ring":
                versions = one["spec"]["versions"]
                found: dict[str, Any] = versions[0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
                return found
    raise FileNotFoundError(CRD)


def _of(one: dict[str, Any]) -> st.SearchStrategy[Any]:
    if "enum" in one:
        return st.sampled_from(one["enum"])
    if one.get("x-kubernetes-int-or-string"):
        return st.one_of(st.integers(0, 100), st.sampled_from(WORDS))
    match one.get("type"):
        case "object":
            fields = {name: _of(inner) for name, inner in one.get("properties", {}).items()}
            return st.fixed_dictionaries({}, optional=fields)
        case "array":
            return st.lists(_of(one.get("items", {})), max_size=2)
        case "integer":
            return st.integers(one.get("minimum", -5), one.get("maximum", 1 << 20))
        case "number":
            return st.one_of(st.floats(), st.integers())
        case "boolean":
            return st.booleans()
        case "string":
            return st.one_of(st.sampled_from(WORDS), st.text(max_size=10))
        case _:
            return st.one_of(st.none(), st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2))
