"""The ring itself: is it whole, who is in it, and where do they stand?"""

from __future__ import annotations

from grafana_foundation_sdk.builders import nodegraph, statetimeline
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard, units
from grafana_foundation_sdk.models.nodegraph import ArcOption
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from monitoring.queries import RING, by_node, most_over_mean, of, on_disk, total, with_node
from monitoring.ring_panel import EDGES, SUCCESSORS, TEXTS, edges, numbers, texts, transformations

from .kit import (
    BLUE,
    DATASOURCE,
    GREEN,
    GREY,
    ORANGE,
    RED,
    YELLOW,
    Line,
    PanelBuilder,
    columns,
    instant_target,
    line_target,
    named,
    number,
    thresholds,
    transformation,
)

TITLE = "Ring"
RING_TITLE = "The ring"

_GOOD_ZERO = ((None, GREEN), (1, ORANGE))
_BAD_ZERO = ((None, GREEN), (1, RED))
_COLORS = {
    "arc__ready": (GREEN, "Ready: its part of the ring"),
    "arc__ready_rest": ("dark-green", "Ready: the rest"),
    "arc__busy": (ORANGE, "Busy or short of a copy: its part"),
    "arc__busy_rest": ("dark-orange", "Busy or short of a copy: the rest"),
    "arc__trouble": (RED, "In trouble or not scraped: its part"),
    "arc__trouble_rest": ("dark-red", "In trouble or not scraped: the rest"),
}
_STATES = {
    0: ("forming", GREY),
    1: ("joining", BLUE),
    2: ("syncing", YELLOW),
    3: ("ready", GREEN),
    4: ("leaving", ORANGE),
    5: ("left", GREY),
}
"""As in coterie_node_state; the numbers are this dashboard's own."""


def ring_graph() -> PanelBuilder:
    """Return the ring as a ring."""
    arcs: list[Builder[ArcOption]] = [
        nodegraph.ArcOption().field(name).color(color) for name, (color, _) in _COLORS.items()
    ]
    panel = (
        nodegraph.Panel()
        .title(RING_TITLE)
        .description(
            "Every node at its place: position 0 is at the top, positions grow clockwise, arrows lead to the next node."
            " A node owns the arc from the node before it to itself; the bright part of its circle is its share."
            " Green is ready, orange is joining, syncing, leaving or short of a copy, red is in trouble, or was scraped"
            " in the last ten minutes and is no more. Click a node for its uid, share, records and successors."
        )
        .datasource(DATASOURCE)
        .unit(units.Short)
        .span(14)
        .height(18)
        .nodes(nodegraph.NodeOptions().main_stat_unit("%").secondary_stat_unit("records").arcs(arcs))
    )
    for name, expression in numbers().items():
        panel = panel.with_target(instant_target(name, expression, PromQueryFormat.TIME_SERIES))
    panel = panel.with_target(instant_target(TEXTS, texts(), PromQueryFormat.TABLE))
    panel = panel.with_target(instant_target(EDGES, edges(), PromQueryFormat.TABLE))
    for step in transformations():
        panel = panel.with_transformation(transformation(*step))
    shown = {
        **{name: text for name, (_, text) in _COLORS.items()},
        "detail__uid": "uid",
        "detail__position": "Position (0 to 1)",
        "detail__share": "Share of the ring (0 to 1)",
        "detail__records": "Records on its disk",
        **{f"detail__successor_{rank}": f"Successor {rank}" for rank in range(1, SUCCESSORS + 1)},
    }
    for name, text in shown.items():
        panel = panel.override_by_name(name, [dashboard.DynamicConfigValue("displayName", text)])
    return panel


def states() -> PanelBuilder:
    """Return the state of each node over time."""
    marked = " or ".join(
        f"{value} * {of('coterie_node_state', state=text)}" for value, (text, _) in _STATES.items() if value
    )
    return (
        statetimeline.Panel()
        .title("States")
        .description("The state of each node over time. Anything but ready for minutes needs a look: see its /readyz.")
        .datasource(DATASOURCE)
        .unit(units.Short)
        .span(10)
        .height(18)
        .mappings(named(_STATES))
        .thresholds(thresholds([(None, GREY)]))
        .with_target(line_target("A", Line(by_node(f"({marked})"))))
    )


def nodes() -> PanelBuilder:
    """Return the nodes as a table."""
    plain = {
        "Position": (units.PercentUnit, "coterie_node_position_ratio"),
        "Share": (units.PercentUnit, "coterie_arc_share_ratio"),
        "Store": (units.BytesIEC, "coterie_store_bytes"),
        "Sessions": (units.Short, "coterie_sessions"),
        "Memory": (units.BytesIEC, "process_resident_memory_bytes"),
    }
    shown = {name: (unit, with_node(of(metric), "name", "uid")) for name, (unit, metric) in plain.items()}
    shown["Acts for"] = (units.Short, with_node(of("coterie_slots", role="users"), "name", "uid"))
    shown["Records"] = (units.Short, with_node(on_disk(of("coterie_records")), "name", "uid"))
    shown["CPU"] = (
        units.PercentUnit,
        with_node(f"rate({of('process_cpu_seconds_total')}[$__rate_interval])", "name", "uid"),
    )
    shown = {name: (unit, f"max by (name, uid) ({expression})") for name, (unit, expression) in shown.items()}
    return columns(
        "Nodes",
        "The same as a table: where each node stands, what it owns (slots that it acts for) and what it costs.",
        units.Short,
        ["name", "uid"],
        shown,
    )


def panels() -> list[PanelBuilder]:
    """Return the row's panels, from left to right."""
    return [
        number(
            "Nodes ready",
            "Nodes of the ring that are ready. Fewer than you started: the states below say which, and since when.",
            units.Short,
            total(of("coterie_node_state", state="ready"), nodes=RING),
            steps=((None, RED), (1, GREEN)),
        ),
        number(
            "Circles",
            "The shares of all nodes, added up: 1 is one circle, near 2 is a ring that has split into two.",
            units.Short,
            total(of("coterie_arc_share_ratio"), nodes=RING),
            steps=((None, RED), (0.99, GREEN), (1.01, RED)),
            decimals=2,
        ),
        number(
            "Short of a copy",
            "Slots whose members are not all live and in sync: another failure may cost them their quorum.",
            units.Short,
            total(of("coterie_slots_under_replicated"), nodes=RING),
            steps=_GOOD_ZERO,
        ),
        number(
            "Without a quorum",
            "Slots whose live members are no majority: their accounts answer unavailable now.",
            units.Short,
            total(of("coterie_slots_without_quorum"), nodes=RING),
            steps=_BAD_ZERO,
        ),
        number(
            "Stores that fail",
            "Nodes whose last write went wrong: a disk is full, failing or damaged.",
            units.Short,
            total(f"({of('coterie_store_healthy')} == bool 0)", nodes=RING),
            steps=_BAD_ZERO,
        ),
        number(
            "Skew",
            "The widest arc over the mean: 1 is perfectly even, 2 is a node with twice its part.",
            units.Short,
            most_over_mean(of("coterie_arc_share_ratio"), nodes=RING),
            steps=((None, GREEN), (2, ORANGE)),
            decimals=2,
        ),
        number(
            "Pending messages",
            "Messages that wait for their recipients, in the whole ring.",
            units.Short,
            total(of("coterie_messages_pending"), nodes=RING),
            steps=((None, GREEN),),
        ),
        number(
            "Alerts that fire",
            "Of Coterie's rules, about any ring; what each means stands in the project's docs/operations.md. It is 0,"
            " too, where this Prometheus has not been given the rules.",
            units.Short,
            'count(ALERTS{alertname=~"Coterie.+", alertstate="firing"}) or vector(0)',
            steps=_BAD_ZERO,
        ),
        ring_graph(),
        states(),
        nodes(),
    ]
