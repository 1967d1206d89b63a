"""What a dashboard asks Prometheus: every query of its panels, annotations and variables, read from its JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

DASHBOARD = "chart/dashboards/coterie-ring.json"
"""Where it is kept, seen from the project's folder: the chart can ship only what lies in its own."""

_LABEL_VALUES = re.compile(r"label_values\((?P<selector>.*),\s*(?P<label>\w+)\)")
_METRIC = re.compile(r"(?<![\w$])(?:coterie|process|python|up)(?:_\w+)?(?=\{)")


@dataclass(frozen=True)
class Query:
    """One question to Prometheus."""

    row: str
    panel: str
    ref_id: str
    expression: str
    """PromQL with the dashboard's variables in it; of a variable, the selector whose label's values are wanted."""
    instant: bool
    """One answer for the end of the time range, instead of a line over it."""
    table: bool = False

    @property
    def where(self) -> str:
        """Return what people would look for: row, panel and query."""
        return f"{self.row} / {self.panel} / {self.ref_id}"

    @property
    def metrics(self) -> set[str]:
        """Return the names of the series that it reads."""
        return set(_METRIC.findall(self.expression))


def panels(dashboard: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return each panel with the title of its row."""
    row = ""
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            row = panel["title"]
            for inner in panel.get("panels", ()):
                yield row, inner
        else:
            yield row, panel


def queries(dashboard: Mapping[str, Any]) -> list[Query]:
    """Return every query of a dashboard."""
    return [
        *(
            Query(
                row,
                panel["title"],
                target["refId"],
                target["expr"],
                bool(target.get("instant")),
                target.get("format") == "table",
            )
            for row, panel in panels(dashboard)
            for target in panel["targets"]
        ),
        *(
            Query("annotations", annotation["name"], "A", annotation["expr"], instant=False)
            for annotation in dashboard["annotations"]["list"]
            if "expr" in annotation
        ),
        *(
            Query("variables", variable["name"], label, selector, instant=True)
            for variable in dashboard["templating"]["list"]
            for selector, label in _asked(variable)
        ),
    ]


def _asked(variable: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if variable["type"] == "query":
        found = _LABEL_VALUES.fullmatch(variable["query"]["query"])
        assert found is not None, variable["query"]
        yield found["selector"], found["label"]
