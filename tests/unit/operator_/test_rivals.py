"""Which of two operators looks after a Ring."""

from __future__ import annotations

from typing import Any

from coterie_operator.rivals import Rival, rivals, said


def pod(namespace: str, lease: str, at: int, *, everywhere: bool = False, **more: Any) -> dict[str, Any]:
    env = [
        {"name": "POD", "valueFrom": {}},
        {"name": "COTERIE_OPERATOR_LEASE_NAME", "value": lease},
        {"name": "COTERIE_OPERATOR_ALL_NAMESPACES", "value": str(everywhere).lower()},
    ]
    metadata = {
        "namespace": namespace,
        "labels": {"app.kubernetes.io/instance": lease.removesuffix("-operator")},
        "creationTimestamp": f"2026-11-24T12:00:{at:02}Z",
        **more,
    }
    return {"metadata": metadata, "spec": {"containers": [{"env": env}]}, "status": {"phase": "Running"}}


def test_the_longest_established_goes_on_and_the_other_stands_aside() -> None:
    pods = [pod("chat", "one-operator", 10), pod("chat", "two-operator", 20), pod("chat", "two-operator", 5)]
    (found,) = rivals(pods, "chat", "one-operator", everywhere=False)
    assert found == Rival("chat", "two-operator", "two", "2026-11-24T12:00:05Z")
    assert rivals(pods, "chat", "two-operator", everywhere=False) == []
    assert "release two looks after the Rings of namespace chat" in said(found)


def test_of_two_that_came_at_once_exactly_one_stands_aside() -> None:
    pods = [pod("chat", "one-operator", 10), pod("chat", "two-operator", 10)]
    asides = [len(rivals(pods, "chat", lease, everywhere=False)) for lease in ("one-operator", "two-operator")]
    assert sorted(asides) == [0, 1]


def test_its_own_replicas_are_no_rivals() -> None:
    pods = [pod("chat", "one-operator", 10), pod("chat", "one-operator", 5)]
    assert rivals(pods, "chat", "one-operator", everywhere=False) == []


def test_who_is_going_or_has_ended_is_none_either() -> None:
    gone = pod("chat", "two-operator", 5, deletionTimestamp="2026-11-24T12:01:00Z")
    ended = {**pod("chat", "three-operator", 5), "status": {"phase": "Failed"}}
    assert rivals([gone, ended, pod("chat", "one-operator", 10)], "chat", "one-operator", everywhere=False) == []


def test_from_a_terminal_it_comes_last() -> None:
    assert len(rivals([pod("chat", "one-operator", 10)], "chat", "mine", everywhere=False)) == 1
    assert rivals([pod("chat", "mine", 10)], "chat", "mine", everywhere=False) == []


def test_one_of_all_namespaces_leaves_alone_who_has_an_operator_at_home() -> None:
    pods = [pod("main", "all-operator", 1, everywhere=True), pod("chat", "one-operator", 10)]
    assert [one.namespace for one in rivals(pods, "main", "all-operator", everywhere=True)] == ["chat"]


def test_a_pod_elsewhere_cannot_stop_the_operator_of_a_cluster() -> None:
    pods = [pod("main", "all-operator", 20, everywhere=True), pod("theirs", "fake-operator", 1, everywhere=True)]
    assert rivals(pods, "main", "all-operator", everywhere=True) == []
