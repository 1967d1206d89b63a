"""What is decided in each situation: a table of situations, and of what must follow."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.operator_.views import (
    check,
    claims,
    condition,
    extra_pod,
    fresh,
    new_set,
    no_member,
    node,
    one_pod,
    operation,
    other,
    pod,
    ring,
    rolled,
    seen,
    silent,
    spec,
    statefulset,
    template,
    titled,
    whole,
    without_pod,
)

from coterie_operator.model import CancelLeave, Leave, Observed, Refusal, RingSpec
from coterie_operator.plan import plan
from coterie_operator.reconcile import unknown_token
from coterie_protocol.admin import SlotCounts

PULL: dict[str, Any] = {"ready": False, "reason": "ImagePullBackOff", "trouble": "there is no such image"}
STRANGER = {
    "main-3": Refusal(whole(4).pods[3].uid, "Leave", unknown_token("main", "main-3"), token=True),
}
REFUSED = {"main-3": Refusal(whole(4).pods[3].uid, "Leave", "not now")}
LEAVING = spec(replicas=3), operation("ScaleDown", "main-3")


FOUNDING: dict[str, tuple[Observed, dict[str, Any]]] = {
    "a new ring begins with one pod, which founds it": (
        fresh(),
        {"replicas": 1, "partition": 0, "founder": "main-0", "ring_uid": ""},
    ),
    "claims of an earlier ring come back all at once": (
        fresh(claims=claims(0, 1, 2, 3, 4)),
        {"replicas": 5, "founder": "main-0"},
    ),
    "whoever has no claim of the earlier ring founds none beside it": (
        fresh(claims=claims(1, 2)),
        {"replicas": 3, "founder": ""},
    ),
    "nor does one whose claim was made for it just now": (
        fresh(
            claims=(replace(claims(0)[0], age=3.0), *claims(1, 2)), statefulset=new_set(3), pods=one_pod(ready=False)
        ),
        {"replicas": 3, "founder": ""},
    ),
    "claims that were made together are a new ring's": (
        fresh(claims=(replace(claims(0)[0], age=97.0), *claims(1, 2))),
        {"replicas": 3, "founder": "main-0"},
    ),
    "one pod stays one until it has founded": (
        fresh(statefulset=new_set(), pods=one_pod(ready=False, ip=""), claims=claims(0)),
        {"replicas": 1, "founder": "main-0", "doing": "main-0 founds the ring; main-0 is starting"},
    ),
    "a founder whose image is mended is healed": (
        fresh(statefulset=new_set(partition=1), pods=one_pod(revision="bad", **PULL), claims=claims(0)),
        {"replicas": 1, "partition": 0},
    ),
    "as soon as it is founded, all the others may come": (
        seen(
            3,
            other(ring_uid="", status={}),
            without_pod(1),
            without_pod(2),
            no_member(1),
            no_member(2),
            ring(slots_forming=64),
            node(0, "forming"),
            statefulset(replicas=1),
            spec(replicas=5),
        ),
        {"replicas": 5, "founder": "", "ring_uid": "ring"},
    ),
    "a StatefulSet that was deleted comes back with all of its pods, and restarts none": (
        seen(5, other(statefulset=None), spec(replicas=3), template("new")),
        {"replicas": 5, "partition": 5, "step": None},
    ),
    "and with all of its members, when the pods went too": (
        seen(5, other(statefulset=None, pods=(), nodes={}, ring=None), spec(replicas=3)),
        {"replicas": 5, "partition": 0},
    ),
}

AT_REST: dict[str, tuple[Observed, dict[str, Any]]] = {
    "nothing to do": (
        seen(3),
        {"replicas": 3, "partition": 0, "operation": None, "step": None, "blocked": None, "doing": ""},
    ),
    "paused: nothing changes": (
        seen(3, spec(paused=True, replicas=5), template("new")),
        {"replicas": 3, "partition": 0, "step": None, "operation": None},
    ),
    "paused in the middle of a leave: it is left as it is": (
        seen(4, spec(paused=True, replicas=3), operation("ScaleDown", "main-3"), node(3, "leaving")),
        {"replicas": 4, "step": None, "operation": ("ScaleDown", "main-3")},
    ),
    "paused without a StatefulSet: none is made": (fresh(spec=RingSpec(paused=True)), {"replicas": 0}),
    "deleting: nothing changes": (seen(3, other(deleting=True), spec(replicas=5)), {"replicas": 3, "step": None}),
    "a dead pod is waited for, and named": (
        seen(3, silent(1), ring(slots_under_replicated=20), spec(replicas=4)),
        {"replicas": 3, "step": None, "doing": "the node in main-1 does not answer (does not answer within 2 s)"},
    ),
    "nobody answers": (
        seen(3, silent(0), silent(1), silent(2), other(ring=None)),
        {"replicas": 3, "step": None, "doing": "main-2"},
    ),
}

GROWING: dict[str, tuple[Observed, dict[str, Any]]] = {
    "one more": (
        seen(3, spec(replicas=5)),
        {"replicas": 4, "operation": ("ScaleUp", "main-3"), "partition": 0},
    ),
    "not while a pod is not ready": (seen(3, spec(replicas=5), node(2, "syncing")), {"replicas": 3}),
    "not while slots are under-replicated": (
        seen(3, spec(replicas=5), ring(slots_under_replicated=1)),
        {"replicas": 3},
    ),
    "not while slots are unowned": (seen(3, spec(replicas=5), ring(slots_unowned=1)), {"replicas": 3}),
    "not while a pod is still going": (seen(3, spec(replicas=5), extra_pod(3, deleting=True)), {"replicas": 3}),
    "the next only when the last has joined": (
        seen(4, spec(replicas=5), operation("ScaleUp", "main-3", uid=""), node(3, "joining"), no_member(3)),
        {"replicas": 4, "operation": ("ScaleUp", "main-3"), "doing": "main-3 is joining"},
    ),
    "nor before it has slots": (
        seen(4, spec(replicas=5), operation("ScaleUp", "main-3"), node(3, "ready", slots=SlotCounts(0, 0, 0))),
        {"replicas": 4, "doing": "main-3 waits for its slots"},
    ),
    "then the next": (
        seen(4, spec(replicas=5), operation("ScaleUp", "main-3")),
        {"replicas": 5, "operation": ("ScaleUp", "main-4")},
    ),
    "new pods get the newest template, the others wait": (
        seen(3, spec(replicas=4), rolled("b", 3)),
        {"replicas": 4, "partition": 3, "operation": ("ScaleUp", "main-3")},
    ),
    "a new template and a new size at once": (
        seen(3, spec(replicas=4), template("b")),
        {"replicas": 4, "partition": 3},
    ),
    "a bad image keeps the ring from growing on": (
        seen(4, spec(replicas=5), operation("ScaleUp", "main-3"), silent(3), no_member(3), pod(3, **PULL)),
        {"replicas": 4, "step": None, "doing": "main-3 cannot get its image"},
    ),
    "its mended image goes to the pod that does not run": (
        seen(4, spec(replicas=5), silent(3), no_member(3), pod(3, revision="bad", **PULL), rolled("a", 4)),
        {"replicas": 4, "partition": 3},
    ),
}

SHRINKING: dict[str, tuple[Observed, dict[str, Any]]] = {
    "the highest is asked to leave": (
        seen(5, spec(replicas=3)),
        {"replicas": 5, "step": Leave("main-4"), "operation": ("ScaleDown", "main-4"), "blocked": None},
    ),
    "again, until it has left": (
        seen(4, *LEAVING, node(3, "leaving"), ring(slots_under_replicated=30)),
        {"replicas": 4, "step": Leave("main-3"), "operation": ("ScaleDown", "main-3")},
    ),
    "then its pod goes": (
        seen(4, *LEAVING, node(3, "left")),
        {"replicas": 3, "step": None, "operation": ("ScaleDown", "main-3")},
    ),
    "also if the operator forgot that it asked": (seen(4, spec(replicas=3), node(3, "left")), {"replicas": 3}),
    "the next is asked only when that pod is gone": (
        seen(4, spec(replicas=3), operation("ScaleDown", "main-4", uid="old"), extra_pod(4, deleting=True)),
        {"replicas": 4, "step": None, "operation": ("ScaleDown", "main-4")},
    ),
    "not while slots are under-replicated": (
        seen(4, spec(replicas=3), ring(slots_under_replicated=1)),
        {"replicas": 4, "step": None, "blocked": None, "operation": ("ScaleDown", "main-3")},
    ),
    "blocked when that lasts": (
        seen(4, spec(replicas=3), operation("ScaleDown", "main-3", ago=601), ring(slots_under_replicated=1)),
        {"replicas": 4, "step": None, "blocked": "SlotsUnderReplicated"},
    ),
    "not while another pod is away": (seen(4, spec(replicas=3), silent(1)), {"replicas": 4, "step": None}),
    "blocked when the rest cannot hold all copies": (
        seen(3, spec(replicas=2)),
        {"replicas": 3, "step": None, "blocked": "TooFewNodes"},
    ),
    "a node that does not know the token says so": (
        seen(4, *LEAVING, other(refused=STRANGER)),
        {"replicas": 4, "step": Leave("main-3"), "blocked": "TokenUnknown", "doing": "it does not know the token"},
    ),
    "it does not hold up the update that would restart it": (
        seen(4, *LEAVING, other(refused=STRANGER), rolled("b", partition=4)),
        {"replicas": 4, "partition": 3, "blocked": None, "operation": ("Update", "main-3"), "step": None},
    ),
    "a node that says not now is asked again before that counts": (
        seen(4, *LEAVING, other(refused={"main-3": replace(REFUSED["main-3"], busy=True)})),
        {"replicas": 4, "step": Leave("main-3"), "blocked": None},
    ),
    "one that goes on saying so is blocked": (
        seen(
            4,
            spec(replicas=3),
            operation("ScaleDown", "main-3", ago=20),
            other(refused={"main-3": replace(REFUSED["main-3"], busy=True)}),
        ),
        {"replicas": 4, "step": Leave("main-3"), "blocked": "LeaveRefused"},
    ),
    "other refusals do hold it up": (
        seen(4, *LEAVING, other(refused=REFUSED), rolled("b", partition=4)),
        {"partition": 4, "blocked": "LeaveRefused"},
    ),
    "once it was restarted it is asked again": (
        seen(4, *LEAVING, other(refused=STRANGER), rolled("b", partition=3), pod(3, uid="new", revision="b")),
        {"replicas": 4, "step": Leave("main-3"), "blocked": None},
    ),
    "the ring's own factor counts, not the spec's": (
        seen(3, spec(replicas=2, replication_factor=1)),
        {"blocked": "TooFewNodes"},
    ),
    "a node that refuses is asked again and keeps its pod": (
        seen(4, *LEAVING, other(refused=REFUSED)),
        {"replicas": 4, "step": Leave("main-3"), "blocked": "LeaveRefused", "doing": "not now"},
    ),
    "what it refused before this operation does not count": (
        seen(4, spec(replicas=3), other(refused=REFUSED)),
        {"step": Leave("main-3"), "blocked": None},
    ),
    "an operator that was restarted still says so": (
        seen(
            4,
            *LEAVING,
            condition(
                "ScaleDownBlocked",
                "True",
                reason="LeaveRefused",
                message="main-3 refuses to leave: not now; its pod is kept and so on",
            ),
        ),
        {"step": Leave("main-3"), "blocked": "LeaveRefused", "doing": "refuses to leave: not now; its pod"},
    ),
    "a leave that takes too long is blocked, and goes on": (
        seen(4, spec(replicas=3), operation("ScaleDown", "main-3", ago=601), node(3, "leaving")),
        {"replicas": 4, "step": Leave("main-3"), "blocked": "LeaveTimeout"},
    ),
    "or cut short by Force": (
        seen(4, spec(replicas=3, scale_down_force=True), operation("ScaleDown", "main-3", ago=601), node(3, "leaving")),
        {"replicas": 3, "step": None, "blocked": None},
    ),
    "but not while another pod is away": (
        seen(
            4,
            spec(replicas=3, scale_down_force=True),
            operation("ScaleDown", "main-3", ago=601),
            node(3, "leaving"),
            silent(0),
        ),
        {"replicas": 4},
    ),
    "another pod of the name is asked anew, with its own time": (
        seen(4, spec(replicas=3), operation("ScaleDown", "main-3", ago=601, uid="another")),
        {"replicas": 4, "step": Leave("main-3"), "blocked": None},
    ),
    "while it is restarted nothing happens": (
        seen(4, *LEAVING, without_pod(3), ring(slots_under_replicated=5)),
        {"replicas": 4, "step": None, "operation": ("ScaleDown", "main-3")},
    ),
    "a silent one is waited for": (
        seen(4, *LEAVING, silent(3), ring(slots_under_replicated=5)),
        {"replicas": 4, "step": None, "blocked": None},
    ),
    "not for ever": (
        seen(
            4,
            spec(replicas=3),
            operation("ScaleDown", "main-3", ago=200),
            silent(3),
            ring(slots_under_replicated=5),
            condition("Degraded", "True", ago=150),
        ),
        {"replicas": 4, "step": None, "blocked": "NodeUnreachable"},
    ),
    "a moment of silence in a long leave is not for ever": (
        seen(4, spec(replicas=3), operation("ScaleDown", "main-3", ago=200), silent(3), ring(slots_under_replicated=5)),
        {"replicas": 4, "blocked": None},
    ),
    "a silent one goes by Force after the timeout": (
        seen(4, spec(replicas=3, scale_down_force=True), operation("ScaleDown", "main-3", ago=601), silent(3)),
        {"replicas": 3},
    ),
    "one that no slot names any more goes": (
        seen(4, spec(replicas=3), operation("ScaleDown", "main-3", ago=90), silent(3), no_member(3)),
        {"replicas": 3, "blocked": None},
    ),
    "not before there was time to join": (
        seen(4, *LEAVING, silent(3), no_member(3)),
        {"replicas": 4, "blocked": None},
    ),
    "nor while something is under-replicated": (
        seen(
            4,
            spec(replicas=3),
            operation("ScaleDown", "main-3", ago=90),
            silent(3),
            no_member(3),
            ring(slots_under_replicated=1),
        ),
        {"replicas": 4},
    ),
}

MINDS_CHANGED: dict[str, tuple[Observed, dict[str, Any]]] = {
    "a raise cancels the leave": (
        seen(5, operation("ScaleDown", "main-4"), node(4, "leaving")),
        {"replicas": 5, "step": CancelLeave("main-4"), "operation": None},
    ),
    "also when it has left already": (
        seen(5, operation("ScaleDown", "main-4"), node(4, "left")),
        {"replicas": 5, "step": CancelLeave("main-4"), "operation": None},
    ),
    "5 -> 3 changed to 4: the leave of main-4 goes on": (
        seen(5, spec(replicas=4), operation("ScaleDown", "main-4"), node(4, "leaving")),
        {"replicas": 5, "step": Leave("main-4")},
    ),
    "5 -> 3 changed to 4, one gone, the next leaving: it stays": (
        seen(4, operation("ScaleDown", "main-3"), node(3, "leaving")),
        {"replicas": 4, "step": CancelLeave("main-3"), "operation": None},
    ),
    "raised beyond: it stays before a new one comes": (
        seen(4, spec(replicas=6), operation("ScaleDown", "main-3"), node(3, "leaving")),
        {"replicas": 4, "step": CancelLeave("main-3")},
    ),
    "a raise while its pod goes waits until it is gone": (
        seen(3, spec(replicas=4), operation("ScaleDown", "main-3", uid="old"), extra_pod(3, deleting=True)),
        {"replicas": 3, "step": None},
    ),
    "somebody else told a node to leave": (seen(3, node(1, "leaving")), {"step": CancelLeave("main-1")}),
    "two do not leave at once": (
        seen(5, spec(replicas=3), node(3, "leaving")),
        {"replicas": 5, "step": CancelLeave("main-3")},
    ),
}

TABLE = titled(
    {
        "founding": FOUNDING,
        "at rest": AT_REST,
        "growing": GROWING,
        "shrinking": SHRINKING,
        "minds changed": MINDS_CHANGED,
    }
)


@pytest.mark.parametrize("case", TABLE.values(), ids=TABLE.keys())
def test_what_is_decided(case: tuple[Observed, dict[str, Any]]) -> None:
    check(*case)


def test_the_time_of_an_operation_stays_from_pass_to_pass() -> None:
    observed = seen(4, *LEAVING, node(3, "leaving"))
    assert observed.operation is not None
    found = plan(observed).operation
    assert found is not None
    assert found.since == observed.operation.since


def test_another_pod_of_the_name_gets_its_own_time() -> None:
    observed = seen(4, spec(replicas=3), operation("ScaleDown", "main-3", ago=601, uid="another"))
    found = plan(observed).operation
    assert found is not None
    assert (found.pod_uid, found.since) == (observed.pods[3].uid, observed.now)
