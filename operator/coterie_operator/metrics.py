"""The operator's own metrics. One registry an operator, so that several may live in one process (as tests do).

A job that scrapes by Kubernetes' discovery has a label `namespace` of its own, the operator's: unless it honours
labels, the ring's is then called `exported_namespace`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

PASS_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds. A pass is a dozen API calls and one round of the nodes (2 s at most); the tail is a slow API server."""
RING = ("namespace", "ring")
REASONS = (
    "ApplyFailed",
    "ClaimCannotGrow",
    "GuardRefuses",
    "InternalError",
    "InvalidSpec",
    "NameTaken",
    "OperatorForbidden",
    "SecretDamaged",
    "Unreachable",
)
"""Why passes fail. Each is counted from 0 on: in a series that begins with an error Prometheus sees no increase."""


class Metrics:
    """What the operator counts. Labels are bounded by the rings that exist, types of conditions and kinds of errors."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.seconds = Histogram(
            "coterie_operator_reconcile_seconds",
            "How long one pass over one ring took, good or bad. High: the Kubernetes API or a node answers slowly;"
            " above 2 s a node did not answer at all.",
            buckets=PASS_BUCKETS,
            registry=registry,
        )
        self.errors = Counter(
            "coterie_operator_reconcile_errors",
            "Passes over a ring that ended with an error, by its reason, which the Ring's Degraded condition explains."
            " High: something is not put in place; Unreachable means the Kubernetes API.",
            ["reason"],
            registry=registry,
        )
        for reason in REASONS:
            self.errors.labels(reason)
        self.leader = Gauge(
            "coterie_operator_leader",
            "1 while this process holds the lease, 0 while it stands by. The sum over the operators of a namespace is"
            " 1; 0 for more than seconds: nobody looks after the rings.",
            registry=registry,
        )
        self.condition = Gauge(
            "coterie_operator_ring_condition",
            "1 while the ring's condition of this type is True, else 0. Available should be 1; Degraded and"
            " ScaleDownBlocked at 1 for long need somebody, and the Ring's status says what for.",
            [*RING, "type"],
            registry=registry,
        )
        self.wanted = Gauge(
            "coterie_operator_ring_nodes_wanted",
            "Nodes that the Ring asks for (spec.replicas). Above the ready ones: nodes come, or are missing.",
            RING,
            registry=registry,
        )
        self.ready = Gauge(
            "coterie_operator_ring_nodes_ready",
            "Nodes of the ring that serve clients. Above the wanted ones: nodes are leaving.",
            RING,
            registry=registry,
        )
        self.reconciled = Gauge(
            "coterie_operator_ring_reconciled_timestamp_seconds",
            "When the last pass over the ring ended well, in seconds of Unix time. High is good: more than a minute"
            " ago, the operator is stuck at this ring.",
            RING,
            registry=registry,
        )
        self._types: dict[tuple[str, str], set[str]] = {}

    def passed(self, namespace: str, ring: str) -> None:
        """Say that a pass over a ring has just ended well."""
        self.reconciled.labels(namespace, ring).set_to_current_time()

    def conditions(self, namespace: str, ring: str, conditions: Mapping[str, bool]) -> None:
        """Show a ring's conditions as they are now."""
        known = self._types.setdefault((namespace, ring), set())
        for gone in known - conditions.keys():
            self.condition.remove(namespace, ring, gone)
        for name, true in conditions.items():
            self.condition.labels(namespace, ring, name).set(true)
        self._types[namespace, ring] = set(conditions)

    def nodes(self, namespace: str, ring: str, *, wanted: int, ready: int) -> None:
        """Show how many nodes a ring should have, and how many serve clients."""
        self.wanted.labels(namespace, ring).set(wanted)
        self.ready.labels(namespace, ring).set(ready)

    def forget(self, namespace: str, ring: str) -> None:
        """Drop the series of a ring that is gone."""
        self.conditions(namespace, ring, {})
        del self._types[namespace, ring]
        for gauge in (self.wanted, self.ready, self.reconciled):
            with contextlib.suppress(KeyError):  # nothing was ever said of it
                gauge.remove(namespace, ring)

    def text(self) -> bytes:
        """Return the exposition in Prometheus' text format."""
        return generate_latest(self.registry)
