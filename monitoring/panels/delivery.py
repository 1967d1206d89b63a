"""Delivery: do messages arrive, how fast, and what waits?"""

from __future__ import annotations

from grafana_foundation_sdk.models import units

from monitoring.queries import by_node, of, quantile, rate, total

from .kit import Line, PanelBuilder, lines

TITLE = "Delivery"


def quantiles(histogram: str) -> list[Line]:
    """Return how large observations were: half of them, nine of ten, and all but one in a hundred."""
    return [Line(quantile(share, histogram), f"p{share * 100:g}") for share in (0.5, 0.9, 0.99)]


def panels() -> list[PanelBuilder]:
    """Return the row's panels, from left to right."""
    return [
        lines(
            "Messages",
            "Messages a second, by what became of them. More accepted than stored: slots have no quorum. Less delivered"
            " than stored: recipients are away.",
            units.MessagesPerSecond,
            Line(total(rate(of("coterie_messages_total")), "event"), "{{event}}"),
        ),
        lines(
            "Delivery time",
            "From the storing of a message until its recipient's client had saved it. Of those online, seconds mean"
            " slow nodes or networks; minutes and more are recipients who come back.",
            units.Seconds,
            *quantiles("coterie_delivery_seconds"),
        ),
        lines(
            "Pending messages",
            "Messages that wait for their recipients, by the node that acts for these. It falls when they connect.",
            units.Short,
            Line(by_node(of("coterie_messages_pending"))),
            stacked=True,
        ),
        lines(
            "Stored by node",
            "Messages a second that each node took from clients and had stored on a majority.",
            units.MessagesPerSecond,
            Line(by_node(rate(of("coterie_messages_total", event="stored")))),
            stacked=True,
        ),
        lines(
            "Delivered by node",
            "Messages a second that each node delivered to the recipients for whom it acts.",
            units.MessagesPerSecond,
            Line(by_node(rate(of("coterie_messages_total", event="delivered")))),
            stacked=True,
        ),
        lines(
            "Not stored in time",
            "Records a second that did not reach a majority of disks in time; their senders try again. People wait.",
            units.OpsPerSecond,
            Line(by_node(rate(of("coterie_append_unavailable_total")))),
        ),
    ]
