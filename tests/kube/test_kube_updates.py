"""Rings are updated one pod at a time while people talk, and a bad image harms one pod only."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.kube.lab.images import IMAGE, NEXT_IMAGE
from tests.kube.lab.ring import Ring, is_ready

GAP = 15.0
"""Seconds that a sender may wait at most while the node it talks to is restarted: a reconnect, not an outage."""


@pytest.fixture(autouse=True)
def image_as_before(ring: Ring) -> Iterator[None]:
    """Give the ring its image back."""
    yield
    ring.patch({"image": IMAGE})
    ring.until("the ring runs its image again", lambda: images(ring) == {IMAGE}, 180)
    ring.whole(ring.resource["spec"]["replicas"])


def images(ring: Ring) -> set[str]:
    """Return which images the ring's pods run."""
    return {pod["spec"]["containers"][0]["image"] for pod in ring.pods().values()}


def unready(pods: dict[str, dict[str, Any]]) -> list[str]:
    """Return the names of the pods that are not ready."""
    return [name for name, pod in pods.items() if not is_ready(pod)]


class Watch:
    """Notes how many pods were away at once, as long as the block lasts."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.most = 0

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.3):
            pods = self._ring.pods()
            self.most = max(self.most, 3 - len(pods) + len(unready(pods)))


def test_an_image_rolls_one_pod_at_a_time(ring: Ring) -> None:
    nodes = ring.node_uids()
    with ring.talk("roll") as talk, Watch(ring) as watch:
        talk.go_on()
        ring.patch({"image": NEXT_IMAGE})
        ring.until("all pods run the next image", lambda: images(ring) == {NEXT_IMAGE}, 240)
        ring.whole(3)
        talk.go_on()
    assert watch.most == 1
    assert talk.gap < GAP
    assert ring.node_uids() == nodes


def test_resources_roll_too(ring: Ring) -> None:
    before = {name: pod["metadata"]["uid"] for name, pod in ring.pods().items()}
    was = ring.resource["spec"].get("resources")
    with Watch(ring) as watch:
        ring.patch({"resources": {"requests": {"cpu": "51m"}}})
        ring.until(
            "all pods are new", lambda: all(before.get(n) != p["metadata"]["uid"] for n, p in ring.pods().items()), 240
        )
        ring.whole(3)
    assert watch.most == 1
    ring.patch({"resources": was or {"requests": {"cpu": None}}})
    ring.whole(3)


def test_a_bad_image_stops_at_the_first_pod(ring: Ring) -> None:
    with ring.talk("bad") as talk:
        ring.patch({"image": "127.0.0.1:1/coterie:there-is-none"})
        degraded = ring.until(
            "the ring says which image",
            lambda: "there-is-none" in (found := ring.condition("Degraded")).get("message", "") and found,
        )
        assert "main-2" in degraded["message"]
        began = time.monotonic()
        while time.monotonic() - began < 15:  # that the others stay can be seen only by waiting
            pods = ring.pods()
            assert unready(pods) in ([], ["main-2"])
            assert {pods[name]["spec"]["containers"][0]["image"] for name in ("main-0", "main-1")} == {IMAGE}
            time.sleep(0.5)
        talk.go_on()
        ring.patch({"image": IMAGE})
        ring.whole(3)
        talk.go_on()
    assert ring.condition("Degraded")["status"] == "False"


def test_a_paused_ring_is_left_alone(ring: Ring) -> None:
    ring.patch({"paused": True})
    try:
        ring.until("it says that it is paused", lambda: ring.condition("Paused").get("status") == "True")
        ring.scale(4)
        ring.until(
            "the change is seen",
            lambda: ring.status["observedGeneration"] == ring.resource["metadata"]["generation"],
        )
        assert len(ring.pods()) == 3
    finally:
        ring.patch({"paused": False})
    ring.whole(4)
