"""The operator, where there is one. It may run in another namespace than the ring: the namespace is not asked for."""

from __future__ import annotations

from grafana_foundation_sdk.builders import statetimeline
from grafana_foundation_sdk.models import units

from .kit import DATASOURCE, GREEN, GREY, RED, Line, PanelBuilder, line_target, lines, named, number, thresholds

TITLE = "Operator"


def panels() -> list[PanelBuilder]:
    """Return the row's panels, from left to right."""
    # A job that puts the operator's own namespace into the label keeps the ring's under another name.
    conditions = 'label_replace(coterie_operator_ring_condition{}, "namespace", "$1", "exported_namespace", "(.+)")'
    buckets = "sum by (le) (rate(coterie_operator_reconcile_seconds_bucket{}[$__rate_interval]))"
    return [
        number(
            "Leaders",
            "Operators that hold the lease: 1 is right. 0 for a minute: none works, and rings are not looked after.",
            units.Short,
            "sum(coterie_operator_leader{})",
            steps=((None, RED), (1, GREEN), (2, RED)),
            width=4,
        ),
        lines(
            "Pass over a ring",
            "How long one pass over one ring took. Seconds: the API server or nodes answer slowly.",
            units.Seconds,
            *(Line(f"histogram_quantile({share}, {buckets})", f"p{share * 100:g}") for share in (0.5, 0.9, 0.99)),
            width=10,
        ),
        lines(
            "Passes that failed",
            "Passes a second that ended with an error, by its reason; the operator's log says more.",
            units.OpsPerSecond,
            Line("sum by (reason) (rate(coterie_operator_reconcile_errors_total{}[$__rate_interval]))", "{{reason}}"),
            width=10,
        ),
        (
            statetimeline.Panel()
            .title("Conditions of the rings")
            .description("Each condition of each Ring over time. Available should be true, Degraded should not.")
            .datasource(DATASOURCE)
            .unit(units.Short)
            .span(24)
            .height(8)
            .mappings(named({0: ("false", GREY), 1: ("true", "blue")}))
            .thresholds(thresholds([(None, GREY)]))
            .with_target(
                line_target(
                    "A", Line(f"max by (namespace, ring, type) ({conditions})", "{{namespace}}/{{ring}}: {{type}}")
                )
            )
        ),
    ]
