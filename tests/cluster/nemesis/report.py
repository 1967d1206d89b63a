"""What came of a run."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from tests.cluster.nemesis.availability import table
from tests.cluster.nemesis.books import Books
from tests.history.events import End

if TYPE_CHECKING:
    from tests.cluster.nemesis.run import Options


@dataclass(frozen=True)
class Report:
    """Figures, and whatever is wrong."""

    seed: int
    nodes: int
    seconds: float
    sent: int
    acknowledged: int
    shown: int
    lost: int
    shown_twice: int
    out_of_order: int
    never_sent: int
    faults: dict[str, int]
    account_operations: dict[str, int]
    availability: list[dict[str, Any]]
    whole_median_s: float | None
    whole_worst_s: float | None
    largest_node_bytes: int
    complaints: list[str]
    notes: list[str]

    @classmethod
    def of(
        cls,
        options: Options,
        books: Books,
        faults: dict[str, int],
        accounts: list[str],
        seconds: float,
        wholes: list[float],
        largest_node: int,
    ) -> Report:
        """Put it together."""
        boxes = books.boxes
        operations = Counter(
            f"{one.kind}, {'unknown' if one.end is End.UNKNOWN else one.end}" for one in books.history.operations
        )
        return cls(
            options.seed,
            options.nodes,
            round(seconds, 1),
            boxes.sent_count,
            boxes.acknowledged_count,
            boxes.shown_count,
            boxes.lost_count,
            boxes.twice_count,
            boxes.disorder_count,
            boxes.invented_count,
            dict(sorted(faults.items())),
            dict(sorted(operations.items())),
            books.availability.rows(),
            round(median(wholes), 2) if wholes else None,
            round(max(wholes), 2) if wholes else None,
            largest_node,
            [*boxes.complaints(), *accounts, *books.complaints],
            books.notes,
        )

    @property
    def good(self) -> bool:
        return not self.complaints

    def object(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {**asdict(self), "good": self.good}

    def text(self) -> str:
        """Write it for people."""
        count = sum(self.faults.values())
        lines = [
            f"seed {self.seed}: {self.acknowledged:,} messages acknowledged in {self.seconds:,.0f} s "
            f"({self.acknowledged / max(self.seconds, 0.1):,.0f}/s) under {count:,} faults, {self.nodes} nodes",
            f"lost {self.lost}, shown twice {self.shown_twice}, out of order {self.out_of_order}, "
            f"never sent {self.never_sent}; {self.shown:,} shown",
            f"names and sessions: {', '.join(f'{what} {n:,}' for what, n in self.account_operations.items())}",
            f"whole after a quiet of (median, worst): {self.whole_median_s} s, {self.whole_worst_s} s; "
            f"the largest node had {self.largest_node_bytes / 1e6:,.0f} MB",
            "",
            table(self.availability),
            "",
            *(f"note: {note}" for note in self.notes),
            *(f"WRONG: {complaint}" for complaint in self.complaints),
            "nothing is wrong" if self.good else f"{len(self.complaints)} COMPLAINTS",
        ]
        return "\n".join(lines)
