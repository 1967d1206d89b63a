"""Between nodes: links, round trips, lookups."""

from __future__ import annotations

from grafana_foundation_sdk.models import units

from monitoring.queries import by_node, of, rate, with_node

from .delivery import quantiles
from .kit import Line, PanelBuilder, lines

TITLE = "Between nodes"


def panels() -> list[PanelBuilder]:
    """Return the row's panels, from left to right."""
    return [
        lines(
            "Round trips",
            "The slowest last round trip of each node to its near peers. Above 1 s the peer is given up.",
            units.Seconds,
            Line(f"max by (name) ({with_node(of('coterie_peer_rtt_seconds'), 'name')})"),
        ),
        lines(
            "Links lost",
            "Links to peers a second that broke, fell silent, or were ended by a peer that stopped.",
            units.OpsPerSecond,
            Line(by_node(rate(of("coterie_peer_failures_total")))),
        ),
        lines(
            "Links",
            "Links to other nodes that stand. 0 in a ring of several: the node is cut off.",
            units.Short,
            Line(by_node(of("coterie_peer_links"))),
        ),
        lines(
            "Hops of a lookup",
            "Nodes that had to be asked for a slot's owner. Above log2 of the number of nodes: fingers are stale.",
            units.Short,
            *quantiles("coterie_lookup_hops"),
        ),
        lines(
            "Time of a lookup",
            "How long it took to find a slot's owner. Seconds: silent nodes on the way, each costs a time-out.",
            units.Seconds,
            *quantiles("coterie_lookup_seconds"),
        ),
        lines(
            "Lookups that failed",
            "A second. The ring is split or healing, or nodes cannot be reached.",
            units.OpsPerSecond,
            Line(by_node(rate(of("coterie_lookups_failed_total")))),
        ),
    ]
