"""A Prometheus in the cluster: it finds what is annotated, and dashboard and alerts can work with what it finds."""

from __future__ import annotations

import json
import re
import textwrap
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from monitoring.listing import DASHBOARD, queries
from monitoring.prometheus import EVERYTHING, NoAnswer, Prometheus, Window, run_queries
from tests.kube.lab.images import PROMETHEUS
from tests.kube.lab.ring import CHART, Ring

from coterie_operator.metrics import REASONS

ROOT = Path(CHART).parent
NAME = "prometheus"
SPACE = "monitoring"
SCRAPE = 1.0
"""Seconds between two scrapes."""
RULES = (ROOT / "chart" / "rules" / "coterie.yaml").read_text()
SILENT = {"Hops of a lookup", "Time of a lookup"}
"""Three nodes that know each other look nothing up. Nor has a ring that stays as it is anything to annotate."""
BOARD = json.loads((ROOT / DASHBOARD).read_text())


def documented() -> Any:
    """Return the job for annotated pods as the documentation has it: people copy it."""
    blocks = re.findall(r"(?:^    .*\n)+", (ROOT / "docs" / "operations.md").read_text(), flags=re.MULTILINE)
    (job,) = (yaml.safe_load(textwrap.dedent(block))["scrape_configs"] for block in blocks if "role: pod" in block)
    return job


def config(namespace: str) -> str:
    (job,) = documented()
    # The tests' Prometheus may see one namespace only.
    (discovery,) = job["kubernetes_sd_configs"]
    discovery["namespaces"] = {"names": [namespace]}
    every = f"{SCRAPE:g}s"
    return yaml.safe_dump(
        {
            "global": {"scrape_interval": every, "evaluation_interval": every},
            "rule_files": ["/etc/prometheus/coterie.yaml"],
            "scrape_configs": [job],
        }
    )


def manifests(namespace: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what Prometheus is made of, and in which namespace; it may look at pods of one namespace, nothing else."""
    yield SPACE, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": NAME}}
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": NAME}}
    rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}
    yield namespace, {**role, "kind": "Role", "rules": [rule]}
    subject = {"kind": "ServiceAccount", "name": NAME, "namespace": SPACE}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": NAME}
    yield namespace, {**role, "kind": "RoleBinding", "roleRef": reference, "subjects": [subject]}
    data = {"prometheus.yml": config(namespace), "coterie.yaml": RULES}
    yield SPACE, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": NAME}, "data": data}
    container = {
        "name": NAME,
        "image": PROMETHEUS,
        "imagePullPolicy": "Never",
        "args": ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/data", "--log.level=warn"],
        "ports": [{"name": "http", "containerPort": 9090}],
        "readinessProbe": {"httpGet": {"path": "/-/ready", "port": "http"}, "periodSeconds": 1},
        "volumeMounts": [{"name": "config", "mountPath": "/etc/prometheus"}, {"name": "data", "mountPath": "/data"}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    spec = {
        "serviceAccountName": NAME,
        "terminationGracePeriodSeconds": 0,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": NAME}}, {"name": "data", "emptyDir": {}}],
    }
    yield SPACE, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": NAME}, "spec": spec}


@pytest.fixture
def prometheus(ring: Ring) -> Iterator[Prometheus]:
    """A Prometheus in a namespace of its own, with the documented job and the chart's alerts."""
    with ring.kube.namespace(SPACE, enforce="restricted"):
        account = ("serviceaccount", "default", "-n", SPACE)
        ring.until("the namespace has its account", lambda: ring.kube.get(*account))
        for namespace, manifest in manifests(ring.namespace):
            ring.kube.apply(manifest, namespace=namespace)
        ring.kube.kubectl("wait", "-n", SPACE, "--for=condition=Ready", f"pod/{NAME}", "--timeout=60s")
        try:
            with ring.kube.forwarded(SPACE, f"pod/{NAME}", 9090) as at:
                yield Prometheus(
                    f"http://{at}", {**EVERYTHING, "ring": ring.status["ringUid"], "namespace": ring.namespace}
                )
        finally:
            ring.kubectl("delete", "role,rolebinding", NAME)


def test_a_prometheus_finds_every_pod_and_answers_dashboard_and_alerts(ring: Ring, prometheus: Prometheus) -> None:
    operators = ring.kube.items("pods", "-n", ring.namespace, "-l", "app.kubernetes.io/component=operator")
    ports = {**dict.fromkeys(ring.pods(), "7402"), **{one["metadata"]["name"]: "8080" for one in operators}}

    def all_up() -> bool:
        return {one.labels["pod"] for one in asked(prometheus, "up == 1")} == set(ports)

    ring.until("every pod is scraped", all_up, 60)
    targets = prometheus.get("targets")["activeTargets"]
    found = [(one["labels"]["pod"], one["labels"]["instance"].rpartition(":")[2]) for one in targets]
    assert Counter(found) == Counter(ports.items()), "each pod once, at the port that it says"

    begun = time.time()
    with ring.talk("monitoring") as talk:
        talk.go_on(200)
        # Who acts for a recipient counts the delivery: which nodes these are is a matter of the names.
        counted = f"sum(increase(coterie_messages_total{{event='delivered'}}[{4 * SCRAPE:g}s])) > 0"
        ring.until("messages are counted", lambda: asked(prometheus, counted), 60)
        talk.go_on(200)
        end = time.time()
        window = Window(end, end - begun, SCRAPE, SCRAPE)
        asking = [query for query in queries(BOARD) if query.row != "annotations" and query.panel not in SILENT]
        wrong = run_queries(prometheus, asking, window)
    assert not wrong, "\n".join(f"{query.where}: {why}\n  {query.expression[:400]}" for query, why in wrong.items())

    (arcs,) = asked(prometheus, "sum(coterie_arc_share_ratio)")
    assert arcs.value == pytest.approx(1.0)
    shown = {(one.labels["ring"], one.labels["type"]): one.value for one in asked(prometheus, CONDITIONS)}
    assert shown[ring.name, "Available"] == 1
    errors = asked(prometheus, "coterie_operator_reconcile_errors_total")
    assert {one.labels["reason"] for one in errors} == set(REASONS)
    assert_alerts_are_evaluated(prometheus)


CONDITIONS = "coterie_operator_ring_condition"


def assert_alerts_are_evaluated(prometheus: Prometheus) -> None:
    """None has an error, as a join of series that are not what they seem would give; none fires at a whole ring."""
    rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    names = re.findall(r"- alert: (\w+)", RULES)
    assert sorted(rule["name"] for rule in rules) == sorted(names)
    assert {rule["name"]: rule.get("lastError", "") for rule in rules if rule["health"] != "ok"} == {}
    assert [rule["name"] for rule in rules if rule["state"] == "firing"] == []


def asked(prometheus: Prometheus, expression: str) -> list[Any]:
    try:
        return list(prometheus.instant(expression))
    except NoAnswer:
        return []
