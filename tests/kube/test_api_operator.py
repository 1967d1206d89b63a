"""The operator against a real API server with its controllers, but no machines: what it writes, says and survives."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from bench.ports import free_port
from tests.kube.lab.handle import Kube
from tests.kube.lab.plane import start_plane
from tests.kube.lab.tools import CONTROL_PLANE, programs

ROOT = Path(__file__).parent.parent.parent
CRD = ROOT / "chart" / "crds" / "rings.yaml"
PROGRAM = [sys.executable, "-m", "coterie_operator.main"]
PARTS = "statefulset,service,configmap,secret,poddisruptionbudget,networkpolicy"
TAKEOVER = 20.0


@dataclass
class Operator:
    """A running operator process."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path
    lines: list[dict[str, Any]] = field(default_factory=list)

    def said(self, text: str) -> bool:
        return text in self.log.read_text()

    def get(self, path: str) -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            return str(error.read().decode())
        except OSError:
            return ""

    def metric(self, name: str) -> float:
        for line in self.get("/metrics").splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[1])
        return 0.0

    @property
    def leads(self) -> bool:
        return self.metric("coterie_operator_leader") == 1

    @property
    def passes(self) -> float:
        return self.metric("coterie_operator_reconcile_seconds_count")

    @property
    def runs(self) -> bool:
        return self.process.poll() is None


@contextlib.contextmanager
def operator(kubeconfig: Path, namespace: str) -> Iterator[Operator]:
    port = free_port(1)
    with tempfile.NamedTemporaryFile(prefix="operator-", suffix=".log") as log:
        process = subprocess.Popen(
            [
                *PROGRAM,
                "run",
                "--namespace",
                namespace,
                "--kubeconfig",
                str(kubeconfig),
                "--node-image",
                "coterie:test",
            ],
            env={**os.environ, "COTERIE_OPERATOR_METRICS_PORT": str(port), "COTERIE_OPERATOR_LOG_FORMAT": "json"},
            stdout=log,
            stderr=log,
        )
        try:
            yield Operator(process, port, Path(log.name))
        finally:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def plane(control_plane: Kube) -> Kube:
    """The control plane, knowing what a Ring is."""
    apply_crd(control_plane)
    return control_plane


def apply_crd(kube: Kube) -> str:
    done = subprocess.run(
        [*PROGRAM, "apply-crd", str(CRD), "--kubeconfig", str(kube.kubeconfig)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def space(plane: Kube, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace for the test."""
    name = request.node.name.removeprefix("test_").replace("_", "-")[:50].strip("-")
    with plane.namespace(name):
        yield name


def ring(namespace: str, name: str = "main", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "coterie.chat/v1alpha1",
        "kind": "Ring",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"replicas": 3, "replicationFactor": 3, **spec},
    }


def change(plane: Kube, namespace: str, **spec: Any) -> None:
    plane.kubectl("patch", "ring", "main", "-n", namespace, "--type=merge", "-p", json.dumps({"spec": spec}))


def condition(plane: Kube, namespace: str, kind: str, name: str = "main") -> dict[str, Any]:
    found = plane.get("ring", name, "-n", namespace) or {}
    conditions = found.get("status", {}).get("conditions", [])
    return next((one for one in conditions if one["type"] == kind), {})


def reason(plane: Kube, namespace: str, kind: str = "Degraded") -> str:
    found = condition(plane, namespace, kind)
    return str(found.get("reason", "")) if found.get("status") == "True" else ""


def versions(plane: Kube, namespace: str) -> dict[str, str]:
    found = plane.items(f"ring,{PARTS},pod,pvc", "-n", namespace)
    return {f"{one['kind']}/{one['metadata']['name']}": one["metadata"]["resourceVersion"] for one in found}


def settled(plane: Kube, namespace: str, one: Operator, seconds: float = 40) -> None:
    """Wait until two passes in a row wrote nothing."""
    plane.until(lambda: plane.get("pod", "main-0", "-n", namespace), seconds, "the first pod is there")

    def quiet() -> bool:
        before, passes = versions(plane, namespace), one.passes
        plane.kubectl("label", "pod", "main-0", "-n", namespace, f"touched=t{int(passes)}", "--overwrite")
        plane.until(lambda: one.passes > passes, 20, "another pass")
        changed = {key for key, value in versions(plane, namespace).items() if before.get(key) != value}
        return changed <= {"Pod/main-0"}

    plane.until(quiet, seconds, "nothing is written any more")


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


def limited(plane: Kube, namespace: str, folder: Path, without: dict[str, set[str]]) -> tuple[Path, Callable[[], None]]:
    """Return a kubeconfig of an account that lacks verbs on some resources, and what grants them after all."""
    every = ["get", "list", "watch", "create", "update", "patch", "delete"]
    resources = {
        "coterie.chat": ["rings", "rings/status"],
        "apps": ["statefulsets"],
        "": ["pods", "persistentvolumeclaims", "configmaps", "secrets", "services", "events"],
        "policy": ["poddisruptionbudgets"],
        "networking.k8s.io": ["networkpolicies"],
        "coordination.k8s.io": ["leases"],
        "events.k8s.io": ["events"],
    }
    name = {"name": "operator", "namespace": namespace}

    def role(less: dict[str, set[str]]) -> dict[str, Any]:
        rules = [
            {
                "apiGroups": [group],
                "resources": [one],
                "verbs": [verb for verb in every if verb not in less.get(one, ())],
            }
            for group, names in resources.items()
            for one in names
        ]
        rules = [rule for rule in rules if rule["verbs"]]
        return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": name, "rules": rules}

    plane.apply(role(without))
    plane.kubectl("create", "serviceaccount", "operator", "-n", namespace)
    plane.kubectl(
        "create",
        "rolebinding",
        "operator",
        "-n",
        namespace,
        "--role=operator",
        f"--serviceaccount={namespace}:operator",
    )
    token = plane.kubectl("create", "token", "operator", "-n", namespace).stdout.strip()
    config = json.loads(plane.kubectl("config", "view", "--raw", "--flatten", "-o", "json").stdout)
    config["users"][0]["user"] = {"token": token}
    path = folder / "limited.json"
    path.write_text(json.dumps(config))
    return path, lambda: plane.apply(role({}))


ALL = {"get", "list", "watch", "create", "update", "patch", "delete"}


def test_a_missing_permission_is_named_and_the_rest_goes_on(plane: Kube, space: str, tmp_path: Path) -> None:
    kubeconfig, grant = limited(plane, space, tmp_path, {"poddisruptionbudgets": {"create", "patch"}})
    plane.apply(ring(space))
    with operator(kubeconfig, space) as one:
        plane.until(lambda: reason(plane, space) == "OperatorForbidden", 30, "Degraded says so")
        message = condition(plane, space, "Degraded")["message"]
        assert "patch poddisruptionbudgets" in message
        assert "Role" in message
        plane.until(lambda: plane.get("statefulset", "main", "-n", space), 20, "the StatefulSet all the same")
        grant()
        plane.until(lambda: reason(plane, space) != "OperatorForbidden", 30, "nothing is missing any more")
        assert plane.get("poddisruptionbudget", "main", "-n", space)
        assert one.runs


def test_an_operator_that_may_not_look_says_so(plane: Kube, space: str, tmp_path: Path) -> None:
    kubeconfig, grant = limited(plane, space, tmp_path, {"pods": ALL})
    plane.apply(ring(space))
    with operator(kubeconfig, space) as one:
        plane.until(lambda: reason(plane, space) == "OperatorForbidden", 30, "Degraded says so")
        assert "list pods" in condition(plane, space, "Degraded")["message"]
        assert json.loads(one.get("/healthz"))["ok"], "a restart would mend nothing"
        grant()
        plane.until(lambda: reason(plane, space) != "OperatorForbidden", 70, "nothing is missing any more")
        settled(plane, space, one)


def test_an_operator_that_may_not_say_it_logs_it(plane: Kube, space: str, tmp_path: Path) -> None:
    kubeconfig, _ = limited(plane, space, tmp_path, {"rings/status": ALL, "events": ALL})
    plane.apply(ring(space))
    with operator(kubeconfig, space) as one:
        plane.until(lambda: one.said("patch rings/status"), 30, "the log says so")
        assert one.runs


def test_an_operator_without_a_lease_stands_by_and_says_why(plane: Kube, space: str, tmp_path: Path) -> None:
    kubeconfig, grant = limited(plane, space, tmp_path, {"leases": ALL})
    plane.apply(ring(space))
    with operator(kubeconfig, space) as one:
        plane.until(lambda: "leases" in one.get("/readyz"), 20, "readiness says why")
        assert json.loads(one.get("/healthz"))["ok"]
        assert not one.leads
        grant()
        plane.until(lambda: one.leads, 20, "it leads")


def test_of_two_one_acts_and_the_other_takes_over(plane: Kube, space: str) -> None:
    plane.apply(ring(space))
    with operator(plane.kubeconfig, space) as first, operator(plane.kubeconfig, space) as second:
        both = (first, second)
        plane.until(lambda: any(one.leads for one in both), TAKEOVER, "one leads")
        leader, other = sorted(both, key=lambda one: one.leads, reverse=True)
        settled(plane, space, leader)
        assert not other.leads
        assert other.passes == 0
        assert json.loads(other.get("/readyz"))["ok"]

        leader.process.kill()
        killed = time.monotonic()
        plane.until(lambda: other.leads, TAKEOVER, "the other leads")
        assert time.monotonic() - killed < TAKEOVER
        before = versions(plane, space)
        plane.until(lambda: other.passes >= 1, 20, "it looks after the ring")
        assert versions(plane, space) == before

        with operator(plane.kubeconfig, space) as third:
            plane.until(lambda: third.said("standing by"), 20, "a third stands by")
            other.process.send_signal(signal.SIGTERM)
            told = time.monotonic()
            assert other.process.wait(5) == 0
            plane.until(lambda: third.leads, TAKEOVER, "the third leads")
            assert time.monotonic() - told < 5.0


def test_a_leader_whose_lease_was_taken_stops(plane: Kube, space: str) -> None:
    with operator(plane.kubeconfig, space) as one:
        plane.until(lambda: one.leads, 20, "it leads")
        patch = {"spec": {"holderIdentity": "somebody-else"}}
        plane.kubectl("patch", "lease", "coterie-operator", "-n", space, "--type=merge", "-p", json.dumps(patch))
        assert one.process.wait(10) == 3
        assert one.said("lost the lease")


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


def test_it_waits_for_the_kind_and_stops_when_the_api_falls_silent(tmp_path: Path) -> None:
    """On a control plane of its own: it is not shared with tests that need the kind, or the API."""
    found = programs(CONTROL_PLANE)
    own = start_plane(found, tmp_path / "plane")
    kube = Kube(own.kubeconfig, found)
    try:
        with operator(own.kubeconfig, "default") as one:
            kube.until(lambda: "CustomResourceDefinition" in one.get("/readyz"), 30, "readiness says what is missing")
            assert json.loads(one.get("/healthz"))["ok"]
            assert "rings.coterie.chat is served" in apply_crd(kube)
            kube.apply(ring("default"))
            kube.until(lambda: kube.get("statefulset", "main", "-n", "default"), 60, "it works")
            own.processes.signal("kube-apiserver", signal.SIGSTOP)
            try:
                assert one.process.wait(10) == 3
            finally:
                own.processes.signal("kube-apiserver", signal.SIGCONT)
    finally:
        own.processes.stop()


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
