"""The chart, against a real API server: it lints, its values are checked, what it renders is taken silently."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.kube.lab.definition import define
from tests.kube.lab.handle import Kube
from tests.kube.lab.monitors import define_monitors, sources
from tests.kube.lab.ring import CHART
from tests.tools.needs import or_skip

from coterie_operator.manifests_pod import labels

MATRIX = [
    [],
    ["ring.enabled=false"],
    ["operator.allNamespaces=true", "operator.replicas=1"],
    ["ring.discovery=multicast", "ring.hostNetwork=true"],
    ["ring.service.type=NodePort", "ring.service.nodePort=30740", "ring.service.annotations.a=b"],
    ["ring.service.type=LoadBalancer", "ring.service.hosts={chat.example.org}"],
    ["ring.storage.className=fast", "ring.storage.size=20Gi", "ring.storage.retain=false"],
    ["ring.podDisruptionBudget=false", "ring.networkPolicy=false", "operator.networkPolicy=false"],
    ["ring.resources.requests.cpu=1", "ring.resources.limits.memory=1Gi", "operator.resources=null"],
    ["ring.nodeSelector.disk=ssd", "ring.tolerations[0].operator=Exists", "operator.nodeSelector.a=b"],
    ["ring.replicas=7", "ring.replicationFactor=5", "ring.slots=4096", "ring.paused=true"],
    ["imagePullSecrets[0].name=registry", "image.pullPolicy=Always", "image.tag=v2"],
    ["guard.enabled=false", "crd.upgrade=false"],
    ["monitoring.podMonitor.enabled=true", "monitoring.podMonitor.interval=15s", "monitoring.podMonitor.labels.a=b"],
    ["monitoring.podMonitor.enabled=true", "operator.allNamespaces=true", "monitoring.dashboards.enabled=false"],
    ["monitoring.prometheusRule.enabled=true", "monitoring.prometheusRule.labels.release=prometheus"],
    ["monitoring.annotations=false", "monitoring.from=null", "operator.podAnnotations.a=b"],
    ["monitoring.from[0].podSelector.matchLabels.app=prometheus", "monitoring.from[1].ipBlock.cidr=10.0.0.0/8"],
]


def sets(values: list[str]) -> list[str]:
    return [part for value in values for part in ("--set", value)]


@pytest.fixture(scope="module")
def charted(control_plane: Kube) -> Iterator[str]:
    """Return a namespace under restricted Pod Security, on an API server that knows Rings and monitors."""
    define(control_plane)
    with or_skip():
        folder = sources()
    define_monitors(control_plane, folder)
    with control_plane.namespace("charted", enforce="restricted", warn="restricted") as namespace:
        # Without it the pod of `helm test` is refused; a controller makes it, in its own time.
        account = ("serviceaccount", "default", "-n", namespace)
        control_plane.until(lambda: control_plane.get(*account), 60, "the namespace has its account")
        yield namespace


def test_the_chart_lints(control_plane: Kube) -> None:
    assert "0 chart(s) failed" in control_plane.helm("lint", "--strict", CHART).stdout


@pytest.mark.parametrize("values", MATRIX, ids=[",".join(values) or "defaults" for values in MATRIX])
def test_what_it_renders_is_taken_without_a_warning(control_plane: Kube, charted: str, values: list[str]) -> None:
    rendered = control_plane.helm("template", "coterie", CHART, "-n", charted, *sets(values)).stdout
    done = control_plane.kubectl(
        *("apply", "-n", charted, "--dry-run=server", "--validate=strict", "-f", "-"), input=rendered
    )
    assert not done.stderr, done.stderr


@pytest.mark.parametrize(
    "value",
    [
        "ring.replica=3",
        "rings.replicas=3",
        "image.tga=v1",
        "ring.storage.sise=1Gi",
        "ring.replicas=0",
        "ring.slots=1000",
        "ring.tls.mode=Managed",
        "operator.replicas=0",
        "ring.name=Main",
        "monitoring.podmonitor.enabled=true",
        "monitoring.from[0].pod=prometheus",
        "monitoring.podMonitor.interval=often",
    ],
)
def test_a_wrong_value_is_refused_by_its_name(control_plane: Kube, value: str) -> None:
    done = control_plane.helm("template", "coterie", CHART, "--set", value, check=False)
    assert done.returncode
    assert any(part in done.stderr for part in value.partition("=")[0].split("."))


def rendered(kube: Kube, *values: str) -> dict[tuple[str, str], Any]:
    """Return what the chart renders by kind and name."""
    text = kube.helm("template", "coterie", CHART, "-n", "chat", *sets(list(values))).stdout
    return {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(text) if one}


def test_the_rules_are_those_of_the_plain_file(control_plane: Kube) -> None:
    """Both are templates with double braces: Helm must leave Prometheus' alone."""
    plain = yaml.safe_load(Path(CHART, "rules", "coterie.yaml").read_text())
    assert ("PrometheusRule", "coterie") not in rendered(control_plane)
    found = rendered(control_plane, "monitoring.prometheusRule.enabled=true")
    assert found["PrometheusRule", "coterie"]["spec"] == plain
    web = "https://chat.example/operations.html"
    values = ("monitoring.prometheusRule.enabled=true", f"monitoring.prometheusRule.runbookUrl={web}")
    changed = rendered(control_plane, *values)["PrometheusRule", "coterie"]["spec"]
    urls = [rule["annotations"]["runbook_url"] for group in changed["groups"] for rule in group["rules"]]
    assert f"{web}#coteriediskfull" in urls
    assert all(url.startswith(f"{web}#coterie") for url in urls)


def test_every_dashboard_is_a_labelled_configmap(control_plane: Kube) -> None:
    files = {file.name: file.read_text() for file in Path(CHART, "dashboards").glob("*.json")}
    assert files
    found = [one for (kind, _), one in rendered(control_plane).items() if kind == "ConfigMap"]
    assert {one["metadata"]["labels"].get("grafana_dashboard") for one in found} == {"1"}
    shown = {name: json.loads(text) for one in found for name, text in one["data"].items()}
    assert shown == {name: json.loads(text) for name, text in files.items()}
    assert not any(kind == "ConfigMap" for kind, _ in rendered(control_plane, "monitoring.dashboards.enabled=false"))


def test_pods_are_scraped_by_annotations_or_by_monitors_never_by_both(control_plane: Kube) -> None:
    annotated = {"prometheus.io/scrape": "true", "prometheus.io/port": "8080", "prometheus.io/path": "/metrics"}
    plain = rendered(control_plane)
    assert plain["Deployment", "coterie-operator"]["spec"]["template"]["metadata"]["annotations"] == annotated
    assert plain["Ring", "main"]["spec"]["monitoring"]["annotations"] is True
    assert not any(kind == "PodMonitor" for kind, _ in plain)

    monitored = rendered(control_plane, "monitoring.podMonitor.enabled=true")
    deployment = monitored["Deployment", "coterie-operator"]["spec"]["template"]
    assert "annotations" not in deployment["metadata"]
    assert monitored["Ring", "main"]["spec"]["monitoring"]["annotations"] is False
    operator = monitored["PodMonitor", "coterie-operator"]["spec"]
    assert operator["selector"]["matchLabels"].items() <= deployment["metadata"]["labels"].items()
    nodes = monitored["PodMonitor", "coterie-nodes"]["spec"]
    assert nodes["selector"]["matchLabels"].items() <= labels("main").items()

    own = rendered(control_plane, "operator.podAnnotations.prometheus\\.io/path=/own", "monitoring.from=null")
    pod = own["Deployment", "coterie-operator"]["spec"]["template"]["metadata"]
    assert pod["annotations"] == {**annotated, "prometheus.io/path": "/own"}
    assert "ingress" not in own["NetworkPolicy", "coterie-operator"]["spec"], "an empty `from` would let everybody in"
