"""What a Ring's editor may have, and what only the operator's settings allow."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.operator_.views import fresh, other, seen, spec
from tests.unit.operator_.views import template as demands

from coterie_operator.conditions import previous
from coterie_operator.model import RingSpec
from coterie_operator.permits import Permits, refusal, repository
from coterie_operator.plan import plan
from coterie_operator.spec import read_spec
from coterie_operator.status import events, status

OWN = Permits(images=["registry.example/coterie"], pull_secrets=["ours"])
CONTROL = "node-role.kubernetes.io/control-plane"


def read(**values: Any) -> RingSpec:
    return read_spec({"metadata": {"name": "main"}, "spec": values}, "registry.example/coterie:1")


def terms(key: str, operator: str, *, must: bool = True) -> dict[str, Any]:
    term = {"matchExpressions": [{"key": key, "operator": operator}]}
    if must:
        return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}
    wish = {"weight": 1, "preference": term}
    return {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [wish]}}


FOREIGN: dict[str, tuple[dict[str, Any], Permits]] = {
    "another repository": ({"image": "elsewhere/miner:1"}, replace(OWN, images=["elsewhere/miner"])),
    "one that only begins the same": (
        {"image": "registry.example/coterie-evil"},
        replace(OWN, images=["registry.example/*"]),
    ),
    "one below ours": ({"image": "registry.example/coterie/evil"}, replace(OWN, images=["registry.example/coterie/*"])),
    "ours as another registry's port": ({"image": "registry.example/coterie:80/evil"}, replace(OWN, images=["*"])),
    "by a digest": ({"image": "elsewhere/miner@sha256:00"}, replace(OWN, images=["elsewhere/miner"])),
    "the machines' network": ({"hostNetwork": True}, replace(OWN, host_network=True)),
    "a foreign pull secret": ({"imagePullSecrets": [{"name": "theirs"}]}, replace(OWN, pull_secrets=["theirs"])),
    "the control plane's taint": ({"tolerations": [{"key": CONTROL}]}, replace(OWN, control_plane=True)),
    "its old taint": (
        {"tolerations": [{"key": "node-role.kubernetes.io/master", "operator": "Exists"}]},
        replace(OWN, control_plane=True),
    ),
    "its taint in another distribution": (
        {"tolerations": [{"key": "node-role.kubernetes.io/etcd"}]},
        replace(OWN, control_plane=True),
    ),
    "every taint": ({"tolerations": [{"operator": "Exists"}]}, replace(OWN, control_plane=True)),
    "its machines by selector": ({"nodeSelector": {CONTROL: ""}}, replace(OWN, control_plane=True)),
    "its machines as a must": ({"affinity": terms(CONTROL, "Exists")}, replace(OWN, control_plane=True)),
    "its machines as a wish": ({"affinity": terms(CONTROL, "In", must=False)}, replace(OWN, control_plane=True)),
    "a service's annotation": (
        {"service": {"annotations": {"cloud.example/internal": "no"}}},
        replace(OWN, service_annotations=["cloud.example/*"]),
    ),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_not_the_rings_own_needs_a_permit(name: str) -> None:
    values, permits = FOREIGN[name]
    said = refusal(read(**values), OWN)
    assert said.startswith("not allowed to this Ring")
    assert "allow." in said
    assert "\n" not in said
    assert refusal(read(**values), permits) == ""


def test_a_ring_of_its_own_needs_none() -> None:
    everything = {
        "replicas": 5,
        "image": "registry.example/coterie:2@sha256:00",
        "imagePullSecrets": [{"name": "ours"}],
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
        "nodeSelector": {"disk": "ssd", "node-role.kubernetes.io/worker": ""},
        "affinity": terms(CONTROL, "DoesNotExist"),
        "service": {"type": "LoadBalancer"},
        "resources": {"limits": {"memory": "1Gi"}},
    }
    assert refusal(read(**everything), OWN) == ""
    assert refusal(read(), OWN) == ""


def test_an_operator_that_knows_no_image_allows_none() -> None:
    assert refusal(read(), Permits())


def test_types_of_service_can_be_taken_away() -> None:
    only = replace(OWN, service_types=["ClusterIP"])
    assert "allow.serviceTypes" in refusal(read(service={"type": "NodePort"}), only)
    assert refusal(read(), only) == ""


def test_what_the_release_gives_its_ring_stands_as_it_is_there() -> None:
    given = read(hostNetwork=True, tolerations=[{"key": CONTROL}], service={"annotations": {"a": "b"}})
    assert refusal(read(hostNetwork=True, service={"annotations": {"a": "b"}}), OWN, given) == ""
    assert "a=c" in refusal(read(service={"annotations": {"a": "c"}}), OWN, given)
    assert refusal(read(tolerations=[{"operator": "Exists"}]), OWN, given)


def test_everything_that_is_refused_is_named_at_once_and_briefly() -> None:
    said = refusal(read(image="x/" + "y" * 400, hostNetwork=True, service={"annotations": {"a": "b"}}), OWN)
    assert all(part in said for part in ("spec.image", "spec.hostNetwork", "spec.service.annotations a=b"))
    assert "allow.images, allow.hostNetwork, allow.serviceAnnotations" in said
    assert len(said) < 600


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("coterie", "coterie"),
        ("coterie:1", "coterie"),
        ("host:5000/coterie", "host:5000/coterie"),
        ("host:5000/a/coterie:1@sha256:ab", "host:5000/a/coterie"),
    ],
)
def test_the_repository_of_an_image(image: str, expected: str) -> None:
    assert repository(image) == expected


# --- What becomes of a Ring that is refused ---------------------------------------------------------------------------

REFUSED = "not allowed to this Ring, and nothing of it is applied: spec.hostNetwork true"


def test_a_refused_ring_stays_as_it_is() -> None:
    observed = seen(5, spec(replicas=3, host_network=True), demands("b"), other(refused_spec=REFUSED))
    found = plan(observed)
    assert (found.replicas, found.partition, found.step) == (5, 0, None)
    assert found.changes_nothing


def test_a_refused_ring_says_so_and_how_it_is() -> None:
    observed = seen(3, other(refused_spec=REFUSED))
    after = status(observed, plan(observed))
    degraded = previous(after, "Degraded")
    assert (degraded["status"], degraded["reason"], degraded["message"]) == ("True", "NotAllowed", REFUSED)
    assert previous(after, "Available")["status"] == "True"
    assert previous(after, "Progressing")["status"] == "False"
    assert after["state"] == "Degraded"
    (told,) = [note for note in events(observed.status, plan(observed), after) if note.type == "Warning"]
    assert REFUSED in told.message


def test_a_ring_that_was_never_made_says_so_too() -> None:
    observed = fresh(refused_spec=REFUSED)
    after = status(observed, plan(observed))
    assert previous(after, "Degraded")["reason"] == "NotAllowed"
    assert after["state"] == "Degraded"


def test_the_refusal_stays_to_the_letter() -> None:
    observed = seen(3, other(refused_spec=REFUSED))
    first = status(observed, plan(observed))
    again = replace(observed, status=first)
    assert json.dumps(status(again, plan(again))) == json.dumps(first)
