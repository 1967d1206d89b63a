"""What a Ring says of itself: states, conditions and events that a person understands, and that do not flicker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.unit.operator_.toy_parts import SLOTS
from tests.unit.operator_.views import (
    claim,
    condition,
    fresh,
    new_set,
    node,
    one_pod,
    operation,
    other,
    pod,
    ring,
    rolled,
    seen,
    silent,
    spec,
    statefulset,
    whole,
    without_pod,
)

from coterie_operator.model import Observed, Refusal
from coterie_operator.plan import plan
from coterie_operator.status import status

PULL: dict[str, Any] = {"ready": False, "reason": "ImagePullBackOff", "trouble": 'Back-off pulling image "x"'}
CRASH: dict[str, Any] = {"ready": False, "reason": "CrashLoopBackOff", "trouble": "back-off 10s; exit code 1"}


def told(observed: Observed) -> dict[str, Any]:
    return status(observed, plan(observed))


def conditions(found: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["type"]: one for one in found["conditions"]}


def of(found: Mapping[str, Any], kind: str) -> tuple[str, str, str]:
    one = conditions(found)[kind]
    return one["status"], one["reason"], one["message"]


def later(observed: Observed, found: Mapping[str, Any], seconds: float = 2.0) -> Observed:
    """Return the same a little later, with that status."""
    return replace(observed, status=found, now=observed.now + timedelta(seconds=seconds))


# --- The whole --------------------------------------------------------------------------------------------------------


def test_the_status_of_a_ring_at_rest() -> None:
    observed = seen(3)
    found = told(observed)
    assert found == observed.status
    assert {key: value for key, value in found.items() if key not in ("conditions", "members")} == {
        "observedGeneration": 1,
        "state": "Ready",
        "ringUid": "ring",
        "replicas": 3,
        "readyReplicas": 3,
        "selector": "coterie.chat/ring=main,app.kubernetes.io/component=node",
        "skew": found["skew"],
        "storageSize": "1Gi",
        "slotsUnderReplicated": 0,
    }
    assert [(one["name"], one["state"]) for one in found["members"]] == [(f"main-{o}", "ready") for o in range(3)]
    assert sum(one["arcShare"] for one in found["members"]) == pytest.approx(1, abs=0.001)
    assert {kind: one["status"] for kind, one in conditions(found).items()} == {
        "Available": "True",
        "Progressing": "False",
        "Degraded": "False",
        "ScaleDownBlocked": "False",
        "Paused": "False",
        "TLSReady": "False",
    }
    assert conditions(found)["TLSReady"]["reason"] == "TLSOff"


def test_numbers_are_written_when_zero_too() -> None:
    found = told(fresh())
    shown = {key: found[key] for key in ("replicas", "readyReplicas", "skew", "slotsUnderReplicated", "members")}
    assert shown == {"replicas": 0, "readyReplicas": 0, "skew": 0.0, "slotsUnderReplicated": 0, "members": []}
    assert "operation" not in found


def test_traffic_and_time_change_nothing() -> None:
    observed = seen(3)
    report = observed.nodes["main-1"].report
    assert report is not None
    report = type(report)(**{**{f: getattr(report, f) for f in report.__struct_fields__}, "uptime_seconds": 99.0})
    busy = replace(observed, nodes={**observed.nodes, "main-1": replace(observed.nodes["main-1"], report=report)})
    assert told(later(busy, observed.status, 86_400)) == observed.status


STATES: dict[str, tuple[Observed, str]] = {
    "Founding": (fresh(statefulset=new_set(), pods=one_pod(ready=False, ip="")), "Founding"),
    "Forming": (seen(3, ring(slots_forming=64), node(0, "forming")), "Forming"),
    "Ready": (seen(3), "Ready"),
    "ScalingUp": (seen(3, spec(replicas=4)), "ScalingUp"),
    "ScalingDown": (seen(4, spec(replicas=3)), "ScalingDown"),
    "Updating": (seen(3, rolled("b", 3)), "Updating"),
    "a new template": (seen(3, other(template_hash="b")), "Updating"),
    "Repairing": (seen(3, without_pod(1)), "Repairing"),
    "Blocked": (seen(3, spec(replicas=2)), "Blocked"),
    "Degraded": (seen(3, silent(1), pod(1, **PULL)), "Degraded"),
    "Unavailable": (seen(3, silent(1), silent(2), ring(slots_without_quorum=40)), "Unavailable"),
    "Unavailable, says an older node": (
        seen(3, silent(1), silent(2), ring(slots_unowned=40)),
        "Unavailable",
    ),
    "nobody answers": (seen(3, silent(0), silent(1), silent(2), other(ring=None)), "Unavailable"),
    "Paused": (seen(3, spec(paused=True)), "Paused"),
}


@pytest.mark.parametrize("case", STATES.values(), ids=STATES.keys())
def test_states(case: tuple[Observed, str]) -> None:
    observed, expected = case
    assert told(observed)["state"] == expected


def test_an_operation_is_written_as_it_will_be_read() -> None:
    observed = seen(4, spec(replicas=3), operation("ScaleDown", "main-3"), node(3, "leaving"))
    found = told(observed)["operation"]
    assert found == {
        "type": "ScaleDown",
        "target": "main-3",
        "podUid": observed.pods[3].uid,
        "since": (observed.now - timedelta(seconds=10)).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "remaining": found["remaining"],
    }
    assert found["remaining"] > 0


def test_members_are_kept_while_nobody_tells() -> None:
    observed = seen(3, silent(0), silent(1), silent(2), other(ring=None))
    found = told(observed)
    assert [one["name"] for one in found["members"]] == ["main-0", "main-1", "main-2"]
    assert {one["state"] for one in found["members"]} == {"unreachable"}
    assert found["slotsUnderReplicated"] == SLOTS
    assert of(found, "Available")[:2] == ("False", "NodesDown")


def test_an_operator_that_reaches_no_node_does_not_call_the_ring_down() -> None:
    found = told(seen(3, other(nodes={}, ring=None)))
    assert of(found, "Available")[:2] == ("Unknown", "NodesSilent")
    assert "NetworkPolicy" in of(found, "Available")[2]
    assert found["slotsUnderReplicated"] == 0


def test_a_ring_without_a_pod_that_is_ready_is_not_available() -> None:
    """Nodes are ready a moment before Kubernetes knows: until then the service has no endpoint."""
    unready = [pod(one, ready=False) for one in range(3)]
    assert of(told(seen(3, *unready)), "Available")[:2] == ("False", "NoPodReady")
    assert of(told(seen(3, *unready[:2])), "Available")[0] == "True"


# --- Conditions -------------------------------------------------------------------------------------------------------

DEGRADED: dict[str, tuple[Observed, str, list[str]]] = {
    "an image": (
        seen(3, spec(image="coterie:none"), silent(2), pod(2, **PULL)),
        "ImagePullFailed",
        ["main-2", "its image coterie:none", "spec.image"],
    ),
    "a crash": (seen(3, silent(2), pod(2, **CRASH)), "NodeCrashing", ["main-2", "kubectl logs main-2 --previous"]),
    "no machine": (
        seen(3, silent(2), pod(2, ready=False, reason="Unschedulable", trouble="0/3 nodes are available")),
        "Unschedulable",
        ["main-2", "0/3 nodes are available"],
    ),
    "a claim": (
        seen(3, spec(storage_class="gold"), silent(2), claim(2, phase="Pending", age=60.0, trouble="no such class")),
        "ClaimPending",
        ["data-main-2", "no such class", "storage class gold"],
    ),
    "the first claim of all": (
        fresh(
            statefulset=new_set(),
            pods=one_pod(ready=False, ip="", reason="Unschedulable"),
            claims=seen(3, claim(0, phase="Pending", age=60.0)).claims[:1],
        ),
        "ClaimPending",
        ["data-main-0", "default storage class"],
    ),
    "a lost volume": (seen(3, silent(2), silent(1), claim(2, phase="Lost")), "ClaimLost", ["data-main-2"]),
    "a node of another ring": (
        seen(3, node(2, "ready", ring_uid="another")),
        "ForeignNode",
        ["main-2", "another", "data-main-2"],
    ),
    "a claim that is being deleted under a node that works": (
        seen(3, claim(1, deleting=True)),
        "ClaimDeleted",
        ["data-main-1", "goes with its data when main-1 stops", "kubectl delete pod main-1"],
    ),
    "a quota that keeps a pod from being made": (
        seen(3, without_pod(2), statefulset(trouble="create Pod main-2 failed error: exceeded quota: small")),
        "QuotaExceeded",
        ["does not make main-2", "exceeded quota: small", "raise the quota"],
    ),
    "a policy that keeps a pod from being made": (
        seen(3, without_pod(2), statefulset(trouble="create Pod main-2 failed error: violates PodSecurity")),
        "PodRefused",
        ["violates PodSecurity"],
    ),
    "a machine that does not report": (
        seen(3, pod(2, ready=False, machine="m2", machine_silent=True), condition("Progressing", "True", ago=20)),
        "MachineNotReady",
        ["the machine of main-2 (m2) does not report", "kubectl describe node m2"],
    ),
    "a pod that cannot end on a machine that is gone": (
        seen(3, silent(2), pod(2, deleting=True, machine="m2", overdue=60.0)),
        "MachineNotReady",
        ["main-2 should have stopped", "its machine m2", "kubectl delete node m2"],
    ),
    "a silent node after a while": (
        seen(3, silent(1), condition("Progressing", "True", ago=20)),
        "NodeSilent",
        ["main-1", "does not answer within 2 s"],
    ),
    "under-replicated slots after a while": (
        seen(3, ring(slots_under_replicated=7), condition("Progressing", "True", ago=20)),
        "UnderReplicated",
        ["7 of 64 slots", "3 copies"],
    ),
    "a restart that does not end": (
        seen(
            3,
            rolled("b", 2),
            node(2, "syncing", reasons=["comparing its records"]),
            pod(2, revision="b"),
            operation("Update", "main-2", ago=130),
            condition("Progressing", "True", ago=300),
        ),
        "NodeNotReady",
        ["main-2 is syncing: comparing its records"],
    ),
}


@pytest.mark.parametrize("case", DEGRADED.values(), ids=DEGRADED.keys())
def test_degraded_says_what_and_why(case: tuple[Observed, str, list[str]]) -> None:
    observed, reason, words = case
    state, why, message = of(told(observed), "Degraded")
    assert (state, why) == ("True", reason), message
    for word in words:
        assert word in message


NOT_DEGRADED: dict[str, Observed] = {
    "a volume that is still being made": seen(
        3,
        silent(2),
        pod(2, ready=False, ip="", reason="Unschedulable", trouble="unbound claims"),
        claim(2, phase="Pending", age=1.0),
        condition("Progressing", "True", ago=2),
    ),
    "at rest": seen(3),
    "a pod that comes back": seen(3, without_pod(1)),
    "a link that was lost for a moment": seen(3, ring(slots_under_replicated=9)),
    "a node that leaves": seen(4, spec(replicas=3), operation("ScaleDown", "main-3", ago=400), node(3, "leaving")),
    "a pod that an update restarts": seen(
        3, rolled("b", 2), without_pod(2), operation("Update", "main-2"), condition("Progressing", "True", ago=300)
    ),
    "slots on their way to a new node": seen(
        4, operation("ScaleUp", "main-3"), ring(slots_under_replicated=30), condition("Progressing", "True", ago=300)
    ),
    "founding": fresh(statefulset=new_set(), pods=one_pod(ready=False, ip="")),
    "a young claim": fresh(
        statefulset=new_set(),
        pods=one_pod(ready=False, ip=""),
        claims=seen(3, claim(0, phase="Pending", age=5.0)).claims[:1],
    ),
}


def test_a_warning_does_not_say_that_work_stands_still() -> None:
    found = told(seen(3, spec(replicas=4), claim(1, deleting=True)))
    assert of(found, "Degraded")[1] == "ClaimDeleted"
    assert of(found, "Progressing")[:2] == ("True", "ScaleUp")


SIZES: dict[str, tuple[Observed, str]] = {
    "no claim yet": (fresh(), "0"),
    "a claim that was not bound": (fresh(claims=seen(3, claim(0, phase="Pending", capacity="")).claims[:1]), "0"),
    "what every claim has": (seen(3, claim(1, size="2Gi", capacity="2Gi")), "1Gi"),
    "all have grown": (seen(3, *(claim(one, size="2Gi", capacity="2Gi") for one in range(3))), "2Gi"),
    "asked for and not given": (seen(3, *(claim(one, size="2Gi") for one in range(3))), "1Gi"),
    "given more than asked for": (seen(3, *(claim(one, capacity="4Gi") for one in range(3))), "1Gi"),
}


@pytest.mark.parametrize("case", SIZES.values(), ids=SIZES.keys())
def test_the_size_that_a_ring_may_go_back_to(case: tuple[Observed, str]) -> None:
    observed, expected = case
    assert told(observed)["storageSize"] == expected


@pytest.mark.parametrize("observed", NOT_DEGRADED.values(), ids=NOT_DEGRADED.keys())
def test_what_is_under_way_is_not_degraded(observed: Observed) -> None:
    assert of(told(observed), "Degraded")[0] == "False"


def test_the_time_of_a_condition_stays_until_it_changes() -> None:
    observed = seen(3, silent(2), pod(2, **PULL))
    first = told(observed)
    second = told(later(observed, first))
    changed = conditions(first)["Degraded"]["lastTransitionTime"]
    assert conditions(second)["Degraded"]["lastTransitionTime"] == changed
    assert second == first
    third = told(later(seen(3), second, 3600))
    assert conditions(third)["Degraded"]["lastTransitionTime"] > changed


@pytest.mark.parametrize(
    "then",
    [
        pod(2, reason="ErrImagePull", trouble='failed to pull "x": not found'),
        pod(2, reason="ImagePullBackOff", trouble="Back-off pulling image again"),
    ],
)
def test_other_words_for_the_same_trouble_change_nothing(then: Any) -> None:
    observed = seen(3, silent(2), pod(2, **PULL))
    first = told(observed)
    assert conditions(told(then(later(observed, first))))["Degraded"] == conditions(first)["Degraded"]


def test_a_pod_that_crashes_stays_so_while_it_is_up_for_a_moment() -> None:
    observed = seen(3, silent(2), pod(2, **CRASH))
    first = told(observed)
    assert of(first, "Degraded")[1] == "NodeCrashing"
    up = later(seen(3, node(2, "syncing")), first)
    assert conditions(told(up))["Degraded"] == conditions(first)["Degraded"]
    assert of(told(later(seen(3), first)), "Degraded")[0] == "False"


def test_another_image_is_other_trouble() -> None:
    first = told(seen(3, spec(image="coterie:none"), silent(2), pod(2, **PULL)))
    second = told(later(seen(3, spec(image="coterie:nil"), silent(2), pod(2, **PULL)), first))
    assert "coterie:nil" in of(second, "Degraded")[2]


def test_how_many_more_are_wrong_is_said() -> None:
    first = told(seen(3, silent(2), pod(2, **PULL)))
    second = told(later(seen(3, silent(2), pod(2, **PULL), silent(1), pod(1, **CRASH)), first))
    assert of(second, "Degraded")[2].startswith("main-1 ends again and again")
    assert of(second, "Degraded")[2].endswith("(and 1 more)")


def test_blocked_says_why() -> None:
    refused = Refusal(whole(4).pods[3].uid, "Leave", "it is busy")
    observed = seen(4, spec(replicas=3), operation("ScaleDown", "main-3"), other(refused={"main-3": refused}))
    state, reason, message = of(told(observed), "ScaleDownBlocked")
    assert (state, reason) == ("True", "LeaveRefused")
    assert "main-3 refuses to leave: it is busy" in message
    # Another operator, which has not asked yet, says the same.
    again = told(later(replace(observed, refused={}), told(observed)))
    assert of(again, "ScaleDownBlocked") == (state, reason, message)


CUT_OFF = "no slot of this node has a majority of its members: it cannot reach main-1, main-2"


def test_two_of_three_nodes_gone_are_named_and_nothing_is_available() -> None:
    """The survivor acts for every slot, so that none is unowned: with nobody to agree with, it serves none."""
    observed = seen(3, silent(1), silent(2), ring(slots_without_quorum=64))
    state, reason, message = of(told(observed), "Available")
    assert (state, reason) == ("False", "NoMajority")
    assert message.startswith("64 slots have no majority of the nodes that hold them, of 64")
    assert message.endswith("bring back main-1, main-2")
    assert told(observed)["state"] == "Unavailable"


def test_nodes_that_do_not_see_each_other_are_not_available_though_all_answer() -> None:
    alone = [node(n, "ready", reasons=[CUT_OFF], slots_without_quorum=64) for n in range(3)]
    unready = [pod(n, ready=False) for n in range(3)]
    observed = seen(3, *alone, *unready, ring(slots_without_quorum=64))
    state, reason, message = of(told(observed), "Available")
    assert (state, reason) == ("False", "NoMajority")
    assert "do not reach each other: check DNS" in message
    degraded = of(told(later(observed, told(observed), 3600)), "Degraded")
    assert degraded[1] == "NodeNotReady"
    assert CUT_OFF in degraded[2]


def test_what_the_nodes_say_of_themselves_counts_where_none_tells_of_the_ring() -> None:
    observed = replace(seen(3, node(0, "ready", slots_without_quorum=40)), ring=None)
    assert of(told(observed), "Available")[:2] == ("False", "NoMajority")
    assert of(told(replace(seen(3), ring=None)), "Available")[:2] == ("Unknown", "NodesSilent")


@pytest.mark.parametrize(("kind", "expected"), [("Available", "Forming"), ("Progressing", "Forming")])
def test_a_ring_that_forms_says_so(kind: str, expected: str) -> None:
    assert of(told(seen(3, ring(slots_forming=64), node(0, "forming"))), kind)[1] == expected
