"""Writes metrics in Prometheus' text format and in OpenMetrics, as prometheus_client does, to the byte.

The library builds, checks and escapes each of some 150 lines anew at each scrape, which was more than half of what a
scrape cost the node. Here all that does not change is made once: what is left of a line is its number.
"""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client.utils import floatToGoString

from coterie_node.measure import Distribution

from .family import Family, Kind, Labels, Value

number_text: Callable[[float], str] = floatToGoString
MOST_PREFIXES = 256
"""Label sets of one metric whose line's beginning is kept: peers come and go, and no more than a few are near."""


class Writer:
    """Writes one metric in one of the two formats."""

    def __init__(self, family: Family, *, openmetrics: bool) -> None:
        self._name = name = family.name
        self._labels = tuple(family.labels)
        # Labels stand in the order of their names.
        self._order = sorted(range(len(self._labels)), key=self._labels.__getitem__)
        base = name.removesuffix("_total") if openmetrics and family.kind is Kind.COUNTER else name
        text = family.help.replace("\\", r"\\").replace("\n", r"\n")
        if openmetrics:
            text = text.replace('"', r"\"")
        self._head = f"# HELP {base} {text}\n# TYPE {base} {family.kind.value}\n"
        self._prefixes: dict[Labels, str] = {}
        self._buckets: list[str] = []

    def write(self, value: Value, out: Callable[[str], None]) -> None:
        """Write the metric; nothing while it has nothing to tell."""
        if value is None:
            return
        out(self._head)
        if isinstance(value, Distribution):
            self._histogram(value, out)
        elif isinstance(value, (int, float)):
            out(f"{self._name} {number_text(value)}\n")
        else:
            for labels, number in value:
                out(f"{self._prefixes.get(labels) or self._prefix(labels)} {number_text(number)}\n")

    def _histogram(self, value: Distribution, out: Callable[[str], None]) -> None:
        if not self._buckets:
            bounds = (*value.bounds, float("inf"))
            self._buckets = [f'{self._name}_bucket{{le="{number_text(bound)}"}}' for bound in bounds]
        number = 0
        for bucket, (_, number) in zip(self._buckets, value.cumulative(), strict=True):
            out(f"{bucket} {number_text(number)}\n")
        out(f"{self._name}_count {number_text(number)}\n{self._name}_sum {number_text(value.total)}\n")

    def _prefix(self, labels: Labels) -> str:
        if len(self._prefixes) >= MOST_PREFIXES:
            self._prefixes.clear()
        pairs = ",".join(f'{self._labels[at]}="{_escaped(labels[at])}"' for at in self._order)
        prefix = self._prefixes[labels] = f"{self._name}{{{pairs}}}"
        return prefix


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
