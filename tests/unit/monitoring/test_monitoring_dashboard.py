"""The dashboard's JSON: current, complete, and about metrics that exist."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from monitoring.listing import DASHBOARD, panels, queries

from coterie_node.api.metrics.family import Kind
from coterie_node.api.metrics.table import FAMILIES
from coterie_operator.metrics import Metrics

ROOT = Path(__file__).parents[3]
BOARD: dict[str, Any] = json.loads((ROOT / DASHBOARD).read_text())
SUFFIXES = {Kind.HISTOGRAM: ("_bucket", "_sum", "_count"), Kind.GAUGE: ("",), Kind.COUNTER: ("",)}
OF_THE_PROCESS = {"process_cpu_seconds_total", "process_resident_memory_bytes"}


def known() -> set[str]:
    """Return every series' name that nodes, operators and their processes have."""
    node = {family.name + suffix for family in FAMILIES for suffix in SUFFIXES[family.kind]}
    operator = {
        name + suffix
        for metric in Metrics().registry.collect()
        for name in (metric.name,)
        for suffix in {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(metric.type, ("",))
    }
    return node | operator | OF_THE_PROCESS


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "monitoring", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_json_in_the_chart_is_what_the_code_makes() -> None:
    done = run("build", "--check")
    assert (done.returncode, done.stderr) == (0, "")


def test_an_outdated_json_is_said_in_a_line(tmp_path: Path) -> None:
    old = tmp_path / "old.json"
    old.write_text("{}\n")
    done = run("build", "--check", "--out", str(old))
    assert done.returncode == 1
    assert done.stderr == f"{old} is not what the code makes: run `python -m monitoring build`\n"
    assert old.read_text() == "{}\n"


def test_help_has_an_example() -> None:
    assert "python -m monitoring picture --prometheus" in run("--help").stdout


def test_a_picture_without_a_prometheus_says_so_in_a_line(tmp_path: Path) -> None:
    done = run("picture", "--prometheus", "http://127.0.0.1:1", "--out", str(tmp_path / "ring.svg"))
    assert done.returncode == 1
    assert done.stderr.startswith("http://127.0.0.1:1 does not answer as a Prometheus: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(("row", "panel"), [(row, panel) for row, panel in panels(BOARD)])
def test_each_panel_says_what_it_shows(row: str, panel: dict[str, Any]) -> None:
    assert row
    assert panel["title"]
    assert len(panel["description"]) > 40
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["targets"]
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_titles_are_unique_in_their_row_and_ids_in_the_dashboard() -> None:
    titles = [(row, panel["title"]) for row, panel in panels(BOARD)]
    assert len(set(titles)) == len(titles)
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(set(ids)) == len(ids)


def test_panels_fill_their_rows_and_cover_no_other() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in BOARD["panels"]:
        at = panel["gridPos"]
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                assert (x, y) not in taken, f"{panel['title']} covers {taken.get((x, y))}"
                taken[x, y] = panel["title"]
    tops = {panel["gridPos"]["y"] for panel in BOARD["panels"]}
    assert not [(x, y) for y in tops for x in range(24) if (x, y) not in taken]


def test_every_row_is_there() -> None:
    rows = [panel["title"] for panel in BOARD["panels"] if panel["type"] == "row"]
    assert rows == ["Ring", "Delivery", "Durability", "Balance", "Clients", "Between nodes", "Operator"]


def test_only_metrics_that_exist_are_asked_for() -> None:
    asked = {metric for query in queries(BOARD) for metric in query.metrics}
    assert asked <= known()


def test_every_metric_of_the_ring_is_shown() -> None:
    asked = {metric for query in queries(BOARD) for metric in query.metrics}
    missing = {family.name for family in FAMILIES} - {metric.removesuffix("_bucket") for metric in asked}
    assert missing == {"coterie_ring_members"}  # each node's own guess; the dashboard counts those that it sees


def test_seconds_and_bytes_have_their_units() -> None:
    """A query of quantiles of a *_seconds histogram is in seconds, one of *_bytes in bytes."""
    for row, panel in panels(BOARD):
        if panel["type"] in ("nodeGraph", "table", "xychart"):
            continue
        unit = panel["fieldConfig"]["defaults"]["unit"]
        for target in panel["targets"]:
            expression = target["expr"]
            if "_seconds_bucket" in expression or "rtt_seconds" in expression:
                assert unit == "s", (row, panel["title"])
            elif "_bytes{" in expression:
                assert unit == "bytes", (row, panel["title"])
            elif "share_ratio" in expression and "avg(" not in expression and row == "Balance":
                assert unit == "percentunit", (row, panel["title"])
            elif expression.startswith("sum") and "rate(" in expression and "cpu" not in expression:
                assert unit in ("ops", "mps"), (row, panel["title"])


def test_it_is_imported_without_anything_to_fill_in() -> None:
    names = [variable["name"] for variable in BOARD["templating"]["list"]]
    assert names == ["datasource", "namespace", "ring", "node"]
    assert "__inputs" not in BOARD
    by_name = {variable["name"]: variable for variable in BOARD["templating"]["list"]}
    assert by_name["namespace"]["allValue"] == by_name["node"]["allValue"] == ".*"
