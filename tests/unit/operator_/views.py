"""Observations of a ring that is whole, and ways to change one thing about them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import cache
from typing import Any

import msgspec
from tests.unit.operator_.toy import Toy
from tests.unit.operator_.toy_parts import SLOTS

from coterie_operator import names
from coterie_operator.model import Answer, ClaimView, Observed, Operation, PodView, RingSpec, StatefulSetView
from coterie_operator.plan import plan

Change = Callable[[Observed], Observed]


@cache
def whole(pods: int = 3) -> Observed:
    """Return what is seen of a ring of so many nodes at rest."""
    toy = Toy(RingSpec(replicas=pods, slots=SLOTS))
    toy.run()
    return toy.observed()


def seen(pods: int, *changes: Change) -> Observed:
    """Return such a ring with changes."""
    found = whole(pods)
    for change in changes:
        found = change(found)
    return found


def spec(**values: Any) -> Change:
    return lambda seen: replace(seen, spec=replace(seen.spec, **values), generation=seen.generation + 1)


def pod(ordinal: int, **values: Any) -> Change:
    def change(seen: Observed) -> Observed:
        pods = tuple(replace(one, **values) if one.ordinal == ordinal else one for one in seen.pods)
        return replace(seen, pods=pods)

    return change


def without_pod(ordinal: int) -> Change:
    name = names.pod("main", ordinal)
    return lambda seen: replace(
        seen,
        pods=tuple(one for one in seen.pods if one.ordinal != ordinal),
        nodes={key: one for key, one in seen.nodes.items() if key != name},
    )


def extra_pod(ordinal: int, **values: Any) -> Change:
    def change(seen: Observed) -> Observed:
        one = replace(seen.pods[0], name=names.pod("main", ordinal), ordinal=ordinal, uid=f"extra-{ordinal}", **values)
        return replace(seen, pods=(*seen.pods, one))

    return change


def silent(ordinal: int, error: str = "does not answer within 2 s") -> Change:
    """The node in a pod does not answer; the pod is not ready."""
    name = names.pod("main", ordinal)
    return lambda seen: pod(ordinal, ready=False)(replace(seen, nodes={**seen.nodes, name: Answer(None, error)}))


def node(ordinal: int, state: str, **values: Any) -> Change:
    """A node says another state of itself, and the ring says so too."""
    name = names.pod("main", ordinal)

    def change(seen: Observed) -> Observed:
        report = seen.nodes[name].report
        assert report is not None
        assert seen.ring is not None
        answer = Answer(msgspec.structs.replace(report, state=state, **values))
        members = [msgspec.structs.replace(one, state=state) if one.name == name else one for one in seen.ring.members]
        ring = msgspec.structs.replace(seen.ring, members=members)
        now = replace(seen, nodes={**seen.nodes, name: answer}, ring=ring)
        return now if state == "ready" else pod(ordinal, ready=False)(now)

    return change


def ring(**values: Any) -> Change:
    def change(seen: Observed) -> Observed:
        assert seen.ring is not None
        return replace(seen, ring=msgspec.structs.replace(seen.ring, **values))

    return change


def no_member(ordinal: int) -> Change:
    """The ring does not know a node."""
    name = names.pod("main", ordinal)

    def change(seen: Observed) -> Observed:
        assert seen.ring is not None
        return ring(members=[one for one in seen.ring.members if one.name != name])(seen)

    return change


def places(*positions: int) -> Change:
    """The nodes stand at these positions."""

    def change(seen: Observed) -> Observed:
        assert seen.ring is not None
        members = [
            msgspec.structs.replace(one, position=position)
            for one, position in zip(seen.ring.members, positions, strict=True)
        ]
        return ring(members=members)(seen)

    return change


def shares(*parts: float) -> Change:
    """The nodes have these parts of the circle; which slots they own is as it was."""

    def change(seen: Observed) -> Observed:
        assert seen.ring is not None
        members = [
            msgspec.structs.replace(one, arc_share=part) for one, part in zip(seen.ring.members, parts, strict=True)
        ]
        return ring(members=members)(seen)

    return change


def claim(ordinal: int, **values: Any) -> Change:
    def change(seen: Observed) -> Observed:
        claims = tuple(replace(one, **values) if one.ordinal == ordinal else one for one in seen.claims)
        return replace(seen, claims=claims)

    return change


def statefulset(**values: Any) -> Change:
    def change(seen: Observed) -> Observed:
        assert seen.statefulset is not None
        return replace(seen, statefulset=replace(seen.statefulset, **values))

    return change


def template(wanted: str) -> Change:
    """The spec demands another pod template than the StatefulSet has."""
    return lambda seen: replace(seen, template_hash=wanted)


def rolled(wanted: str, partition: int) -> Change:
    """The StatefulSet has the wanted template, and this partition; its pods still run the old one."""
    return lambda seen: statefulset(template_hash=wanted, update_revision=wanted, partition=partition)(
        template(wanted)(seen)
    )


def operation(kind: str, target: str, *, ago: float = 10.0, uid: str | None = None) -> Change:
    def change(seen: Observed) -> Observed:
        found = next((one.uid for one in seen.pods if one.name == target), "")
        since = seen.now - timedelta(seconds=ago)
        return replace(seen, operation=Operation(kind, target, found if uid is None else uid, since))

    return change


def other(**values: Any) -> Change:
    return lambda seen: replace(seen, **values)


def condition(kind: str, status: str, *, ago: float = 0.0, **values: Any) -> Change:
    """The status has a condition like this."""

    def change(seen: Observed) -> Observed:
        since = (seen.now - timedelta(seconds=ago)).strftime("%Y-%m-%dT%H:%M:%SZ")
        others = [one for one in seen.status.get("conditions", ()) if one["type"] != kind]
        mine = {"type": kind, "status": status, "lastTransitionTime": since, "reason": "", "message": "", **values}
        return replace(seen, status={**seen.status, "conditions": [*others, mine]})

    return change


def fresh(**values: Any) -> Observed:
    """Return what is seen of a Ring that was just made."""
    nothing: dict[str, Any] = {
        "status": {},
        "ring_uid": "",
        "statefulset": None,
        "pods": (),
        "claims": (),
        "nodes": {},
        "ring": None,
    }
    return replace(whole(3), **{**nothing, **values})


def claims(*ordinals: int) -> tuple[ClaimView, ...]:
    return tuple(
        ClaimView(names.claim("main", one), one, "Bound", False, 100.0, size="1Gi", capacity="1Gi") for one in ordinals
    )


def one_pod(**values: Any) -> tuple[PodView, ...]:
    return (replace(whole(3).pods[0], **values),)


def new_set(replicas: int = 1, partition: int = 0) -> StatefulSetView:
    return StatefulSetView(replicas, partition, "a", "a", "a", True)


def check(observed: Observed, expected: dict[str, Any]) -> None:
    """Compare the fields of a plan that a situation is about; `operation` and `blocked` by what names them."""
    found = plan(observed)
    shown: dict[str, Any] = {
        "replicas": found.replicas,
        "partition": found.partition,
        "founder": found.founder,
        "ring_uid": found.ring_uid,
        "operation": found.operation and (found.operation.type, found.operation.target),
        "step": found.step,
        "blocked": found.blocked and found.blocked.reason,
        "doing": found.doing,
    }
    if expected.get("doing"):
        assert expected["doing"] in shown["doing"]
        expected = {key: value for key, value in expected.items() if key != "doing"}
    assert {key: shown[key] for key in expected} == expected, found


def titled(groups: dict[str, dict[str, tuple[Observed, dict[str, Any]]]]) -> dict[str, tuple[Observed, dict[str, Any]]]:
    """Make one table of several, each case named by its group and by what it is about."""
    return {f"{title}: {name}": case for title, cases in groups.items() for name, case in cases.items()}
