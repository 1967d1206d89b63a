"""What people get wrong on a running cluster becomes a sentence in the Ring's conditions and events, and no crash."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.kube.lab.claims import NEVER
from tests.kube.lab.images import IMAGE
from tests.kube.lab.ring import OPERATOR, Ring


@pytest.fixture
def second(installed: Ring) -> Iterator[Ring]:
    """Another Ring beside the installed one, under the same operator; made by the test, taken away afterwards."""
    ring = Ring(installed.kube, installed.namespace, "second")
    yield ring
    ring.kubectl("delete", "ring", ring.name, "--ignore-not-found", "--cascade=foreground")
    ring.kubectl("delete", "pvc", "-l", f"coterie.chat/ring={ring.name}", "--ignore-not-found")


def make(ring: Ring, **spec: Any) -> None:
    ring.kube.apply(
        {
            "apiVersion": "coterie.chat/v1alpha1",
            "kind": "Ring",
            "metadata": {"name": ring.name, "namespace": ring.namespace},
            "spec": {"replicas": 1, "replicationFactor": 1, "image": IMAGE, **spec},
        }
    )


def restarts(ring: Ring) -> int:
    """Return how often the operator's containers were restarted."""
    pods = ring.kube.items("pods", "-n", ring.namespace, "-l", OPERATOR)
    return sum(one["restartCount"] for pod in pods for one in pod["status"].get("containerStatuses", []))


def test_an_image_that_does_not_exist_is_named(second: Ring) -> None:
    before = restarts(second)
    make(second, image="127.0.0.1:1/coterie:never-built")
    second.until("it is named", lambda: "never-built" in second.condition("Degraded").get("message", ""))
    second.patch({"image": IMAGE})
    second.whole(1)
    assert restarts(second) == before


def test_a_claim_that_never_binds_is_named(second: Ring) -> None:
    make(second, storage={"size": "64Mi", "className": NEVER})
    degraded = second.until(
        "the claim is named",
        lambda: "data-second-0" in (found := second.condition("Degraded")).get("message", "") and found,
        150,
    )
    assert "torage" in degraded["message"]
    assert any("data-second-0" in note for _, note in second.events())


def test_an_operator_without_a_permission_says_which(second: Ring, installed: Ring) -> None:
    roles = installed.kube.items("role", "-n", installed.namespace)
    role = next(one for one in roles if any("statefulsets" in rule.get("resources", []) for rule in one["rules"]))
    less = [
        {**rule, "verbs": [verb for verb in rule["verbs"] if verb not in ("create", "patch")]}
        if "poddisruptionbudgets" in rule.get("resources", [])
        else rule
        for rule in role["rules"]
    ]
    before = restarts(installed)
    try:
        installed.kube.apply({**trimmed(role), "rules": less})
        make(second)
        second.until(
            "the missing permission is named",
            lambda: "poddisruptionbudgets" in second.condition("Degraded").get("message", ""),
        )
    finally:
        installed.kube.apply(trimmed(role))
    second.whole(1)
    assert restarts(installed) == before


def trimmed(role: dict[str, Any]) -> dict[str, Any]:
    """Return a role as one would write it."""
    meta = {
        key: role["metadata"][key] for key in ("name", "namespace", "labels", "annotations") if key in role["metadata"]
    }
    return {"apiVersion": role["apiVersion"], "kind": "Role", "metadata": meta, "rules": role["rules"]}


def test_what_the_api_refuses_leaves_the_ring_as_it_was(ring: Ring) -> None:
    version = ring.resource["metadata"]["generation"]
    for arguments, said in (
        (["scale", "ring/main", "--replicas=0"], "replicas"),
        (["scale", "ring/main", "--replicas=2"], "replicationFactor"),
        (["patch", "ring", "main", "--type=merge", "-p", '{"spec":{"storage":{"size":"1Mi"}}}'], "shrink"),
        (["patch", "ring", "main", "--type=merge", "-p", '{"spec":{"slots":2048}}'], "slots"),
    ):
        refused = ring.kubectl(*arguments, check=False)
        assert refused.returncode != 0
        assert said in refused.stderr, refused.stderr
    assert ring.resource["metadata"]["generation"] == version
    ring.whole(3)
