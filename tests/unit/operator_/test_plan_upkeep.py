"""What is decided about templates, balance and lost volumes: situations, and what must follow."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from tests.unit.operator_.views import (
    check,
    claim,
    node,
    operation,
    other,
    places,
    pod,
    ring,
    rolled,
    seen,
    shares,
    silent,
    spec,
    statefulset,
    template,
    titled,
    whole,
    without_pod,
)

from coterie_operator.model import Leave, Move, Observed, Refusal, Replace

PULL: dict[str, Any] = {"ready": False, "reason": "ImagePullBackOff", "trouble": "there is no such image"}
LEAVING = spec(replicas=3), operation("ScaleDown", "main-3")


ROLLING: dict[str, tuple[Observed, dict[str, Any]]] = {
    "a new template restarts nothing yet": (
        seen(3, template("b")),
        {"replicas": 3, "partition": 3, "step": None, "doing": "a new template"},
    ),
    "nor before the controller has seen it": (
        seen(3, rolled("b", 3), statefulset(observed=False)),
        {"partition": 3},
    ),
    "then the highest": (seen(3, rolled("b", 3)), {"partition": 2, "operation": ("Update", "main-2")}),
    "it stays so until the controller acts": (
        seen(3, rolled("b", 2), operation("Update", "main-2")),
        {"partition": 2, "operation": ("Update", "main-2")},
    ),
    "and while it restarts": (
        seen(3, rolled("b", 2), operation("Update", "main-2"), without_pod(2), ring(slots_under_replicated=20)),
        {"partition": 2, "operation": ("Update", "main-2")},
    ),
    "and until all is in sync": (
        seen(3, rolled("b", 2), operation("Update", "main-2"), pod(2, revision="b"), ring(slots_under_replicated=1)),
        {"partition": 2, "operation": ("Update", "main-2")},
    ),
    "then the next pod": (
        seen(3, rolled("b", 2), operation("Update", "main-2"), pod(2, revision="b")),
        {"partition": 1, "operation": ("Update", "main-1")},
    ),
    "at the end nothing is held back": (
        seen(3, rolled("b", 0), *(pod(one, revision="b") for one in range(3)), operation("Update", "main-0")),
        {"partition": 0, "operation": None, "doing": ""},
    ),
    "a bad image stops at the first pod": (
        seen(3, rolled("bad", 2), operation("Update", "main-2"), silent(2), pod(2, revision="bad", **PULL)),
        {"partition": 2, "operation": ("Update", "main-2"), "doing": "main-2 cannot get its image"},
    ),
    "rolled back: nothing restarts yet": (
        seen(3, rolled("bad", 2), template("a"), silent(2), pod(2, revision="bad", **PULL)),
        {"partition": 3},
    ),
    "then the broken pod is healed, though the ring is not whole": (
        seen(3, rolled("a", 3), silent(2), pod(2, revision="bad", **PULL), ring(slots_under_replicated=20)),
        {"partition": 2, "operation": ("Update", "main-2")},
    ),
    "one that does not become ready without saying why, too": (
        seen(3, rolled("a", 3), silent(2), pod(2, revision="bad")),
        {"partition": 2},
    ),
    "another new template heals it first, too": (
        seen(3, rolled("c", 3), silent(2), pod(2, revision="bad", **PULL)),
        {"partition": 2},
    ),
    "broken below one that works: that one alone": (
        seen(3, rolled("c", 3), silent(1), pod(1, revision="bad", **PULL)),
        {"partition": 1, "operation": ("Update", "main-1")},
    ),
    "until it is there anew": (seen(3, rolled("c", 1), without_pod(1)), {"partition": 1}),
    "then the gate is shut for the others": (
        seen(3, rolled("c", 1), silent(1), pod(1, revision="c")),
        {"partition": 3},
    ),
    "all that never ran get the new template at once": (
        seen(3, rolled("c", 3), *(change for o in range(3) for change in (silent(o), pod(o, revision="bad", **PULL)))),
        {"partition": 0},
    ),
    "one that is only starting waits its turn": (
        seen(3, rolled("b", 3), node(1, "syncing")),
        {"partition": 3},
    ),
    "the gate shuts when another pod goes down before the controller acts": (
        seen(3, rolled("b", 2), operation("Update", "main-2"), silent(0)),
        {"partition": 3},
    ),
    "a scale-down comes first": (
        seen(4, spec(replicas=3), rolled("b", 4)),
        {"partition": 4, "step": Leave("main-3"), "operation": ("ScaleDown", "main-3")},
    ),
    "but not before the pod that restarts is back": (
        seen(4, spec(replicas=3), rolled("b", 2), pod(3, revision="b"), operation("Update", "main-2"), without_pod(2)),
        {"partition": 2, "step": None, "operation": ("Update", "main-2")},
    ),
    "a leaving node is not restarted by a new template": (
        seen(4, *LEAVING, rolled("b", 4), node(3, "leaving")),
        {"partition": 4, "step": Leave("main-3")},
    ),
    "more nodes come before the roll goes on": (
        seen(3, spec(replicas=4), rolled("b", 2), pod(2, revision="b")),
        {"replicas": 4, "partition": 2, "operation": ("ScaleUp", "main-3")},
    ),
}

BALANCING: dict[str, tuple[Observed, dict[str, Any]]] = {
    "a node moves": (
        seen(3, places(0, 16, 32)),
        {"operation": ("Rebalance", "main-0"), "step": Move("main-0", 59)},
    ),
    "not when that is off": (seen(3, places(0, 16, 32), spec(rebalance=False)), {"step": None, "doing": ""}),
    "not when it is even enough": (seen(3, places(0, 20, 40)), {"step": None, "doing": ""}),
    "not while something is under-replicated": (
        seen(3, places(0, 16, 32), ring(slots_under_replicated=1)),
        {"step": None},
    ),
    "not in a roll": (seen(3, places(0, 16, 32), rolled("b", 3)), {"step": None, "partition": 2}),
    "the next not before the slots have followed": (
        seen(3, shares(0.2, 0.3, 0.5), places(0, 16, 43), operation("Rebalance", "main-2", ago=1)),
        {"step": None, "operation": ("Rebalance", "main-2"), "doing": "the slots follow main-2 to slot 43"},
    ),
    "but that is not waited for for ever": (
        seen(3, shares(0.2, 0.3, 0.5), places(0, 16, 43), operation("Rebalance", "main-2", ago=61)),
        {"operation": ("Rebalance", "main-1")},
    ),
    "then the next": (
        seen(3, places(0, 16, 43), operation("Rebalance", "main-2")),
        {"operation": ("Rebalance", "main-1")},
    ),
    "one that refuses is asked again": (
        seen(3, places(0, 16, 32), other(refused={"main-0": Refusal(whole(3).pods[0].uid, "Move", "shortly")})),
        {"step": Move("main-0", 59), "doing": "shortly"},
    ),
}

LOST: dict[str, tuple[Observed, dict[str, Any]]] = {
    "a lost volume is replaced": (
        seen(3, claim(1, phase="Lost"), silent(1), ring(slots_under_replicated=20)),
        {"step": Replace("main-1", whole(3).pods[1].uid, "data-main-1"), "operation": ("Replace", "main-1")},
    ),
    "not while another pod is away": (
        seen(3, claim(1, phase="Lost"), silent(1), silent(2)),
        {"step": None, "operation": ("Replace", "main-1")},
    ),
    "not while slots are unowned": (seen(3, claim(1, phase="Lost"), silent(1), ring(slots_unowned=3)), {"step": None}),
    "under a node that works only when all is in sync": (
        seen(3, claim(1, phase="Lost"), ring(slots_under_replicated=1)),
        {"step": None},
    ),
    "a claim that goes already is waited for": (
        seen(3, claim(1, phase="Lost", deleting=True), silent(1), operation("Replace", "main-1")),
        {"step": None, "operation": ("Replace", "main-1")},
    ),
}


def late(seen: Observed) -> Observed:
    """The last node's slots have still to follow it."""
    assert seen.ring is not None
    *others, last = seen.ring.members
    moved = msgspec.structs.replace(last, slots=msgspec.structs.replace(last.slots, users=last.slots.users + 1))
    return ring(members=[*others, moved])(seen)


SETTLING: dict[str, tuple[Observed, dict[str, Any]]] = {
    "slots that have still to follow are part of what moved them": (
        seen(4, late, operation("ScaleUp", "main-3")),
        {"operation": ("ScaleUp", "main-3"), "doing": "the slots follow the nodes"},
    ),
    "not for ever": (seen(4, late, operation("ScaleUp", "main-3", ago=90)), {"operation": None, "doing": ""}),
}

TOO_LARGE: dict[str, tuple[Observed, dict[str, Any]]] = {
    "an empty claim of a size that was taken back makes room": (
        seen(3, silent(2), pod(2, ip=""), claim(2, phase="Pending", size="9Ti"), statefulset(storage_size="1Gi")),
        {"step": Replace("main-2", whole(3).pods[2].uid, "data-main-2"), "doing": "the one of 9Ti was never bound"},
    ),
    "not before the StatefulSet asks for less": (
        seen(3, silent(2), pod(2, ip=""), claim(2, phase="Pending", size="9Ti"), statefulset(storage_size="9Ti")),
        {"step": None},
    ),
    "never one that was bound": (
        seen(3, silent(2), pod(2, ip=""), claim(2, size="9Ti"), statefulset(storage_size="1Gi")),
        {"step": None},
    ),
    "never one that is as wanted": (
        seen(3, silent(2), pod(2, ip=""), claim(2, phase="Pending", size="1024Mi"), statefulset(storage_size="1Gi")),
        {"step": None},
    ),
}

GROUPS = {"rolling": ROLLING, "balancing": BALANCING, "lost": LOST, "too large": TOO_LARGE, "settling": SETTLING}
TABLE = titled(GROUPS)


@pytest.mark.parametrize("case", TABLE.values(), ids=TABLE.keys())
def test_what_is_decided(case: tuple[Observed, dict[str, Any]]) -> None:
    check(*case)
