"""Clients: who is connected where, and do logins go well?"""

from __future__ import annotations

from grafana_foundation_sdk.models import units

from monitoring.queries import by_node, of, rate, total

from .kit import Line, PanelBuilder, lines

TITLE = "Clients"


def panels() -> list[PanelBuilder]:
    """Return the row's panels, from left to right."""
    return [
        lines(
            "Sessions",
            "Clients that are connected, by node. One node with most of them: spread clients by the Service or by"
            " COTERIE_SERVERS.",
            units.Short,
            Line(by_node(of("coterie_sessions"))),
            stacked=True,
        ),
        lines(
            "Logins",
            "Logins a second, by how they ended. Many refused or limited: somebody guesses passwords. Many granted:"
            " clients lose their sessions.",
            units.OpsPerSecond,
            Line(total(rate(of("coterie_logins_total")), "result"), "{{result}}"),
        ),
        lines(
            "Processor",
            "Processor seconds a second of each node. One core is 100 %, of which a node uses little more.",
            units.PercentUnit,
            Line(by_node(rate(of("process_cpu_seconds_total")))),
        ),
    ]
