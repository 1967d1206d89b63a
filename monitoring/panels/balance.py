"""Balance: does every node carry its part, and what changes?"""

from __future__ import annotations

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import piechart
from grafana_foundation_sdk.models import common, units
from grafana_foundation_sdk.models.piechart import PieChartType
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from monitoring.queries import CHOSEN, by_node, most_over_mean, of, on_disk, rate, total

from .kit import DATASOURCE, ORANGE, Line, PanelBuilder, instant_target, lines
from .places import places

TITLE = "Balance"


def panels() -> list[PanelBuilder]:
    """Return the row's panels, from left to right."""
    records = on_disk(of("coterie_records"))
    shares = (
        piechart.Panel()
        .title("Shares now")
        .description("The part of the circle that each node owns. Where one is far larger than the others: rebalance.")
        .datasource(DATASOURCE)
        .unit(units.PercentUnit)
        .span(6)
        .height(8)
        .pie_type(PieChartType.DONUT)
        .reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
        .tooltip(common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.SINGLE))
        .with_target(
            instant_target("A", by_node(of("coterie_arc_share_ratio")), PromQueryFormat.TIME_SERIES, "{{name}}")
        )
    )
    return [
        places(),
        lines(
            "Share of the ring",
            "The part of the circle that each node owns. Joins, leaves and moves (marked) change it.",
            units.PercentUnit,
            Line(by_node(of("coterie_arc_share_ratio"))),
            stacked=True,
        ),
        lines(
            "Records",
            "Records on each node's disk; each is on K nodes. What is uneven here but even in shares comes from"
            " accounts with long histories.",
            units.Short,
            Line(by_node(records)),
        ),
        shares,
        lines(
            "Skew",
            "The node that has most, over the mean: of the circle, and of the records. 1 is perfectly even.",
            units.Short,
            Line(most_over_mean(of("coterie_arc_share_ratio")), "arcs"),
            Line(most_over_mean(records), "records"),
            steps=((None, "transparent"), (2, ORANGE)),
            width=6,
        ),
        lines(
            "Records by kind",
            "Records of the ring, each counted once: pending ones wait for their recipients, archived ones are"
            " histories, tombstones are expired or deleted messages.",
            units.Short,
            Line(total(of("coterie_records", role="users"), "kind"), "{{kind}}"),
            stacked=True,
            width=6,
        ),
        lines(
            "Changes of the ring",
            "Nodes a second that joined, left, moved or failed, as the node saw it that saw most of them.",
            units.OpsPerSecond,
            Line(
                f"max by (change) ({rate(of('coterie_ring_changes_total'))} and on (job, instance) {CHOSEN})",
                "{{change}}",
            ),
            width=6,
        ),
    ]
