"""The dashboard as a whole: variables, annotations, rows."""

from __future__ import annotations

import json
from typing import Any

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard

from .panels import balance, clients, delivery, durability, operator, peers, ring
from .panels.kit import DATASOURCE
from .queries import RING, of, rate

UID = "coterie-ring"
ROWS = (ring, delivery, durability, balance, clients, peers, operator)
_CHANGES = {"joined": "green", "left": "blue", "moved": "purple", "failed": "red"}


def build() -> builders.Dashboard:
    """Return the dashboard."""
    made = (
        builders.Dashboard("Coterie ring")
        .uid(UID)
        .description("A Coterie ring: where its nodes stand, and whether messages arrive and are safe.")
        .tags(["coterie"])
        .timezone("browser")
        .refresh("10s")
        .time("now-30m", "now")
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .editable()
        .with_variable(builders.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .with_variable(_choice("namespace", "Namespace", "coterie_node_info{}", "namespace", several=True))
        .with_variable(_choice("ring", "Ring", of("coterie_node_info"), "ring_uid", several=False))
        .with_variable(_choice("node", "Node", RING, "name", several=True))
    )
    for change, color in _CHANGES.items():
        made = made.annotation(_annotation(change, color))
    for row in ROWS:
        made = made.with_row(builders.Row(row.TITLE))
        for panel in row.panels():
            made = made.with_panel(panel)
    return made


def text() -> str:
    """Return the dashboard as Grafana imports it: JSON, the same bytes each time."""
    made: dict[str, Any] = json.loads(json.dumps(build().build(), cls=JSONEncoder))
    for number, panel in enumerate(made["panels"], 1):
        panel["id"] = number
    return json.dumps(made, indent=2, ensure_ascii=False, sort_keys=True) + "\n"


def _choice(name: str, label: str, selector: str, of_label: str, *, several: bool) -> builders.QueryVariable:
    """Return a variable of the values of a label; of several, "All" fits series without the label too."""
    variable = (
        builders.QueryVariable(name)
        .label(label)
        .datasource(DATASOURCE)
        .query({"query": f"label_values({selector}, {of_label})", "refId": name})
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.ALPHABETICAL_ASC)
        .multi(several)
        .include_all(several)
    )
    if several:
        every = dashboard.VariableOption(selected=True, text="All", value="$__all")
        variable = variable.all_value(".*").current(every)
    return variable


def _annotation(change: str, color: str) -> builders.AnnotationQuery:
    """Mark when the ring changed in the sight of any of its nodes."""
    seen = rate(of("coterie_ring_changes_total", change=change))
    return (
        builders.AnnotationQuery()
        .name(f"Nodes that {change}")
        .datasource(DATASOURCE)
        .enable(True)
        .icon_color(color)
        .expr(f"max by (change) ({seen} and on (job, instance) {RING}) > 0")
        .title_format(f"A node {change}")
        .text_format("as its neighbours saw it")
    )
