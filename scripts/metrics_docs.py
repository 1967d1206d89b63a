"""Writes docs/metrics.md from the code: every metric of nodes and operator, with its labels and what it means.

python scripts/metrics_docs.py            says whether the page is current; exit code 1 if it is not
python scripts/metrics_docs.py --write    writes it
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from prometheus_client.metrics import MetricWrapperBase

from coterie_node.api.metrics.family import Family
from coterie_node.api.metrics.table import GROUPS
from coterie_operator.metrics import Metrics

PAGE = Path(__file__).parents[1] / "docs" / "metrics.md"
HEAD = """\
# Metrics

<!-- Written by scripts/metrics_docs.py from the code: change the texts there (node/coterie_node/api/metrics/table.py,
     operator/coterie_operator/metrics.py), then run `python scripts/metrics_docs.py --write`. -->

Every node serves `GET /metrics` on its admin port (7402), in Prometheus' text format or as OpenMetrics, whichever the
scraper asks for; the operator does on port 8080. Both are open: they name nodes and rings, never users, addresses or
anything of a message. A scrape reads what is in memory and costs some milliseconds. Units are seconds, bytes, and
ratios from 0 to 1. What a node counts begins with 0 at its start.

Only `coterie_node_info` carries the node's name; join it where a name is wanted:

    coterie_sessions * on (instance) group_left (name) coterie_node_info

Metrics of a ring are absent until the node belongs to one. `process_*` and `python_info` are those of
prometheus-client: CPU seconds, memory, open files.
"""
COLUMNS = "| metric | labels | what it is | when it is high |\n|---|---|---|---|\n"


def page() -> str:
    """Return the whole page."""
    parts = [HEAD]
    for title, families in GROUPS.items():
        parts.append(f"\n## {title}\n\n{COLUMNS}{''.join(map(_row, families))}")
    parts.append(f"\n## The operator\n\n| metric | labels | what it is |\n|---|---|---|\n{''.join(_operator())}")
    return "".join(parts)


def _row(family: Family) -> str:
    labels = "<br>".join(f"`{label}`: {_values(values)}" for label, values in family.labels.items())
    return (
        f"| `{family.name}` {family.kind.value} | {labels or 'none'} | {_cell(family.what)} | {_cell(family.high)} |\n"
    )


def _values(values: str | Iterable[str]) -> str:
    return values.replace("|", "\\|") if isinstance(values, str) else ", ".join(f"`{value}`" for value in values)


def _cell(text: str) -> str:
    return (text[:1].upper() + text[1:]).replace("|", "\\|")


def _operator() -> Iterator[str]:
    for metric in vars(Metrics()).values():
        if isinstance(metric, MetricWrapperBase):
            (family,) = metric.describe()
            name = family.name + ("_total" if family.type == "counter" else "")
            labels = ", ".join(f"`{label}`" for label in metric._labelnames)
            yield f"| `{name}` {family.type} | {labels or 'none'} | {_cell(family.documentation)} |\n"


def main() -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write the page instead of comparing it")
    wanted = page()
    if parser.parse_args().write:
        PAGE.write_text(wanted)
        return 0
    if PAGE.is_file() and PAGE.read_text() == wanted:
        return 0
    print("docs/metrics.md is not current: run `python scripts/metrics_docs.py --write`", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
