"""The operator's client against a real API server: what each refusal is called, and that what repeats is counted."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from bench.ports import free_port
from tests.kube.lab.handle import Kube as Handle

from coterie_operator.events import Events
from coterie_operator.kube import (
    CONFIG_MAP,
    EVENT,
    RING,
    SECRET,
    STATEFUL_SET,
    Conflict,
    Denied,
    Forbidden,
    Invalid,
    Kube,
    NotFound,
    NotLeader,
    Unreachable,
    connect,
)


@pytest.fixture
async def kube(control_plane: Handle, space: str) -> AsyncIterator[Kube]:
    client = await connect(str(control_plane.kubeconfig), space)
    yield client
    await client.close()


def config(space: str, **data: str) -> dict[str, Any]:
    metadata = {"name": "some", "namespace": space}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


async def test_apply_writes_what_differs_and_nothing_else(kube: Kube, space: str) -> None:
    first = await kube.apply(config(space, a="1"))
    again = await kube.apply(config(space, a="1"))
    assert again["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    changed = await kube.apply(config(space, b="2"))
    assert changed["data"] == {"b": "2"}


async def test_what_has_changed_meanwhile_is_a_conflict(kube: Kube, space: str) -> None:
    made = await kube.create(CONFIG_MAP, config(space, a="1"))
    with pytest.raises(Conflict):
        await kube.create(CONFIG_MAP, config(space, a="2"))
    old = copy.deepcopy(made)
    await kube.replace(CONFIG_MAP, {**made, "data": {"a": "2"}})
    with pytest.raises(Conflict):
        await kube.replace(CONFIG_MAP, {**old, "data": {"a": "3"}})
    with pytest.raises(Conflict):
        await kube.delete(CONFIG_MAP, space, "some", uid="another")
    assert await kube.delete(CONFIG_MAP, space, "some", uid=made["metadata"]["uid"])
    assert not await kube.delete(CONFIG_MAP, space, "some")


async def test_what_is_not_there_is_not_found(kube: Kube, space: str) -> None:
    assert await kube.find(SECRET, space, "some") is None
    with pytest.raises(NotFound, match=f"cannot get secrets {space}/some"):
        await kube.get(SECRET, space, "some")


async def test_what_the_api_does_not_take_is_invalid(kube: Kube, space: str) -> None:
    manifest = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "some", "namespace": space},
        "spec": {"replicas": "three"},
    }
    with pytest.raises(Invalid, match=f"cannot patch statefulsets {space}/some"):
        await kube.apply(manifest)
    with pytest.raises(Invalid):
        await kube.apply({**manifest, "spec": {"replicas": 3}})
    with pytest.raises(Invalid):
        await kube.apply({**manifest, "spec": {"replica": 3}})


async def test_what_an_admission_check_refuses_is_denied(kube: Kube, space: str, control_plane: Handle) -> None:
    control_plane.kubectl("create", "quota", "none", "-n", space, "--hard=count/configmaps=0")
    control_plane.until(
        lambda: (control_plane.get("quota", "none", "-n", space) or {}).get("status", {}).get("used"),
        30,
        "quota counts",
    )
    with pytest.raises(Denied, match="exceeded quota"):
        await kube.apply(config(space, a="1"))


async def test_a_missing_permission_says_what_to_do(
    kube: Kube, space: str, control_plane: Handle, tmp_path: Path
) -> None:
    control_plane.kubectl("create", "serviceaccount", "nobody", "-n", space)
    token = control_plane.kubectl("create", "token", "nobody", "-n", space).stdout.strip()
    text = control_plane.kubectl("config", "view", "--raw", "--flatten").stdout
    path = tmp_path / "nobody.yaml"
    path.write_text(text)
    command = ("config", "set-credentials", "nobody", f"--token={token}", f"--kubeconfig={path}")
    control_plane.kubectl(*command)
    control_plane.kubectl("config", "set-context", "--current", "--user=nobody", f"--kubeconfig={path}")
    nobody = await connect(str(path), space)
    try:
        with pytest.raises(Forbidden, match=r"cannot list statefulsets in .*operator's Role"):
            await nobody.list(STATEFUL_SET, space)
    finally:
        await nobody.close()


async def test_nobody_there_is_unreachable(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: x\ncontexts: [{name: x, context: {cluster: x, user: x}}]\n"
        "users: [{name: x, user: {token: x}}]\n"
        f"clusters: [{{name: x, cluster: {{server: 'http://127.0.0.1:{free_port(1)}'}}}}]\n"
    )
    nowhere = await connect(str(path))
    try:
        with pytest.raises(Unreachable, match="cannot be reached"):
            await nowhere.list(STATEFUL_SET, None)
    finally:
        await nowhere.close()


async def test_a_kubeconfig_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give --kubeconfig FILE"):
        await connect(str(tmp_path / "none"))
    with pytest.raises(ValueError, match="service account"):
        await connect(None)


async def test_whoever_does_not_lead_changes_nothing(kube: Kube, space: str) -> None:
    def refuse() -> None:
        raise NotLeader

    kube.may_write = refuse
    with pytest.raises(NotLeader):
        await kube.apply(config(space, a="1"))
    assert await kube.find(CONFIG_MAP, space, "some") is None


async def test_events_that_repeat_are_counted(kube: Kube, space: str) -> None:
    # An event needs no more of what it is about than its name.
    ring = {
        "apiVersion": RING.api,
        "kind": "Ring",
        "metadata": {"name": "main", "namespace": space, "uid": "r1", "resourceVersion": "7"},
    }
    events = Events(kube, "operator-1")
    for _ in range(3):
        await events.say(ring, "Warning", "ScaleDownBlocked", "main-3 cannot leave: " + "é" * 2000)
    await events.say(ring, "Normal", "Ready", "the ring is as it should be")
    found = {one["reason"]: one for one in await kube.list(EVENT, space)}
    assert sorted(found) == ["Ready", "ScaleDownBlocked"]
    assert found["ScaleDownBlocked"]["series"]["count"] == 3
    assert found["ScaleDownBlocked"]["note"].endswith("…")
    assert "series" not in found["Ready"]
    assert found["Ready"]["regarding"]["uid"] == "r1"

    await kube.delete(EVENT, space, found["ScaleDownBlocked"]["metadata"]["name"])
    await events.say(ring, "Warning", "ScaleDownBlocked", "main-3 cannot leave: " + "é" * 2000)
    assert {one["reason"] for one in await kube.list(EVENT, space)} == {"Ready", "ScaleDownBlocked"}
