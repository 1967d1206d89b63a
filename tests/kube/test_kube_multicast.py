"""On hostNetwork the nodes find each other by multicast, one on each machine, on the machines' own network."""

from __future__ import annotations

from tests.kube.lab.handle import Kube
from tests.kube.lab.ring import CHART, ON_IMAGE, Ring


def test_three_machines_are_one_ring_by_multicast(cluster: Kube) -> None:
    with cluster.namespace("office", enforce="privileged") as namespace:
        cluster.helm(
            *("install", "office", CHART, "-n", namespace, *ON_IMAGE, "--set", "ring.name=office"),
            *("--set", "ring.discovery=multicast", "--set", "ring.hostNetwork=true", "--wait", "--timeout=120s"),
        )
        ring = Ring(cluster, namespace, "office")
        ring.whole(3)
        pods = ring.pods().values()
        assert {pod["spec"]["hostNetwork"] for pod in pods} == {True}
        assert len({pod["spec"]["nodeName"] for pod in pods}) == 3
        assert {pod["status"]["podIP"] for pod in pods} == {pod["status"]["hostIP"] for pod in pods}
        cluster.helm("uninstall", "office", "-n", namespace, "--wait")
