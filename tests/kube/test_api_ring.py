"""What the API server refuses by the Ring's definition, with which words; decided by the real one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.kube.lab.handle import Kube
from tests.kube.lab.ring import CHART


@pytest.fixture(scope="module")
def rings(control_plane: Kube) -> Iterator[str]:
    """Return a namespace on an API server that knows Rings."""
    control_plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", f"{CHART}/crds")
    control_plane.kubectl("wait", "--for=condition=Established", "crd/rings.coterie.chat", "--timeout=30s")
    with control_plane.namespace("refusals") as namespace:
        yield namespace


def ring(name: str, **spec: Any) -> str:
    return json.dumps({"apiVersion": "coterie.chat/v1alpha1", "kind": "Ring", "metadata": {"name": name}, "spec": spec})


def refusal(kube: Kube, *arguments: str, text: str | None = None) -> str:
    """Run kubectl, which is to be refused; return what it said."""
    done = kube.kubectl(*arguments, input=text, check=False)
    assert done.returncode, f"taken: {arguments} {text}"
    return done.stderr


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"replicas": 0}, "at least 1"),
        ({"replicas": 2, "replicationFactor": 3}, "must not be below replicationFactor"),
        ({"replicationFactor": 0}, "replicationFactor"),
        ({"slots": 1000}, "power of two"),
        ({"storage": {"size": "much"}}, "quantity"),
        ({"storage": {"size": "0"}}, "quantity"),
        ({"tls": {"mode": "Managed"}}, "later release"),
        ({"update": {"maxUnavailable": 2}}, "one at a time"),
        ({"discovery": "carrier-pigeon"}, "discovery"),
        ({"rebalance": {"maxSkew": 0.5}}, "maxSkew"),
        ({"scaleDown": {"timeout": "soon"}}, "timeout"),
        ({"replicaz": 3}, "replicaz"),
    ],
)
def test_a_spec_that_cannot_be_is_refused(control_plane: Kube, rings: str, spec: dict[str, Any], said: str) -> None:
    found = refusal(control_plane, "create", "-n", rings, "--validate=strict", "-f", "-", text=ring("refused", **spec))
    assert said in found


@pytest.mark.parametrize(("name", "said"), [("a" * 41, "at most 40"), ("with.dots", "no dots")])
def test_a_name_that_no_pod_could_have_is_refused(control_plane: Kube, rings: str, name: str, said: str) -> None:
    assert said in refusal(control_plane, "create", "-n", rings, "-f", "-", text=ring(name))


@pytest.fixture
def living(control_plane: Kube, rings: str) -> Iterator[str]:
    """Return the name of a Ring of four nodes."""
    spec = {"replicas": 4, "storage": {"size": "2Gi", "className": "fast"}}
    control_plane.kubectl("create", "-n", rings, "-f", "-", input=ring("living", **spec))
    yield "living"
    control_plane.kubectl("delete", "ring", "living", "-n", rings)


def test_scale_is_checked_like_everything_else(control_plane: Kube, rings: str, living: str) -> None:
    for replicas, said in ((0, "at least 1"), (2, "must not be below replicationFactor")):
        found = refusal(control_plane, "scale", "-n", rings, f"ring/{living}", f"--replicas={replicas}")
        assert said in found
    control_plane.kubectl("scale", "-n", rings, f"ring/{living}", "--replicas=7")
    assert control_plane.get("ring", living, "-n", rings)["spec"]["replicas"] == 7


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"storage": {"size": "1Gi"}}, "must not shrink"),
        ({"storage": {"className": "slow"}}, "cannot be changed"),
        ({"storage": {"className": None}}, "cannot be changed"),
        ({"slots": 2048}, "fixed"),
        ({"replicationFactor": 1}, "fixed"),
    ],
)
def test_what_is_fixed_stays(control_plane: Kube, rings: str, living: str, change: dict[str, Any], said: str) -> None:
    patch = json.dumps({"spec": change})
    found = refusal(control_plane, "patch", "-n", rings, "ring", living, "--type=merge", "-p", patch)
    assert said in found


def test_storage_may_grow(control_plane: Kube, rings: str, living: str) -> None:
    patch = json.dumps({"spec": {"storage": {"size": "3Gi"}}})
    control_plane.kubectl("patch", "-n", rings, "ring", living, "--type=merge", "-p", patch)


def test_an_empty_spec_is_a_ring_of_three(control_plane: Kube, rings: str) -> None:
    control_plane.kubectl("create", "-n", rings, "-f", "-", input=ring("plain"))
    spec = control_plane.get("ring", "plain", "-n", rings)["spec"]
    assert (spec["replicas"], spec["replicationFactor"], spec["slots"]) == (3, 3, 1024)
    assert spec["storage"] == {"size": "1Gi", "retain": True}
    assert "plain" in control_plane.kubectl("get", "all", "-n", rings).stdout
