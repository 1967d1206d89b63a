"""What the operator applies, before a real API server: every field is known, none refused, and none seen as changed."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.kube.lab.handle import Kube

from coterie_operator.manifests import build, secret, template_hash
from coterie_operator.model import Observed, Plan
from coterie_operator.spec import read_spec

APPLY = ("apply", "--server-side", "--field-manager=coterie-operator", "--force-conflicts", "--validate=strict")
FORMING = Plan(replicas=1, partition=0, founder="main-0", ring_uid="")
FORMED = Plan(replicas=3, partition=0, founder="", ring_uid="ab" * 16)

SPECS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "small": {"replicas": 1, "replicationFactor": 1, "slots": 64, "storage": {"size": "0.5Gi", "retain": False}},
    "plain": {"podDisruptionBudget": False, "networkPolicy": False},
    "multicast": {"discovery": "multicast"},
    "unscraped": {"monitoring": {"annotations": False, "from": []}},
    "scraped from": {"monitoring": {"from": [{"podSelector": {"matchLabels": {"app": "prometheus"}}}]}},
    "node port": {"service": {"type": "NodePort", "annotations": {"example.com/note": "x"}}},
    "load balancer": {
        "service": {
            "type": "LoadBalancer",
            "externalTrafficPolicy": "Local",
            "loadBalancerClass": "example.com/lb",
            "loadBalancerSourceRanges": ["192.0.2.0/24"],
            "hosts": ["chat.example"],
        }
    },
    "everything of a pod": {
        "image": "elsewhere/coterie:2",
        "imagePullPolicy": "Always",
        "imagePullSecrets": [{"name": "mine"}],
        "storage": {"size": "1024Mi", "className": "fast"},
        "resources": {"requests": {"cpu": 1, "memory": "1024Mi"}, "limits": {"cpu": "1.5", "memory": "2048Mi"}},
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [{"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}]
                }
            }
        },
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway"}
        ],
        "tolerations": [{"key": "chat", "operator": "Exists", "effect": "NoSchedule"}],
        "nodeSelector": {"disk": "ssd"},
    },
}
HOSTS = {"replicas": 3, "hostNetwork": True, "discovery": "multicast"}
_numbers = itertools.count(1)


@pytest.fixture
def restricted(plane: Kube) -> Iterator[str]:
    with plane.namespace(f"manifests-{next(_numbers)}", enforce="restricted", warn="restricted") as name:
        yield name


@pytest.fixture
def privileged(plane: Kube) -> Iterator[str]:
    with plane.namespace(f"manifests-{next(_numbers)}", enforce="privileged") as name:
        yield name


def parts(plane: Kube, namespace: str, spec: dict[str, Any], plan: Plan = FORMED) -> list[dict[str, Any]]:
    """Make or change the Ring; return the manifests, with the real owner in them."""
    ring = {
        "apiVersion": "coterie.chat/v1alpha1",
        "kind": "Ring",
        "metadata": {"name": "main", "namespace": namespace},
        "spec": spec,
    }
    plane.kubectl("apply", "-f", "-", input=json.dumps(ring))
    live = plane.get("ring", "main", "-n", namespace)
    read = read_spec(live, "coterie:1")
    observed = Observed(
        now=datetime.now(UTC),
        name="main",
        namespace=namespace,
        uid=live["metadata"]["uid"],
        generation=1,
        deleting=False,
        spec=read,
        status={},
        template_hash=template_hash("main", read),
        ring_uid=plan.ring_uid,
        statefulset=None,
    )
    return build(observed, plan)


def apply(plane: Kube, manifests: list[dict[str, Any]], *options: str) -> None:
    """Apply as the operator does; a warning of the API server is a failure."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
    done = plane.kubectl(*APPLY, *options, "-f", "-", input=text)
    assert done.stderr == ""


def versions(plane: Kube, namespace: str, manifests: list[dict[str, Any]]) -> dict[str, str]:
    names = [f"{one['kind']}/{one['metadata']['name']}" for one in manifests]
    found = plane.items(*names, "-n", namespace)
    return {f"{one['kind']}/{one['metadata']['name']}": one["metadata"]["resourceVersion"] for one in found}


def settled(plane: Kube, namespace: str, manifests: list[dict[str, Any]]) -> dict[str, str]:
    """Wait until the controllers have nothing more to say; return the versions then."""
    seen: list[dict[str, str]] = [{}, {}]

    def still() -> bool:
        seen.append(versions(plane, namespace, manifests))
        live = plane.get("statefulset", "main", "-n", namespace)
        counted = live["status"].get("observedGeneration"), live["status"].get("replicas")
        return counted == (live["metadata"]["generation"], live["spec"]["replicas"]) and seen[-1] == seen[-2]

    plane.until(still, 30, "the controllers are done")
    return seen[-1]


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_the_api_knows_and_takes_everything(plane: Kube, restricted: str, spec: dict[str, Any]) -> None:
    found = parts(plane, restricted, spec)
    apply(plane, found, "--dry-run=server")
    ring = plane.get("ring", "main", "-n", restricted)
    done = plane.kubectl(
        "create",
        "--dry-run=server",
        "--validate=strict",
        "-f",
        "-",
        input=json.dumps(secret(ring, "a" * 64, "b" * 64)),
    )
    assert done.stderr == ""


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_applied_again_nothing_differs(plane: Kube, restricted: str, spec: dict[str, Any]) -> None:
    found = parts(plane, restricted, spec)
    apply(plane, found)
    before = settled(plane, restricted, found)
    assert len(before) == len(found)
    apply(plane, found)
    assert versions(plane, restricted, found) == before


def test_the_pod_keeps_to_the_restricted_standard(plane: Kube, restricted: str) -> None:
    apply(plane, parts(plane, restricted, {}))
    pod = plane.until(lambda: plane.get("pod", "main-0", "-n", restricted), 30, "the first pod is let in")
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert [one["name"] for one in pod["spec"]["volumes"]] == ["data", "tmp", "ring"]
    claim = plane.get("pvc", "data-main-0", "-n", restricted)
    assert claim["metadata"]["labels"]["coterie.chat/ring"] == "main"


def test_host_network_is_let_in_where_that_is_allowed(plane: Kube, privileged: str) -> None:
    found = parts(plane, privileged, HOSTS)
    apply(plane, found)
    before = settled(plane, privileged, found)
    apply(plane, found)
    assert versions(plane, privileged, found) == before
    pod = plane.until(lambda: plane.get("pod", "main-2", "-n", privileged), 30, "the last pod is let in")
    assert pod["spec"]["hostNetwork"] is True


def test_a_ring_that_has_formed_is_not_rolled(plane: Kube, restricted: str) -> None:
    apply(plane, parts(plane, restricted, {}, FORMING))
    before = plane.until(
        lambda: plane.get("statefulset", "main", "-n", restricted)["status"].get("updateRevision"), 30, "a revision"
    )
    found = parts(plane, restricted, {}, FORMED)
    apply(plane, found)
    settled(plane, restricted, found)
    assert plane.get("statefulset", "main", "-n", restricted)["status"]["updateRevision"] == before
    assert plane.get("configmap", "main-ring", "-n", restricted)["data"] == {"founder": "", "ring-uid": "ab" * 16}


def test_a_service_changes_its_type_and_back(plane: Kube, restricted: str) -> None:
    apply(plane, parts(plane, restricted, {}))
    apply(plane, parts(plane, restricted, {"service": {"type": "NodePort", "nodePort": 30471}}))
    live = plane.get("service", "main", "-n", restricted)["spec"]
    assert (live["type"], live["ports"][0]["nodePort"]) == ("NodePort", 30471)
    balanced = {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "loadBalancerSourceRanges": ["192.0.2.0/24"]}
    apply(plane, parts(plane, restricted, {"service": balanced}))
    apply(plane, parts(plane, restricted, {}))
    live = plane.get("service", "main", "-n", restricted)["spec"]
    assert live["type"] == "ClusterIP"
    assert "nodePort" not in live["ports"][0]
    assert "externalTrafficPolicy" not in live


def test_the_same_size_written_otherwise_is_no_change(plane: Kube, restricted: str) -> None:
    apply(plane, parts(plane, restricted, {"storage": {"size": "1Gi"}}))
    apply(plane, parts(plane, restricted, {"storage": {"size": "1024Mi"}}))


def test_optional_fields_go_when_the_spec_drops_them(plane: Kube, restricted: str) -> None:
    apply(plane, parts(plane, restricted, {k: v for k, v in SPECS["everything of a pod"].items() if k != "storage"}))
    apply(plane, parts(plane, restricted, {}))
    pod = plane.get("statefulset", "main", "-n", restricted)["spec"]["template"]["spec"]
    assert not {"tolerations", "nodeSelector", "imagePullSecrets", "topologySpreadConstraints"} & pod.keys()
    assert set(pod["affinity"]) == {"podAntiAffinity"}
    assert pod["containers"][0]["resources"] == {"requests": {"cpu": "50m", "memory": "128Mi"}}
