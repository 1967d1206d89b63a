"""Who may change the size of a ring's StatefulSet; whether the operator gets along with what the chart grants it."""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.kube.lab.definition import define
from tests.kube.lab.handle import Kube
from tests.kube.lab.ring import CHART

SPACE = "guarded"
WORDS = "this StatefulSet belongs to a ring"


def statefulset(name: str, labels: dict[str, str], replicas: int) -> dict[str, Any]:
    container = {"name": "node", "image": "coterie:dev"}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "replicas": replicas,
            "serviceName": name,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }


def scale(
    kube: Kube, name: str, replicas: int, namespace: str = SPACE, *options: str
) -> subprocess.CompletedProcess[str]:
    return kube.kubectl("scale", f"sts/{name}", f"--replicas={replicas}", "-n", namespace, *options, check=False)


@pytest.fixture(scope="module")
def plane(control_plane: Kube) -> Iterator[Kube]:
    """The control plane with the chart's release, and StatefulSets as if of rings."""
    define(control_plane)
    with control_plane.namespace(SPACE):
        control_plane.helm(*("install", "coterie", CHART, "-n", SPACE, "--skip-crds", "--set", "ring.enabled=false"))
        for name, labels in (("one", {"coterie.chat/ring": "one"}), ("other", {"app": "other"})):
            control_plane.apply(statefulset(name, labels, 1), namespace=SPACE)
        asked = (control_plane, "one", 2, SPACE, "--dry-run=server")
        control_plane.until(lambda: WORDS in scale(*asked).stderr, 30, "the policy is in force")
        yield control_plane
        control_plane.helm("uninstall", "coterie", "-n", SPACE)


def test_a_ring_is_not_scaled_to_nothing_past_the_operator(plane: Kube) -> None:
    done = scale(plane, "one", 0)
    assert WORDS in done.stderr
    assert "kubectl scale ring/one --replicas=0" in done.stderr
    assert plane.get("sts", "one", "-n", SPACE)["spec"]["replicas"] == 1


def test_a_ring_is_known_by_its_selector(plane: Kube) -> None:
    """Labels of the StatefulSet itself can be taken away by anybody."""
    plane.kubectl("label", "sts", "one", "coterie.chat/ring-", "-n", SPACE)
    assert WORDS in scale(plane, "one", 3).stderr
    patch = ("patch", "sts", "one", "-n", SPACE, "--type=merge", "-p", '{"spec":{"replicas":3}}')
    assert WORDS in plane.kubectl(*patch, check=False).stderr


def test_everything_else_of_a_ring_may_be_changed(plane: Kube) -> None:
    plane.kubectl("set", "env", "sts/one", "A=B", "-n", SPACE)
    plane.kubectl("annotate", "sts", "one", "a=b", "-n", SPACE)


def test_other_stateful_sets_and_other_namespaces_are_left_alone(plane: Kube) -> None:
    assert scale(plane, "other", 0).returncode == 0
    assert scale(plane, "other", 2).returncode == 0
    with plane.namespace("unguarded") as elsewhere:
        plane.apply(statefulset("one", {"coterie.chat/ring": "one"}, 1), namespace=elsewhere)
        assert scale(plane, "one", 2, elsewhere).returncode == 0


def test_it_lets_every_operator_pass_that_may_look_after_the_rings(plane: Kube) -> None:
    """One that outlived its release, or is beside another's, stopped the next operator at one node."""
    who = f"--as=system:serviceaccount:{SPACE}:next-coterie-operator"
    attempt = (plane, "one", 4, SPACE, "--dry-run=server", who)
    plane.kubectl("create", "role", "scales", "-n", SPACE, "--verb=get,update,patch", "--resource=statefulsets/scale")
    plane.kubectl("create", "role", "looks", "-n", SPACE, "--verb=get", "--resource=statefulsets")
    plane.kubectl("create", "role", "operates", "-n", SPACE, "--verb=operate", "--resource=rings.coterie.chat")
    account = f"--serviceaccount={SPACE}:next-coterie-operator"
    for role in ("scales", "looks"):
        plane.kubectl("create", "rolebinding", role, "-n", SPACE, f"--role={role}", account)
    assert WORDS in scale(*attempt).stderr
    plane.kubectl("create", "rolebinding", "operates", "-n", SPACE, "--role=operates", account)
    plane.until(lambda: scale(*attempt).returncode == 0, 10, "its right has come through")
    # Who may do everything is refused all the same, with an account or without.
    robot = f"system:serviceaccount:{SPACE}:robot"
    plane.kubectl("create", "clusterrolebinding", "robot", "--clusterrole=cluster-admin", f"--user={robot}")
    mighty = (plane, "one", 4, SPACE, "--dry-run=server", f"--as={robot}")
    plane.until(lambda: WORDS in scale(*mighty).stderr, 10, "it is refused by the guard")
    plane.kubectl("delete", "clusterrolebinding", "robot")
    assert WORDS in scale(*attempt[:-1]).stderr


@pytest.mark.parametrize(
    ("role", "may", "may_not"),
    [
        ("view", ["get rings", "watch rings"], ["patch rings", "update rings/scale", "patch rings/status"]),
        ("edit", ["create rings", "delete rings", "update rings/scale"], ["patch rings/status", "operate rings"]),
        (f"{SPACE}-coterie-ring-viewer", ["list rings", "get rings/scale"], ["get pods", "create rings"]),
        (f"{SPACE}-coterie-ring-editor", ["patch rings", "patch rings/scale"], ["get secrets", "operate rings"]),
    ],
)
def test_people_have_roles_for_rings(plane: Kube, role: str, may: list[str], may_not: list[str]) -> None:
    person = f"{role}-er"
    plane.kubectl("create", "rolebinding", person, "-n", SPACE, f"--clusterrole={role}", f"--user={person}")

    def can(what: str) -> bool:
        verb, resource, sub = re.split("[ /]", f"{what}/")[:3]
        below = [f"--subresource={sub}"] if sub else []
        who = ("-n", SPACE, f"--as={person}")
        answer = plane.kubectl("auth", "can-i", verb, resource, *below, *who, check=False)
        return answer.stdout.strip() == "yes"

    for what in may:
        plane.until(functools.partial(can, what), 15, f"{role} may {what}")
    assert [what for what in may_not if can(what)] == []


def test_garbage_is_collected_all_the_same(plane: Kube) -> None:
    plane.apply(statefulset("two", {"coterie.chat/ring": "two"}, 1), namespace=SPACE)
    plane.kubectl("delete", "sts", "two", "-n", SPACE, "--cascade=foreground", "--timeout=30s")
    assert plane.get("sts", "two", "-n", SPACE) is None


# --- What the operator may do -----------------------------------------------------------------------------------------

MAY = {
    ("coterie.chat", "rings"): "get list watch",
    ("coterie.chat", "rings/status"): "patch",
    ("coterie.chat", "rings/finalizers"): "update",
    ("apps", "statefulsets"): "get list watch create patch delete",
    ("", "pods"): "get list watch delete",
    ("", "persistentvolumeclaims"): "get list watch patch delete",
    ("", "services"): "get create patch",
    ("", "configmaps"): "get create patch",
    ("", "secrets"): "get create",
    ("", "events"): "list",
    ("events.k8s.io", "events"): "create patch",
    ("policy", "poddisruptionbudgets"): "get create patch delete",
    ("networking.k8s.io", "networkpolicies"): "get create patch delete",
    ("coordination.k8s.io", "leases"): "create",
}
LEASE = {("coordination.k8s.io", "leases"): "get update create"}
"""The one lease by its name."""
NEVER = (
    ("", "pods/exec"),
    ("", "pods/eviction"),
    ("", "serviceaccounts/token"),
    ("", "nodes"),
    ("", "namespaces"),
    ("", "persistentvolumes"),
    ("apps", "deployments"),
    ("apps", "statefulsets/scale"),
    ("coterie.chat", "rings/scale"),
    ("rbac.authorization.k8s.io", "roles"),
    ("rbac.authorization.k8s.io", "rolebindings"),
    ("apiextensions.k8s.io", "customresourcedefinitions"),
    ("admissionregistration.k8s.io", "validatingadmissionpolicies"),
)
VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")


def allowed(kube: Kube, namespace: str, what: tuple[str, str], name: str = "") -> set[str]:
    """Ask the API server which verbs the operator's account may use on something; all in one call."""
    resource, _, subresource = what[1].partition("/")
    attributes = {
        "namespace": namespace,
        "group": what[0],
        "resource": resource,
        "subresource": subresource,
        "name": name,
    }
    reviews = [
        {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": f"system:serviceaccount:{SPACE}:coterie-operator",
                "groups": ["system:serviceaccounts", f"system:serviceaccounts:{SPACE}", "system:authenticated"],
                "resourceAttributes": {**attributes, "verb": verb},
            },
        }
        for verb in VERBS
    ]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": reviews})
    shown = "-o=jsonpath={.status.allowed}{' '}"
    answers = kube.kubectl("create", shown, "-f", "-", input=text).stdout.split()
    return {verb for verb, answer in zip(VERBS, answers, strict=True) if answer == "true"}


@pytest.mark.parametrize("what", [*MAY, *NEVER], ids=lambda what: ".".join(what))
def test_the_operator_may_do_this_and_no_more(plane: Kube, what: tuple[str, str]) -> None:
    assert allowed(plane, SPACE, what) == set(MAY.get(what, "").split())
    assert allowed(plane, "default", what) == set()


def test_the_operator_may_keep_its_own_lease_only(plane: Kube) -> None:
    for what, verbs in LEASE.items():
        assert allowed(plane, SPACE, what, "coterie-operator") == set(verbs.split())
        assert allowed(plane, SPACE, what, "others") == {"create"}


def test_the_operator_gets_along_with_what_it_is_granted(plane: Kube, tmp_path: Path) -> None:
    """It runs here with its own account, founds, changes its mind, and is refused nothing."""
    token = plane.kubectl("create", "token", "coterie-operator", "-n", SPACE).stdout.strip()
    config = json.loads(plane.kubectl("config", "view", "--raw", "--flatten", "-o", "json").stdout)
    config["users"][0]["user"] = {"token": token}
    kubeconfig = tmp_path / "operator.json"
    kubeconfig.write_text(json.dumps(config))
    log = tmp_path / "operator.log"
    command = [
        *(sys.executable, "-m", "coterie_operator.entry", "run", "--kubeconfig", str(kubeconfig)),
        *("--namespace", SPACE, "--metrics-port", "0", "--node-image", "coterie:dev", "--log-format", "json"),
    ]

    def ring(**spec: Any) -> None:
        made = {"apiVersion": "coterie.chat/v1alpha1", "kind": "Ring", "metadata": {"name": "main"}, "spec": spec}
        plane.apply(made, namespace=SPACE)

    def uid() -> str:
        live = plane.get("sts", "main", "-n", SPACE)
        return str(live["metadata"]["uid"]) if live else ""

    def optional() -> int:
        return len(plane.items("pdb,netpol", "-n", SPACE, "-l", "coterie.chat/ring=main"))

    def events() -> list[str]:
        found = plane.items("events.events.k8s.io", "-n", SPACE)
        return [one["reason"] for one in found if one["regarding"].get("kind") == "Ring"]

    with log.open("w") as out, subprocess.Popen(command, stderr=out) as process:
        try:
            ring(replicas=1, replicationFactor=1)
            before = plane.until(uid, 60, "the StatefulSet is there")
            plane.until(lambda: optional() == 2, 30, "so are the budget and the policy")
            plane.until(lambda: plane.get("ring", "main", "-n", SPACE).get("status"), 30, "there is a status")
            plane.until(lambda: plane.get("lease", "coterie-operator", "-n", SPACE), 30, "there is a lease")
            ring(
                replicas=2,
                replicationFactor=1,
                podDisruptionBudget=False,
                networkPolicy=False,
                storage={"size": "2Gi"},
            )
            plane.until(lambda: uid() not in ("", before), 60, "the StatefulSet was made anew, for larger claims")
            plane.until(lambda: optional() == 0, 30, "what is no longer wanted is gone")
        finally:
            process.terminate()
    said = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    assert [line for line in said if line["level"] in ("error", "critical")] == []
    assert "forbidden" not in log.read_text()
    assert "OperatorForbidden" not in events()
