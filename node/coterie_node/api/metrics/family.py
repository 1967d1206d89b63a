"""How a metric is declared: its name, its labels, what it means, and where its value is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from coterie_node.measure import Distribution

if TYPE_CHECKING:
    from .sources import Sources

Labels = tuple[str, ...]
Rows = Iterable[tuple[Labels, float]]
Value = float | Distribution | Rows | None
"""One number, one histogram, or a row for each set of label values; None: nothing to tell yet."""


class Kind(Enum):
    """The kinds of Prometheus, and how many series of each label set they make."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


@dataclass(frozen=True)
class Family:
    """One metric: its name, what it means, where its value comes from."""

    name: str
    """As it is written in queries: counters end in _total."""
    kind: Kind
    what: str
    """What it is: a sentence."""
    high: str
    """What it means when it is high, grows, or is not what it should be: sentences."""
    read: Callable[[Sources], Value]
    labels: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    """By label: all its values, or a sentence that says what bounds them."""

    @property
    def help(self) -> str:
        """Return the help text."""
        return f"{self.what} High: {self.high}"
