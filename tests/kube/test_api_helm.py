"""The chart, against a real API server: it lints, its values are checked, what it renders is taken silently."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.kube.lab.definition import define
from tests.kube.lab.handle import Kube
from tests.kube.lab.ring import CHART

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
]


def sets(values: list[str]) -> list[str]:
    return [part for value in values for part in ("--set", value)]


@pytest.fixture(scope="module")
def charted(control_plane: Kube) -> Iterator[str]:
    """Return a namespace under restricted Pod Security, on an API server that knows Rings."""
    define(control_plane)
    with control_plane.namespace("charted", enforce="restricted", warn="restricted") as namespace:
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
    ],
)
def test_a_wrong_value_is_refused_by_its_name(control_plane: Kube, value: str) -> None:
    done = control_plane.helm("template", "coterie", CHART, "--set", value, check=False)
    assert done.returncode
    assert any(part in done.stderr for part in value.partition("=")[0].split("."))
