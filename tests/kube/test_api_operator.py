"""The operator against a real API server with its controllers, but no machines: what it writes, says and survives."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.kube.lab.definition import define
from tests.kube.lab.handle import Kube
from tests.kube.lab.ring import CHART
from tests.kube.operators import PARTS, PROGRAM, change, condition, operator, reason, ring, settled, versions


def test_a_ring_is_made_of_its_parts(plane: Kube, space: str) -> None:
    plane.apply(ring(space))
    with operator(plane.kubeconfig, space) as one:
        settled(plane, space, one)
        parts = plane.items(PARTS, "-n", space, "-l", "coterie.chat/ring=main")
        found = sorted(f"{part['kind']}/{part['metadata']['name']}" for part in parts)
        assert found == [
            "ConfigMap/main-ring",
            "NetworkPolicy/main",
            "PodDisruptionBudget/main",
            "Secret/main-ring",
            "Service/main",
            "Service/main-peers",
            "StatefulSet/main",
        ]
        live = plane.get("ring", "main", "-n", space)
        for part in parts:
            assert [owner["uid"] for owner in part["metadata"]["ownerReferences"]] == [live["metadata"]["uid"]]
        assert live["status"]["observedGeneration"] == live["metadata"]["generation"]
        assert plane.get("statefulset", "main", "-n", space)["spec"]["replicas"] == 1  # the founder alone, at first
        assert json.loads(one.get("/healthz"))["ok"]
        assert json.loads(one.get("/readyz"))["ok"]
        assert "Traceback" not in one.log.read_text()


def test_another_operator_finds_nothing_to_write(plane: Kube, space: str) -> None:
    plane.apply(ring(space))
    with operator(plane.kubeconfig, space) as one:
        settled(plane, space, one)
        one.process.send_signal(signal.SIGTERM)
        assert one.process.wait(5) == 0
    before = versions(plane, space)
    with operator(plane.kubeconfig, space) as another:
        plane.until(lambda: another.passes >= 2, 40, "two passes of another operator")
        assert versions(plane, space) == before


def test_a_manifest_that_the_api_refuses_becomes_a_condition(plane: Kube, space: str) -> None:
    plane.apply(ring(space, nodeSelector={"no such/key/as this": "x"}))
    with operator(plane.kubeconfig, space) as one:
        plane.until(lambda: reason(plane, space) in ("ApplyFailed", "InvalidSpec"), 30, "Degraded says so")
        assert "nodeSelector" in condition(plane, space, "Degraded")["message"]
        warnings = [event for event in plane.items("events.events.k8s.io", "-n", space) if event["type"] == "Warning"]
        assert any("nodeSelector" in event.get("note", "") for event in warnings)
        change(plane, space, nodeSelector=None)
        settled(plane, space, one)
        assert reason(plane, space) not in ("ApplyFailed", "InvalidSpec")
        assert one.runs


def test_what_bears_the_name_already_is_left_alone(plane: Kube, space: str) -> None:
    theirs = {"ports": [{"port": 80}], "selector": {"app": "theirs"}}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "main", "namespace": space}, "spec": theirs}
    plane.apply(service, ring(space))
    with operator(plane.kubeconfig, space) as one:
        plane.until(lambda: reason(plane, space) == "NameTaken", 30, "Degraded says so")
        assert f"services {space}/main" in condition(plane, space, "Degraded")["message"]
        assert plane.get("service", "main", "-n", space)["spec"]["selector"] == {"app": "theirs"}
        plane.kubectl("delete", "service", "main", "-n", space)
        settled(plane, space, one)
        assert reason(plane, space) != "NameTaken"


@pytest.fixture
def expandable(plane: Kube, space: str) -> Iterator[str]:
    """A storage class whose claims may grow, with one volume, for the first node."""
    storage_class = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "grows"},
        "provisioner": "kubernetes.io/no-provisioner",
        "allowVolumeExpansion": True,
    }
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": "for-main-0"},
        "spec": {
            "capacity": {"storage": "64Mi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "grows",
            "claimRef": {"namespace": space, "name": "data-main-0"},
            "hostPath": {"path": "/nowhere"},
        },
    }
    plane.apply(storage_class, volume)
    yield "grows"
    plane.kubectl("delete", "pv/for-main-0", "storageclass/grows", "--wait=false")
    plane.kubectl("patch", "pv", "for-main-0", "--type=merge", "-p", '{"metadata":{"finalizers":[]}}', check=False)


def test_storage_grows_without_touching_a_pod(plane: Kube, space: str, expandable: str) -> None:
    plane.apply(ring(space, storage={"size": "64Mi", "className": expandable}))
    with operator(plane.kubeconfig, space) as one:
        settled(plane, space, one)
        claim = ("pvc", "data-main-0", "-n", space)
        plane.until(lambda: plane.get(*claim)["status"]["phase"] == "Bound", 30, "the claim is bound")
        pod = plane.get("pod", "main-0", "-n", space)["metadata"]["uid"]
        before = plane.get("statefulset", "main", "-n", space)["metadata"]["uid"]
        change(plane, space, storage={"size": "96Mi"})

        def template() -> bool:
            live = plane.get("statefulset", "main", "-n", space)
            if live is None:
                return False
            asked = live["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"]
            return bool(asked == "96Mi" and live["metadata"]["uid"] != before)

        plane.until(template, 30, "the StatefulSet asks for more")
        plane.until(
            lambda: plane.get(*claim)["spec"]["resources"]["requests"]["storage"] == "96Mi", 30, "so does the claim"
        )

        def adopted() -> bool:
            owner = plane.get("statefulset", "main", "-n", space)["metadata"]["uid"]
            found = plane.get("pod", "main-0", "-n", space)["metadata"]
            assert found["uid"] == pod
            return [one["uid"] for one in found.get("ownerReferences", [])] == [owner]

        plane.until(adopted, 30, "the pod is adopted")
        settled(plane, space, one)


def test_a_part_that_is_no_longer_wanted_is_deleted(plane: Kube, space: str) -> None:
    plane.apply(ring(space))
    with operator(plane.kubeconfig, space) as one:
        settled(plane, space, one)
        change(plane, space, podDisruptionBudget=False, networkPolicy=False)
        plane.until(lambda: not plane.items("poddisruptionbudget,networkpolicy", "-n", space), 20, "both are gone")
        change(plane, space, podDisruptionBudget=True)
        plane.until(lambda: plane.get("poddisruptionbudget", "main", "-n", space), 20, "the budget is back")


def test_a_paused_ring_is_looked_at_only(plane: Kube, space: str) -> None:
    plane.apply(ring(space))
    with operator(plane.kubeconfig, space) as one:
        settled(plane, space, one)
        change(plane, space, paused=True)
        plane.until(lambda: condition(plane, space, "Paused").get("status") == "True", 20, "it says paused")
        before = plane.get("statefulset", "main", "-n", space)["metadata"]["resourceVersion"]
        change(plane, space, image="coterie:other")

        def seen() -> bool:
            live = plane.get("ring", "main", "-n", space)
            return bool(live["status"]["observedGeneration"] == live["metadata"]["generation"])

        plane.until(seen, 20, "the new spec was seen")
        assert plane.get("statefulset", "main", "-n", space)["metadata"]["resourceVersion"] == before
        assert one.runs


def test_a_ring_that_asks_for_too_much_stays_as_it_is(plane: Kube, space: str) -> None:
    plane.apply(ring(space))
    with operator(plane.kubeconfig, space) as one:
        settled(plane, space, one)
        before = plane.get("statefulset", "main", "-n", space)["metadata"]["resourceVersion"]
        change(plane, space, hostNetwork=True, image="elsewhere/miner:1", podDisruptionBudget=False)
        plane.until(lambda: reason(plane, space) == "NotAllowed", 30, "Degraded says so")
        said = condition(plane, space, "Degraded")["message"]
        assert all(part in said for part in ("elsewhere/miner:1", "hostNetwork", "allow.images", "allow.hostNetwork"))
        assert plane.get("statefulset", "main", "-n", space)["metadata"]["resourceVersion"] == before
        assert plane.get("pdb", "main", "-n", space)
        change(plane, space, hostNetwork=False, image=None)
        plane.until(lambda: plane.get("pdb", "main", "-n", space) is None, 30, "what is allowed is applied again")
        assert reason(plane, space) == ""


def test_a_secret_that_was_deleted_is_made_anew_and_told_of(plane: Kube, space: str) -> None:
    plane.apply(ring(space))
    with operator(plane.kubeconfig, space) as one:
        settled(plane, space, one)
        plane.kubectl("patch", "cm", "main-ring", "-n", space, "-p", '{"data":{"ring-uid":"%s"}}' % ("5" * 32))
        old = plane.get("secret", "main-ring", "-n", space)["data"]
        plane.kubectl("delete", "secret", "main-ring", "-n", space)
        new = plane.until(lambda: plane.get("secret", "main-ring", "-n", space), 30, "it is there again")["data"]
        assert new["admin-token"] != old["admin-token"]

        def told() -> bool:
            found = plane.items("events.events.k8s.io", "-n", space)
            return any(one["reason"] == "SecretMadeAnew" for one in found)

        plane.until(told, 20, "an event says so")
        plane.kubectl(
            "patch",
            "secret",
            "main-ring",
            "-n",
            space,
            "--type=json",
            "-p",
            '[{"op":"remove","path":"/data/admin-token"}]',
        )
        plane.until(lambda: reason(plane, space) == "SecretDamaged", 30, "a Secret without a token is named")
        assert "kubectl -n" in condition(plane, space, "Degraded")["message"]


def test_it_works_with_the_definition_of_an_older_chart(plane: Kube, space: str) -> None:
    """Others may put the definition there later (crd.upgrade=false): the status lacks what that does not know."""
    size = "/spec/versions/0/schema/openAPIV3Schema/properties/status/properties/storageSize"
    rule = "/spec/versions/0/schema/openAPIV3Schema/x-kubernetes-validations/2"
    patch = json.dumps([{"op": "remove", "path": rule}, {"op": "remove", "path": size}])
    plane.kubectl("patch", "crd", "rings.coterie.chat", "--type=json", "-p", patch)
    try:
        plane.apply(ring(space))
        with operator(plane.kubeconfig, space) as one:
            plane.until(lambda: condition(plane, space, "Available"), 60, "there is a status")
            plane.until(lambda: one.passes > 3, 30, "and more passes")
            assert reason(plane, space) == ""
            assert "Traceback" not in one.log.read_text()
            assert one.said("the definition of Ring is older than this operator")
    finally:
        define(plane)


def test_a_guard_that_does_not_let_it_pass_is_named_with_the_remedy(plane: Kube, space: str) -> None:
    """It advised to scale the ring instead, which is what had been done."""
    rendered = plane.helm("template", "gone", CHART, "-n", space, "--show-only", "templates/guard.yaml").stdout
    plane.kubectl("apply", "-f", "-", input=rendered)
    name = f"gone-coterie.{space}.coterie.chat"
    try:
        plane.apply(ring(space))
        with operator(plane.kubeconfig, space) as one:
            settled(plane, space, one)
            scale = ("scale", "sts/main", "--replicas=2", "-n", space, "--dry-run=server")
            plane.until(lambda: name in plane.kubectl(*scale, check=False).stderr, 30, "the guard is in force")
            founded = json.dumps({"data": {"ring-uid": "5" * 32}})
            plane.kubectl("patch", "cm", "main-ring", "-n", space, "-p", founded)
            plane.until(lambda: reason(plane, space) == "GuardRefuses", 30, "Degraded says so")
            said = condition(plane, space, "Degraded")["message"]
            assert f"kubectl delete validatingadmissionpolicy,validatingadmissionpolicybinding {name}" in said
    finally:
        plane.kubectl("delete", "-f", "-", input=rendered)


def claim(space: str, name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": space},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }


def test_claims_without_labels_are_what_a_ring_comes_from(plane: Kube, space: str) -> None:
    """The first pod founded a second ring beside the data of the first."""
    plane.apply(*(claim(space, f"data-main-{ordinal}") for ordinal in (1, 2)), claim(space, "data-mainly-7"))
    plane.apply(ring(space))
    with operator(plane.kubeconfig, space):
        found = plane.until(lambda: plane.get("statefulset", "main", "-n", space), 30, "the StatefulSet is there")
        assert found["spec"]["replicas"] == 3

        def labelled() -> set[str]:
            return {one["metadata"]["name"] for one in plane.items("pvc", "-n", space, "-l", "coterie.chat/ring=main")}

        plane.until(lambda: {"data-main-1", "data-main-2"} <= labelled(), 30, "they have their labels again")
        assert "data-mainly-7" not in labelled()


def test_a_quota_that_keeps_pods_from_being_made_is_named(plane: Kube, space: str) -> None:
    plane.kubectl("create", "quota", "small", "-n", space, "--hard=pods=0")
    plane.apply(ring(space))
    with operator(plane.kubeconfig, space):
        plane.until(lambda: reason(plane, space) == "QuotaExceeded", 60, "Degraded says so")
        said = condition(plane, space, "Degraded")["message"]
        assert "exceeded quota: small" in said
        assert condition(plane, space, "Progressing")["status"] == "False"


def test_an_operator_stands_aside_for_one_that_was_there_before(plane: Kube, space: str) -> None:
    env = [{"name": "COTERIE_OPERATOR_LEASE_NAME", "value": "first-operator"}]
    labels = {
        "app.kubernetes.io/name": "coterie",
        "app.kubernetes.io/component": "operator",
        "app.kubernetes.io/instance": "first",
    }
    container = {"name": "operator", "image": "coterie:test", "env": env}
    first = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "first", "labels": labels}}
    plane.until(lambda: plane.get("serviceaccount", "default", "-n", space), 30, "the namespace has its account")
    plane.apply({**first, "spec": {"containers": [container]}}, namespace=space)
    plane.apply(ring(space))
    with operator(plane.kubeconfig, space) as one:
        plane.until(lambda: "of release first looks after the Rings" in one.get("/readyz"), 30, "it says why it waits")
        assert json.loads(one.get("/healthz"))["ok"]
        assert plane.get("statefulset", "main", "-n", space) is None
        plane.kubectl("delete", "pod", "first", "-n", space, "--force")
        plane.until(lambda: plane.get("statefulset", "main", "-n", space), 40, "it works once the other is gone")
        plane.until(lambda: json.loads(one.get("/readyz"))["ok"], 10, "and is ready")


def test_a_deleted_ring_takes_its_parts_along_and_can_come_again(plane: Kube, space: str) -> None:
    plane.apply(ring(space))
    with operator(plane.kubeconfig, space) as one:
        settled(plane, space, one)
        labels = f'{{namespace="{space}",ring="main"}}'
        assert one.metric(f"coterie_operator_ring_nodes_wanted{labels}") == 3
        assert f"coterie_operator_ring_nodes_ready{labels} 0.0" in one.get("/metrics")
        assert abs(one.metric(f"coterie_operator_ring_reconciled_timestamp_seconds{labels}") - time.time()) < 60
        plane.kubectl("delete", "ring", "main", "-n", space)
        plane.until(
            lambda: not plane.items(PARTS, "-n", space, "-l", "coterie.chat/ring=main"), 60, "the parts are gone"
        )
        plane.until(lambda: 'ring="main"' not in one.get("/metrics"), 20, "so are its metrics")
        plane.apply(ring(space))
        settled(plane, space, one)
        assert "Traceback" not in one.log.read_text()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kind: Deployment\n", "something else than CustomResourceDefinitions"),
        ("{", "cannot read"),
    ],
)
def test_apply_crd_takes_nothing_else(plane: Kube, tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "some.yaml"
    file.write_text(text)
    command = [*PROGRAM, "apply-crd", str(file), "--kubeconfig", str(plane.kubeconfig)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
