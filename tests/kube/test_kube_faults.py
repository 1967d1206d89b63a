"""Pods, claims and machines are lost; what was acknowledged is not."""

from __future__ import annotations

import json
import signal
import time

from tests.kube.lab.ring import Ring, is_ready


def test_a_power_cut_loses_nothing(ring: Ring) -> None:
    with ring.talk("power") as talk:
        talk.go_on()
        for pod in ring.pods():
            ring.forget_quickly(pod)
        ring.until("the pods are gone", lambda: not any(is_ready(pod) for pod in ring.pods().values()), 30)
        ring.whole(3)
        talk.go_on()


def test_a_lost_pod_and_claim_are_replaced(ring: Ring) -> None:
    before = ring.node_uids()
    with ring.talk("replaced") as talk:
        ring.kubectl("delete", "pvc", "data-main-1", "--wait=false")
        ring.forget_quickly("main-1")
        ring.until("a new node stands in its place", lambda: ring.node_uids().get("main-1") != before["main-1"], 180)
        status = ring.whole(3)
        talk.go_on()
    assert before["main-1"] not in {member["uid"] for member in status["members"]}
    assert ring.node_uids()["main-0"] == before["main-0"]


def test_the_client_service_keeps_the_others_when_one_is_dead(ring: Ring) -> None:
    with ring.talk("dead") as talk:
        ring.signal("main-2", "coterie-node", signal.SIGSTOP)
        ring.until("two endpoints", lambda: len(endpoints(ring)) == 2, 60)
        talk.go_on()
        ring.until("Degraded says which", lambda: "main-2" in ring.condition("Degraded").get("message", ""), 60)
        ring.forget_quickly("main-2")
        ring.whole(3)


def endpoints(ring: Ring) -> list[str]:
    """Return the addresses behind the client service."""
    found = ring.kube.items("endpointslices", "-n", ring.namespace, "-l", f"kubernetes.io/service-name={ring.name}")
    points = [point for one in found for point in one.get("endpoints") or []]
    return [point["addresses"][0] for point in points if point["conditions"].get("ready")]


def test_a_second_eviction_is_refused(ring: Ring) -> None:
    def evict(pod: str) -> str:
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod, "namespace": ring.namespace},
        }
        path = f"/api/v1/namespaces/{ring.namespace}/pods/{pod}/eviction"
        done = ring.kubectl("create", "--raw", path, "-f", "-", input=json.dumps(body), check=False)
        return done.stderr if done.returncode else ""

    assert not evict("main-2")
    refused = evict("main-1")
    assert "TooManyRequests" in refused or "disruption budget" in refused, refused
    ring.whole(3)


def test_nothing_stays_blocked_after_a_short_absence(ring: Ring) -> None:
    # A restart that is shorter than a minute moves nothing: the same node, at the same position.
    before = {member["name"]: member["position"] for member in ring.status["members"]}
    began = time.monotonic()
    ring.kubectl("delete", "pod", "main-1")
    status = ring.whole(3)
    assert time.monotonic() - began < 60
    assert {member["name"]: member["position"] for member in status["members"]} == before
