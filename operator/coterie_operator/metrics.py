"""The operator's own metrics. One registry an operator, so that several may live in one process (as tests do)."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

PASS_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds. A pass is a dozen API calls and one round of the nodes (2 s at most); the tail is a slow API server."""


class Metrics:
    """What the operator counts. Label sets are bounded by the rings that exist and the types of conditions."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.seconds = Histogram(
            "coterie_operator_reconcile_seconds",
            "How long one pass over one ring took.",
            buckets=PASS_BUCKETS,
            registry=self.registry,
        )
        self.errors = Counter(
            "coterie_operator_reconcile_errors",
            "Passes over a ring that ended with an error, by its reason.",
            ["reason"],
            registry=self.registry,
        )
        self.leader = Gauge("coterie_operator_leader", "1 while this process holds the lease.", registry=self.registry)
        self.condition = Gauge(
            "coterie_operator_ring_condition",
            "1 while the ring's condition of this type is True.",
            ["namespace", "ring", "type"],
            registry=self.registry,
        )
        self._types: dict[tuple[str, str], set[str]] = {}

    def conditions(self, namespace: str, ring: str, conditions: dict[str, bool]) -> None:
        """Show a ring's conditions as they are now."""
        known = self._types.setdefault((namespace, ring), set())
        for gone in known - conditions.keys():
            self.condition.remove(namespace, ring, gone)
        for name, true in conditions.items():
            self.condition.labels(namespace, ring, name).set(true)
        self._types[namespace, ring] = set(conditions)

    def forget(self, namespace: str, ring: str) -> None:
        """Drop the series of a ring that is gone."""
        self.conditions(namespace, ring, {})
        del self._types[namespace, ring]

    def text(self) -> bytes:
        """Return the exposition in Prometheus' text format."""
        return generate_latest(self.registry)
