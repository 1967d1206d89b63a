"""What the API server and the nodes say, read in the operator's own terms."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from coterie_operator.model import Operation, StatefulSetView
from coterie_operator.observe import widest
from coterie_operator.snapshot import claim_view, newest, operation, pod_view, recorded_uid, refused, statefulset_view
from coterie_protocol.admin import Member, RecordCounts, RingReport, SlotCounts

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)


def pod(name: str = "main-1", **status: Any) -> dict[str, Any]:
    labels = {"controller-revision-hash": "main-abc"}
    return {"metadata": {"name": name, "uid": "p1", "labels": labels}, "status": {"phase": "Running", **status}}


def test_a_pod_that_runs() -> None:
    ready = [{"type": "Ready", "status": "True"}]
    view = pod_view("main", pod(podIP="10.0.0.1", conditions=ready), NOW)
    assert view is not None
    assert (view.ordinal, view.ip, view.ready, view.revision, view.deleting) == (1, "10.0.0.1", True, "main-abc", False)
    assert (view.reason, view.trouble) == ("", "")


def test_a_pod_of_something_else_is_none_of_ours() -> None:
    assert pod_view("main", pod("main-people"), NOW) is None
    assert pod_view("main", pod("mainly-0"), NOW) is None


def test_a_pod_that_is_going() -> None:
    going = pod()
    going["metadata"]["deletionTimestamp"] = "2026-11-24T12:00:00Z"
    view = pod_view("main", going, NOW)
    assert view is not None
    assert view.deleting


@pytest.mark.parametrize(
    ("status", "reason", "trouble"),
    [
        (
            {
                "containerStatuses": [
                    {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no image coterie:nope"}}}
                ]
            },
            "ImagePullBackOff",
            "no image coterie:nope",
        ),
        (
            {
                "containerStatuses": [
                    {
                        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}},
                        "lastState": {"terminated": {"exitCode": 2, "reason": "Error", "message": "no data dir\n"}},
                    }
                ]
            },
            "CrashLoopBackOff",
            "back-off 10s; it ended with exit code 2 (Error): no data dir",
        ),
        (
            {
                "containerStatuses": [
                    {"state": {"terminated": {"exitCode": 1, "reason": "Error", "message": "disk full"}}}
                ]
            },
            "Error",
            "it ended with exit code 1 (Error): disk full",
        ),
        ({"containerStatuses": [{"state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}]}, "", ""),
        ({"containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}]}, "", ""),
        (
            {
                "phase": "Pending",
                "conditions": [
                    {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
                ],
            },
            "Unschedulable",
            "0/3 nodes",
        ),
        ({"phase": "Failed", "reason": "Evicted", "message": "low on memory"}, "Evicted", "low on memory"),
    ],
)
def test_why_a_pod_does_not_run(status: dict[str, Any], reason: str, trouble: str) -> None:
    view = pod_view("main", pod(**status), NOW)
    assert view is not None
    assert (view.reason, view.trouble) == (reason, trouble)


def test_a_pod_whose_machine_does_not_report() -> None:
    """Kubernetes takes its readiness away after a while; what the kubelet wrote of its containers stays."""
    conditions = [{"type": "Ready", "status": "False"}, {"type": "ContainersReady", "status": "True"}]
    lost = pod(conditions=conditions)
    lost["spec"] = {"nodeName": "m2"}
    lost["metadata"]["deletionTimestamp"] = "2026-11-24T11:58:00Z"
    view = pod_view("main", lost, NOW)
    assert view is not None
    assert (view.machine, view.machine_silent, view.overdue) == ("m2", True, 120.0)
    conditions[1]["status"] = "False"
    view = pod_view("main", pod(conditions=conditions), NOW)
    assert view is not None
    assert not view.machine_silent


def failed(message: str, at: str) -> dict[str, Any]:
    return {"type": "Warning", "reason": "FailedCreate", "message": message, "lastTimestamp": at}


def test_why_a_controller_makes_no_pods() -> None:
    said = "create Pod main-1 in StatefulSet main failed error: exceeded quota: small"
    old = failed(said, "2026-11-24T11:30:00Z")
    new = failed(said, "2026-11-24T11:59:00Z")
    made = {"type": "Normal", "reason": "SuccessfulCreate", "message": "x", "lastTimestamp": "2026-11-24T11:59:30Z"}
    assert refused([new], NOW) == said
    assert refused([old], NOW) == ""
    assert refused([new, made], NOW) == ""
    assert refused([{**made, "lastTimestamp": "2026-11-24T11:50:00Z"}, new], NOW) == said
    assert refused([], NOW) == ""


def claim(name: str, phase: str = "Pending") -> dict[str, Any]:
    return {
        "metadata": {"name": name, "creationTimestamp": "2026-11-24T11:59:00Z"},
        "spec": {"resources": {"requests": {"storage": "1Gi"}}},
        "status": {"phase": phase},
    }


def test_a_claim() -> None:
    view = claim_view("main", claim("data-main-2"), NOW, "no volume")
    assert view is not None
    assert (view.ordinal, view.phase, view.age, view.trouble, view.size) == (2, "Pending", 60.0, "no volume", "1Gi")
    assert (view.capacity, view.labelled) == ("", False)
    bound = claim("data-main-2", "Bound")
    bound["metadata"]["labels"] = {"coterie.chat/ring": "main"}
    bound["status"]["capacity"] = {"storage": "2Gi"}
    view = claim_view("main", bound, NOW)
    assert view is not None
    assert (view.capacity, view.labelled) == ("2Gi", True)
    assert claim_view("main", claim("logs-main-2"), NOW) is None
    assert claim_view("main", claim("main-2"), NOW) is None
    assert claim_view("main", claim("data-main-x"), NOW) is None


def test_a_statefulset() -> None:
    live = {
        "metadata": {"generation": 3, "annotations": {"coterie.chat/template-hash": "h"}},
        "spec": {
            "replicas": 3,
            "updateStrategy": {"rollingUpdate": {"partition": 2}},
            "volumeClaimTemplates": [claim("data")],
        },
        "status": {"observedGeneration": 2, "currentRevision": "a", "updateRevision": "b"},
    }
    assert statefulset_view(live) == StatefulSetView(3, 2, "h", "a", "b", observed=False, storage_size="1Gi")


def test_an_operation_is_read_back() -> None:
    written = {"type": "ScaleDown", "target": "main-2", "podUid": "p2", "since": "2026-11-24T12:00:00Z", "remaining": 7}
    assert operation({"operation": written}) == Operation("ScaleDown", "main-2", "p2", NOW, 7)


@pytest.mark.parametrize("found", [None, {}, {"type": "ScaleDown"}, {"type": "A", "target": "b", "since": "then"}, 1])
def test_an_operation_that_nobody_can_read_is_none(found: Any) -> None:
    assert operation({"operation": found}) is None


def test_the_recorded_ring() -> None:
    assert recorded_uid(None) == ""
    assert recorded_uid({"data": None}) == ""
    assert recorded_uid({"data": {"ring-uid": "r1"}}) == "r1"


def test_a_warning_says_more_than_what_came_later() -> None:
    told: list[dict[str, Any]] = [
        {"type": "Normal", "message": "waiting", "lastTimestamp": "2026-11-24T12:00:09Z"},
        {"type": "Warning", "message": "older", "lastTimestamp": "2026-11-24T12:00:01Z"},
        {"type": "Warning", "message": "newer", "eventTime": "2026-11-24T12:00:02.000000Z", "lastTimestamp": None},
    ]
    assert newest(told) == "newer"
    assert newest(told[:1]) == "waiting"
    assert newest([]) == ""


def report(uid: str, *states: str) -> RingReport:
    members = [
        Member(
            uid=f"n{at}",
            name=f"main-{at}",
            position=at,
            position_ratio=0.0,
            arc_share=0.0,
            slots=SlotCounts(0, 0, 0),
            records=RecordCounts(0, 0, 0),
            state=state,
            slots_under_replicated=0,
            peer="",
            client="",
            admin="",
            successors=[],
            predecessor=None,
        )
        for at, state in enumerate(states)
    ]
    return RingReport(uid, 3, 64, members, 0, 0)


def test_the_node_that_sees_most_is_believed() -> None:
    alone = report("r1", "ready")
    most = report("r1", "ready", "ready", "unreachable")
    cut_off = report("r1", "ready", "unreachable", "unreachable")
    stranger = report("r2", "ready", "ready", "ready", "ready")
    assert widest([alone, most, cut_off, stranger], "r1") is most
    assert widest([alone, stranger], "") is stranger
    assert widest([], "r1") is None
