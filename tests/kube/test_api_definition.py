"""The Ring's definition field by field: what is taken, what a misspelt name meets, what people see of it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from tests.kube.lab.definition import CRD, define
from tests.kube.lab.handle import Kube


@pytest.fixture(scope="module")
def space(control_plane: Kube) -> Iterator[str]:
    define(control_plane)
    with control_plane.namespace("definition") as name:
        yield name


def ring(name: str = "main", **spec: Any) -> str:
    return json.dumps({"apiVersion": "coterie.chat/v1alpha1", "kind": "Ring", "metadata": {"name": name}, "spec": spec})


def offer(kube: Kube, space: str, text: str) -> subprocess.CompletedProcess[str]:
    """Offer a Ring without keeping it; a field that the server does not know counts as wrong."""
    return kube.kubectl(
        *("apply", "--server-side", "--dry-run=server", "--validate=strict", "-n", space, "-f", "-"),
        input=text,
        check=False,
    )


def test_the_defaults_are_in_the_definition(control_plane: Kube, space: str) -> None:
    control_plane.kubectl("create", "-n", space, "-f", "-", input=ring("plain"))
    spec = control_plane.get("ring", "plain", "-n", space)["spec"]
    assert spec == {
        "replicas": 3,
        "replicationFactor": 3,
        "slots": 1024,
        "imagePullPolicy": "IfNotPresent",
        "storage": {"size": "1Gi", "retain": True},
        "discovery": "dns",
        "hostNetwork": False,
        "rebalance": {"mode": "Auto", "maxSkew": 1.2},
        "scaleDown": {"timeout": "10m", "policy": "Safe"},
        "tls": {"mode": "Off"},
        "update": {"maxUnavailable": 1},
        "service": {"type": "ClusterIP"},
        "podDisruptionBudget": True,
        "networkPolicy": True,
        "monitoring": {"annotations": True, "from": [{"namespaceSelector": {}}]},
        "paused": False,
    }


TAKEN: dict[str, dict[str, Any]] = {
    "one node": {"replicas": 1, "replicationFactor": 1},
    "half": {"storage": {"size": "0.5Gi"}},
    "resources": {"resources": {"requests": {"cpu": 1, "memory": "1Gi"}, "limits": {"cpu": "1500m"}}},
    "places": {
        "affinity": {
            "nodeAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {"weight": 3, "preference": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}}
                ]
            },
            "podAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": [
                    {"topologyKey": "zone", "labelSelector": {"matchLabels": {"a": "b"}}, "namespaces": ["x"]}
                ]
            },
        },
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "minDomains": 2}
        ],
        "tolerations": [{"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 3}],
        "nodeSelector": {"disk": "ssd"},
    },
    "node port": {"service": {"type": "NodePort", "nodePort": 30740}},
    "a whole skew": {"rebalance": {"maxSkew": 2}},
    "long wait": {"scaleDown": {"timeout": "1h30m", "policy": "Force"}},
    "no scraping": {"monitoring": {"annotations": False, "from": []}},
    "scrapers": {
        "monitoring": {
            "from": [
                {"namespaceSelector": {"matchLabels": {"a": "b"}}, "podSelector": {"matchLabels": {"c": "d"}}},
                {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}},
            ]
        }
    },
    "a long name": {},
}


@pytest.mark.parametrize("case", TAKEN)
def test_it_takes(control_plane: Kube, space: str, case: str) -> None:
    name = "a" * 40 if case == "a long name" else "main"
    done = offer(control_plane, space, ring(name, **TAKEN[case]))
    assert (done.returncode, done.stderr) == (0, "")


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "more nodes than slots": ({"replicas": 9, "slots": 8}, "replicas must not be above slots"),
    "no storage": ({"storage": {"size": "0"}}, "storage.size must be a quantity"),
    # As a minimum of the schema the API server would round 1.05 down.
    "a whole skew that cannot be": ({"rebalance": {"maxSkew": 1}}, "maxSkew must be at least 1.05"),
    "a wait without a unit": ({"scaleDown": {"timeout": "10"}}, "timeout"),
    "no wait": ({"scaleDown": {"timeout": ""}}, "such as 10m"),
    "a port of nothing": ({"service": {"nodePort": 30740}}, "need service.type NodePort"),
    "ranges of nothing": ({"service": {"loadBalancerSourceRanges": ["::/0"]}}, "need service.type LoadBalancer"),
    "a word for memory": ({"resources": {"requests": {"memory": "much"}}}, "requests.memory"),
    "a misspelt name below": ({"storage": {"szie": "1Gi"}}, "szie"),
    "a misspelt affinity": ({"affinity": {"podAntiAffinity": {"required": []}}}, "required"),
    "a misspelt toleration": ({"tolerations": [{"efect": "NoSchedule"}]}, "efect"),
    "a misspelt constraint": ({"topologySpreadConstraints": [{"maxSkew": 1, "topology": "zone"}]}, "topology"),
}


@pytest.mark.parametrize(("spec", "said"), REFUSED.values(), ids=REFUSED)
def test_it_refuses(control_plane: Kube, space: str, spec: dict[str, Any], said: str) -> None:
    done = offer(control_plane, space, ring(**spec))
    assert done.returncode
    assert said in done.stderr


def test_a_service_cannot_have_a_name_that_begins_with_a_number(control_plane: Kube, space: str) -> None:
    assert "begins with a letter" in offer(control_plane, space, ring("1st")).stderr


@pytest.fixture
def main(control_plane: Kube, space: str) -> Iterator[str]:
    """A Ring with five nodes."""
    control_plane.kubectl("create", "-n", space, "-f", "-", input=ring(replicas=5))
    yield "main"
    control_plane.kubectl("delete", "ring", "main", "-n", space)


def test_a_storage_class_stays_unnamed(control_plane: Kube, space: str, main: str) -> None:
    patch = '{"spec":{"storage":{"className":"fast"}}}'
    done = control_plane.kubectl("patch", "ring", main, "-n", space, "--type=merge", "-p", patch, check=False)
    assert "className cannot be changed" in done.stderr


def test_a_size_that_no_claim_has_reached_may_be_taken_back(control_plane: Kube, space: str, main: str) -> None:
    """Raised on a class that cannot grow it left the ring degraded for ever."""

    def resize(size: str) -> str:
        patch = json.dumps({"spec": {"storage": {"size": size}}})
        return control_plane.kubectl(
            "patch", "ring", main, "-n", space, "--type=merge", "-p", patch, check=False
        ).stderr

    def claims_have(size: str) -> None:
        patch = json.dumps({"status": {"storageSize": size}})
        control_plane.kubectl("patch", "ring", main, "-n", space, "--subresource=status", "--type=merge", "-p", patch)

    assert resize("2Gi") == ""
    # While the operator has not said what claims have, nothing shrinks.
    assert "storage.size must not shrink" in resize("1Gi")
    claims_have("1Gi")
    assert resize("1Gi") == ""
    assert "storage.size must not shrink below what every claim has" in resize("512Mi")
    # The status may be written whatever claims have got.
    claims_have("4Gi")
    assert resize("2Gi") == ""
    assert "spec.storage.size" in resize("1.5Gi")


def test_a_ring_is_scaled_by_its_scale(control_plane: Kube, space: str, main: str) -> None:
    control_plane.kubectl("scale", f"ring/{main}", "--replicas=7", "-n", space)
    assert control_plane.get("ring", main, "-n", space)["spec"]["replicas"] == 7
    path = f"/apis/coterie.chat/v1alpha1/namespaces/{space}/rings/{main}"
    patch = '{"status":{"replicas":6,"selector":"coterie.chat/ring=main"}}'
    control_plane.kubectl("patch", "ring", main, "-n", space, "--subresource=status", "--type=merge", "-p", patch)
    scale = json.loads(control_plane.kubectl("get", "--raw", f"{path}/scale").stdout)
    assert scale["spec"] == {"replicas": 7}
    assert scale["status"] == {"replicas": 6, "selector": "coterie.chat/ring=main"}


def test_people_see_what_matters(control_plane: Kube, space: str, main: str) -> None:
    status = {
        "state": "Repairing",
        "readyReplicas": 4,
        "skew": 1.375,
        "slotsUnderReplicated": 0,
        "conditions": [{"type": "Available", "status": "True", "reason": "EverySlotServed", "message": "so it is"}],
    }
    patch = ("patch", "ring", main, "-n", space, "--subresource=status", "--type=merge", "-p")
    control_plane.kubectl(*patch, json.dumps({"status": status}))
    head, line = control_plane.kubectl("get", "ring", main, "-n", space).stdout.splitlines()
    assert head.split() == ["NAME", "REPLICAS", "READY", "SKEW", "UNDER-REPLICATED", "STATE", "AGE"]
    assert line.split()[:-1] == ["main", "5", "4", "1.375", "0", "Repairing"]
    assert "ring.coterie.chat/main" in control_plane.kubectl("get", "all", "-n", space).stdout


def test_every_field_is_explained() -> None:
    (version,) = yaml.safe_load(CRD.read_text())["spec"]["versions"]
    schema = version["schema"]["openAPIV3Schema"]["properties"]
    # As in a pod, and explained there.
    known = {"spec.affinity", "spec.topologySpreadConstraints", "spec.tolerations", "spec.monitoring.from"}

    def unexplained(path: str, node: dict[str, Any]) -> Iterator[str]:
        if "description" not in node:
            yield path
        if path in known:
            return
        for name, below in node.get("items", node).get("properties", {}).items():
            yield from unexplained(f"{path}.{name}", below)

    assert [path for part in ("spec", "status") for path in unexplained(part, schema[part])] == []
