"""Helm installs it: a ring, people who chat through it, and nothing left behind that retention does not say."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from tests.kube.lab.handle import Kube
from tests.kube.lab.ring import CHART, ON_IMAGE, PEOPLE, Ring

PASSWORD = "correct horse battery staple"
STEADY = 60.0
"""Seconds for which a ring that is as it should be is watched for writes."""


def coterie(ring: Ring, *arguments: str, pod: str = PEOPLE) -> str:
    return ring.kubectl("exec", pod, "--", "coterie", *arguments).stdout


def test_two_people_chat_through_the_client_service(ring: Ring) -> None:
    environment = ["env", f"COTERIE_PASSWORD={PASSWORD}"]
    homes = [[*environment, f"COTERIE_HOME=/tmp/{name}", "coterie"] for name in ("install-alice", "install-bob")]
    alice, bob = homes
    ring.kubectl("exec", PEOPLE, "--", *alice, "register", "install-alice")
    ring.kubectl("exec", PEOPLE, "--", *bob, "register", "install-bob")
    ring.kubectl("exec", PEOPLE, "--", *alice, "send", "install-bob", "the ring is up")
    heard = ring.kubectl("exec", PEOPLE, "--", *bob, "receive", "--timeout", "10").stdout
    assert "the ring is up" in heard


def test_a_node_itself_has_the_client(ring: Ring) -> None:
    shown = coterie(ring, "ring", pod="main-0")
    assert all(f"main-{ordinal}" in shown for ordinal in range(3))
    home = ["env", "COTERIE_HOME=/tmp/inside", f"COTERIE_PASSWORD={PASSWORD}", "coterie"]
    ring.kubectl("exec", "main-0", "--", *home, "register", "install-inside")
    assert "install-inside" in ring.kubectl("exec", "main-0", "--", *home, "whoami").stdout


def test_two_people_chat_by_port_forward(ring: Ring, tmp_path: Path) -> None:
    program = str(Path(sys.executable).with_name("coterie"))

    def run(name: str, *arguments: str) -> str:
        home = {"COTERIE_HOME": str(tmp_path / name), "COTERIE_SERVERS": f"ws://{at}", "COTERIE_PASSWORD": PASSWORD}
        done = subprocess.run(
            [program, *arguments], env={**os.environ, **home}, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    # As NOTES.txt says.
    with ring.kube.forwarded(ring.namespace, f"service/{ring.name}", 7400) as at:
        run("carol", "register", "forward-carol")
        run("dave", "register", "forward-dave")
        run("carol", "send", "forward-dave", "through the tunnel")
        assert "through the tunnel" in run("dave", "receive", "--timeout", "10")


def test_helm_test_really_chats(ring: Ring) -> None:
    done = ring.kube.helm("test", "coterie", "-n", ring.namespace, "--logs")
    assert "Succeeded" in done.stdout


def test_a_steady_ring_is_written_by_nobody(ring: Ring) -> None:
    kinds = "ring,statefulset,service,configmap,secret,poddisruptionbudget,networkpolicy,persistentvolumeclaim"

    def versions() -> dict[str, str]:
        found = ring.kube.items(f"{kinds},pod,events.events.k8s.io", "-n", ring.namespace)
        # What kubelets and others tell of pods is theirs, and people come and go.
        ours = [
            one
            for one in found
            if (one["regarding"].get("kind") == "Ring" if one["kind"] == "Event" else one["metadata"]["name"] != PEOPLE)
        ]
        return {f"{one['kind']}/{one['metadata']['name']}": one["metadata"]["resourceVersion"] for one in ours}

    before = versions()
    time.sleep(STEADY)  # that nothing happens can be seen only by waiting
    after = versions()
    assert after == before


def test_uninstall_leaves_what_retention_says(cluster: Kube) -> None:
    with cluster.namespace("retained") as namespace:
        values = ["--set", "ring.name=kept", "--set", "ring.storage.retain=true"]
        cluster.helm("install", "kept", CHART, "-n", namespace, *ON_IMAGE, *values, "--wait", "--timeout=120s")
        ring = Ring(cluster, namespace, "kept")
        ring.whole(3)
        uid = ring.status["ringUid"]
        cluster.helm("uninstall", "kept", "-n", namespace, "--wait")
        kinds = "ring,statefulset,pod,service,configmap,secret,poddisruptionbudget,networkpolicy,deployment,lease"

        def left() -> set[str]:
            found = cluster.items(kinds, "-n", namespace)
            return {one["metadata"]["name"] for one in found} - {"kube-root-ca.crt"}

        cluster.until(lambda: not left(), 60, "everything but the claims is gone")
        claims = cluster.items("pvc", "-n", namespace)
        assert [one["metadata"]["name"] for one in claims] == [f"data-kept-{ordinal}" for ordinal in range(3)]
        # What was kept is the ring itself: installed again, it is the same one.
        cluster.helm("install", "kept", CHART, "-n", namespace, *ON_IMAGE, *values, "--wait", "--timeout=120s")
        ring.whole(3)
        assert ring.status["ringUid"] == uid
        ring.patch({"storage": {"retain": False}})
        retention = {"whenDeleted": "Delete", "whenScaled": "Delete"}
        ring.until(
            "the StatefulSet knows the new retention",
            lambda: ring.get("sts", "kept")["spec"]["persistentVolumeClaimRetentionPolicy"] == retention,
        )
        cluster.helm("uninstall", "kept", "-n", namespace, "--wait")
        cluster.until(lambda: not cluster.items("pvc", "-n", namespace), 60, "the claims are gone too")


def test_uninstall_without_the_operator_strands_nothing(cluster: Kube) -> None:
    with cluster.namespace("stranded") as namespace:
        cluster.helm(
            *("install", "lone", CHART, "-n", namespace, *ON_IMAGE, "--set", "ring.name=lone"),
            *("--set", "ring.replicas=1", "--set", "ring.replicationFactor=1", "--wait", "--timeout=120s"),
        )
        ring = Ring(cluster, namespace, "lone")
        ring.whole(1)
        ring.kubectl("delete", "deployment", "--all", "--cascade=foreground")
        cluster.helm("uninstall", "lone", "-n", namespace, "--wait", "--timeout=60s")
        cluster.until(lambda: not cluster.items("ring,statefulset,pod", "-n", namespace), 60, "ring and pods are gone")


def test_an_upgrade_keeps_the_size_and_upgrades_the_definition(ring: Ring) -> None:
    kube = ring.kube
    ring.scale(4)
    ring.whole(4)
    # A definition from before, as Helm would leave it for ever: this one lacks its columns.
    columns = '[{"op": "remove", "path": "/spec/versions/0/additionalPrinterColumns"}]'
    kube.kubectl("patch", "crd", "rings.coterie.chat", "--type=json", "-p", columns)
    kube.helm("upgrade", "coterie", CHART, "-n", ring.namespace, *ON_IMAGE, "--wait", "--timeout=120s")
    assert ring.resource["spec"]["replicas"] == 4
    definition = kube.get("crd", "rings.coterie.chat", "--show-managed-fields")
    # The definition stays Helm's: another release could not be installed otherwise.
    assert {one["manager"] for one in definition["metadata"]["managedFields"]} <= {
        "helm",
        "kube-apiserver",
        "kubectl-patch",
    }
    names = [column["name"] for column in definition["spec"]["versions"][0]["additionalPrinterColumns"]]
    assert names == ["Replicas", "Ready", "Skew", "Under-replicated", "State", "Age"]
    ring.whole(4)
