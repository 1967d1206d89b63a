"""The chart, against a real API server: it lints, its values are checked, what it renders is taken silently."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.kube.lab.handle import Kube
from tests.kube.lab.ring import CHART

ACCOUNT = "system:serviceaccount:{}:coterie-operator"
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
    control_plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", f"{CHART}/crds")
    control_plane.kubectl("wait", "--for=condition=Established", "crd/rings.coterie.chat", "--timeout=30s")
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


@pytest.fixture(scope="module")
def roles(control_plane: Kube, charted: str) -> str:
    """Apply the chart's accounts, roles and admission policy; return the operator's account."""
    files = ["rbac", "guard"]
    shown = [part for file in files for part in ("--show-only", f"templates/{file}.yaml")]
    rendered = control_plane.helm("template", "coterie", CHART, "-n", charted, *shown).stdout
    control_plane.kubectl("apply", "-n", charted, "-f", "-", input=rendered)
    return ACCOUNT.format(charted)


@pytest.mark.parametrize(
    ("verb", "what", "allowed"),
    [
        ("list", "rings.coterie.chat", True),
        ("patch", "rings.coterie.chat/status", True),
        ("patch", "statefulsets.apps", True),
        ("create", "secrets", True),
        ("list", "secrets", False),
        ("patch", "secrets", False),
        ("patch", "rings.coterie.chat", False),
        ("delete", "rings.coterie.chat", False),
        ("create", "pods", False),
        ("create", "pods/exec", False),
        ("delete", "services", False),
        ("update", "leases.coordination.k8s.io", False),
        ("create", "roles.rbac.authorization.k8s.io", False),
        ("get", "nodes", False),
    ],
)
def test_the_operator_may_do_what_it_does_and_no_more(
    control_plane: Kube, charted: str, roles: str, verb: str, what: str, allowed: bool
) -> None:
    kind, _, part = what.partition("/")
    asked = ["auth", "can-i", verb, kind, f"--as={roles}", *([f"--subresource={part}"] if part else [])]
    done = control_plane.kubectl(*asked, "-n", charted, check=False)
    assert done.stdout.strip() == ("yes" if allowed else "no"), done.stderr
    elsewhere = control_plane.kubectl(*asked, "-n", "default", check=False)
    assert elsewhere.stdout.strip() == "no"


def statefulset(name: str, labels: dict[str, str]) -> str:
    container = {"name": "node", "image": "coterie:dev"}
    return json.dumps(
        {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": {"name": name, "labels": labels},
            "spec": {
                "replicas": 3,
                "serviceName": name,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            },
        }
    )


def scaled(kube: Kube, namespace: str, name: str, *options: str) -> Any:
    return kube.kubectl("scale", "-n", namespace, f"sts/{name}", "--replicas=1", *options, check=False)


def test_only_the_operator_scales_the_stateful_set_of_a_ring(control_plane: Kube, roles: str, charted: str) -> None:
    kube = control_plane
    kube.kubectl("create", "-n", charted, "-f", "-", input=statefulset("main", {"coterie.chat/ring": "main"}))
    kube.kubectl("create", "-n", charted, "-f", "-", input=statefulset("other", {"app": "other"}))

    def of_the_ring() -> str:
        done = scaled(kube, charted, "main")
        return str(done.stderr) if done.returncode else ""

    # Policies take a moment until they are in force.
    said = kube.until(of_the_ring, 30, "scaling the StatefulSet is refused")
    assert "kubectl scale ring/main --replicas=1" in said
    patch = '{"spec":{"replicas":1}}'
    refused = kube.kubectl("patch", "-n", charted, "sts", "main", "-p", patch, check=False)
    assert "kubectl scale ring/main" in refused.stderr
    assert not scaled(kube, charted, "other").returncode
    kube.kubectl("set", "env", "-n", charted, "sts/main", "A=B")
    kube.kubectl("patch", "-n", charted, "sts", "main", "-p", patch, f"--as={roles}")
    assert kube.get("sts", "main", "-n", charted)["spec"]["replicas"] == 1
