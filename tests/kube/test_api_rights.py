"""What an operator that lacks a permission says and still does, and which of several acts."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.kube.lab.handle import Kube
from tests.kube.lab.plane import start_plane
from tests.kube.lab.tools import CONTROL_PLANE, programs
from tests.kube.operators import apply_crd, condition, operator, reason, ring, settled, versions

TAKEOVER = 20.0


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
