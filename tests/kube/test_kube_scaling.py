"""kubectl scales it: rings grow and shrink under a stream of messages, change their mind, and say when they cannot."""

from __future__ import annotations

import base64
import json
import signal
import time

from tests.kube.lab.ring import OPERATOR, Ring

MAX_SKEW = 1.2


def members(ring: Ring, pod: str) -> set[tuple[str, int]]:
    """Return (uid, position) of the ring's members as one node sees them."""
    shown = ring.kubectl("exec", pod, "--", "coterie", "ring", "--json").stdout
    lines = [json.loads(line) for line in shown.splitlines()]
    return {(one["uid"], one["position"]) for one in lines if "uid" in one}


def agreed(ring: Ring, replicas: int) -> None:
    """Check that all nodes see the same ring, spread evenly enough."""
    status = ring.until(
        f"{replicas} nodes within a skew of {MAX_SKEW}",
        lambda: (status := ring.whole(replicas)) and status["skew"] <= MAX_SKEW and status,
    )
    views = [members(ring, f"{ring.name}-{ordinal}") for ordinal in range(replicas)]
    assert all(view == views[0] for view in views)
    assert {uid for uid, _ in views[0]} == set(ring.node_uids().values())
    assert len(status["members"]) == replicas


def test_a_ring_grows_and_shrinks_under_a_stream_of_messages(ring: Ring) -> None:
    with ring.talk("scaling") as talk:
        for replicas in (5, 3, 4, 5):
            ring.scale(replicas)
            agreed(ring, replicas)
            talk.go_on()
    claims = {one["metadata"]["name"] for one in ring.kube.items("pvc", "-n", ring.namespace)}
    assert claims == {f"data-main-{ordinal}" for ordinal in range(5)}


def leaving(ring: Ring, pod: str) -> None:
    """Wait until a node is leaving."""
    ring.until(
        f"{pod} leaves",
        lambda: any(
            member["name"] == pod and member["state"] in ("leaving", "left") for member in ring.status["members"]
        ),
    )


def test_a_raise_in_the_middle_of_a_leave_cancels_it(ring: Ring) -> None:
    ring.scale(5)
    ring.whole(5)
    before = ring.pod_uid(4), ring.node_uids()["main-4"]
    with ring.talk("cancel") as talk:
        ring.scale(4)
        leaving(ring, "main-4")
        ring.scale(5)
        ring.whole(5)
        talk.go_on()
    assert (ring.pod_uid(4), ring.node_uids()["main-4"]) == before
    assert "LeaveCancelled" in dict(ring.events())


def test_a_lower_number_raised_on_the_way_ends_there(ring: Ring) -> None:
    ring.scale(5)
    ring.whole(5)
    with ring.talk("halfway") as talk:
        ring.scale(3)
        leaving(ring, "main-4")
        ring.scale(4)
        ring.whole(4)
        talk.go_on()
    assert sorted(ring.node_uids()) == [f"main-{ordinal}" for ordinal in range(4)]


def test_a_stateful_set_cannot_be_scaled_past_the_operator(ring: Ring) -> None:
    refused = ring.kubectl("scale", "statefulset/main", "--replicas=1", check=False)
    assert refused.returncode != 0
    assert "kubectl scale ring/main" in refused.stderr
    assert len(ring.pods()) == 3


def test_a_node_that_refuses_to_leave_keeps_its_pod(ring: Ring) -> None:
    ring.scale(4)
    ring.whole(4)
    uid = ring.pod_uid(3)
    # A token that is not the nodes': they refuse whatever the operator asks of them.
    token = ring.get("secret", "main-ring")["data"]["admin-token"]
    wrong = base64.b64encode(b"0" * 64).decode()
    ring.kubectl("patch", "secret", "main-ring", "-p", json.dumps({"data": {"admin-token": wrong}}))
    try:
        ring.scale(3)
        blocked = ring.until(
            "the scale-down is blocked",
            lambda: (found := ring.condition("ScaleDownBlocked")).get("status") == "True" and found,
        )
        assert "main-3" in blocked["message"]
        assert "ScaleDownBlocked" in dict(ring.events())
        assert ring.pod_uid(3) == uid
    finally:
        ring.kubectl("patch", "secret", "main-ring", "-p", json.dumps({"data": {"admin-token": token}}))
    ring.whole(3)
    assert ring.condition("ScaleDownBlocked")["status"] == "False"


def leader(ring: Ring) -> str:
    """Return the name of the operator's pod that holds the lease."""
    lease = ring.kube.items("lease", "-n", ring.namespace)[0]
    pods = ring.kube.items("pods", "-n", ring.namespace, "-l", OPERATOR)
    holder = lease["spec"].get("holderIdentity") or ""
    found = [pod["metadata"]["name"] for pod in pods if pod["metadata"]["name"] in holder]
    return found[0] if found else ""


def test_the_operator_killed_in_the_middle_of_a_leave_carries_on(ring: Ring) -> None:
    ring.scale(5)
    ring.whole(5)
    with ring.talk("killed") as talk:
        ring.scale(4)
        leaving(ring, "main-4")
        for pod in ring.kube.items("pods", "-n", ring.namespace, "-l", OPERATOR):
            ring.signal(pod["metadata"]["name"], "coterie-operator", signal.SIGKILL, check=False)
        ring.whole(4)
        talk.go_on()


def test_the_other_operator_takes_over_from_a_killed_leader(ring: Ring) -> None:
    ring.kubectl("wait", "--for=condition=Ready", "pod", "-l", OPERATOR, "--timeout=60s")
    first = ring.until("an operator leads", lambda: leader(ring))
    begin = time.monotonic()
    ring.kubectl("delete", "pod", first, "--grace-period=0", "--force", "--wait=false")
    ring.scale(4)
    ring.until("another operator works", lambda: len(ring.pods()) == 4, 20)
    assert leader(ring) != first
    assert time.monotonic() - begin < 20
    ring.whole(4)
