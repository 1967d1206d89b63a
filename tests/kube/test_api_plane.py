"""The fixture itself: a control plane without nodes keeps what it is told."""

from __future__ import annotations

from tests.kube.lab.handle import Kube


def test_the_control_plane_answers_and_its_controllers_work(control_plane: Kube) -> None:
    with control_plane.namespace("plane", enforce="restricted") as name:
        account = control_plane.until(
            lambda: control_plane.get("serviceaccount", "default", "-n", name), 20, "the default service account"
        )
    assert account["metadata"]["namespace"] == name
