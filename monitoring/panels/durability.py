"""Durability: is everything on K disks, do hand-overs end, and how are the disks?"""

from __future__ import annotations

from grafana_foundation_sdk.models import units

from monitoring.queries import by_node, of, rate, total

from .delivery import quantiles
from .kit import Line, PanelBuilder, lines

TITLE = "Durability"


def panels() -> list[PanelBuilder]:
    """Return the row's panels, from left to right."""
    return [
        lines(
            "Slots short of a copy",
            "Slots whose members are not all live and in sync, by the node that acts for them. It falls by itself once"
            " nodes return or are replaced.",
            units.Short,
            Line(by_node(of("coterie_slots_under_replicated"))),
            stacked=True,
        ),
        lines(
            "Slots without a quorum",
            "Slots whose live members are no majority: they take nothing. Bring nodes back.",
            units.Short,
            Line(by_node(of("coterie_slots_without_quorum"))),
            stacked=True,
        ),
        lines(
            "Slots handed over now",
            "Slots on their way to other members, by phase. For many minutes: a new member or the network is slow.",
            units.Short,
            Line(total(of("coterie_handover_slots"), "phase"), "{{phase}}"),
            stacked=True,
        ),
        lines(
            "Hand-overs carried through",
            "Slots a second that got new members. Without nodes joining, leaving or moving, nodes flap.",
            units.OpsPerSecond,
            Line(by_node(rate(of("coterie_handovers_total")))),
        ),
        lines(
            "Records repaired and handed over",
            "Records a second copied between nodes, not counting the first storing. In a still ring it is 0.",
            units.OpsPerSecond,
            Line(total(rate(of("coterie_repair_records_total")), "direction"), "{{direction}}"),
        ),
        lines(
            "Rounds of accounts that met another",
            "Rounds a second for an account that found another proposer at work, or no quorum.",
            units.OpsPerSecond,
            Line(by_node(rate(of("coterie_register_conflicts_total")))),
        ),
        lines(
            "Commit time",
            "How long a transaction took, its fsync included; every message waits for one. Above 100 ms people notice.",
            units.Seconds,
            *quantiles("coterie_commit_seconds"),
        ),
        lines(
            "Records in a commit",
            "Records that shared one transaction: high under load is good, for one fsync serves many.",
            units.Short,
            *quantiles("coterie_commit_batch_records"),
        ),
        lines(
            "Commits that failed, damaged rows",
            "A second, because of the disk. Anything above 0: the disk is full, failing, or flips bits.",
            units.OpsPerSecond,
            Line(by_node(rate(of("coterie_store_failures_total"))), "failed: {{name}}"),
            Line(by_node(rate(of("coterie_store_damaged_total"))), "damaged: {{name}}"),
        ),
        lines(
            "Store",
            "Bytes that each node's database and its log take. Space of deleted records is used again.",
            units.BytesIEC,
            Line(by_node(of("coterie_store_bytes"))),
            width=12,
        ),
        lines(
            "Free on the disk",
            "Bytes that the file system still takes. At 0 the node stops taking writes.",
            units.BytesIEC,
            Line(by_node(of("coterie_store_free_bytes"))),
            width=12,
        ),
    ]
