"""The status of a Ring, whole, for server-side apply, and what of it is worth telling as Events.

In a steady state it is the same to the bit from pass to pass, so that it is not written: nothing in it jitters with
traffic or time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coterie_protocol.words import counted

from . import names
from .assessment import Assessment
from .conditions import available, conditions, moment, previous, selector, trouble
from .model import Note, Observed, Operation, Plan
from .quantity import quantity
from .rebalance import skew

STATES = {
    "ScaleUp": "ScalingUp",
    "ScaleDown": "ScalingDown",
    "Update": "Updating",
    "Rebalance": "Rebalancing",
    "Replace": "Repairing",
}
"""The state of a ring while an operation runs."""


def status(observed: Observed, plan: Plan) -> dict[str, Any]:
    """Return the whole status."""
    assessment = Assessment(observed)
    found: dict[str, Any] = {
        "observedGeneration": observed.generation,
        "state": _state(assessment, plan),
        "ringUid": plan.ring_uid,
        "replicas": len(observed.pods),
        "readyReplicas": sum(pod.ready and not pod.deleting for pod in observed.pods),
        "selector": selector(observed.name),
        "members": _members(assessment),
        "skew": _skew(assessment),
        "storageSize": _storage_size(assessment),
        "slotsUnderReplicated": _under_replicated(assessment),
        "conditions": conditions(assessment, plan),
    }
    if plan.operation is not None:
        found["operation"] = _operation(plan.operation)
    return found


def _state(assessment: Assessment, plan: Plan) -> str:
    wrong = trouble(assessment, plan)
    stuck = any(gap.hard for gap in wrong)
    if assessment.spec.paused:
        return "Paused"
    if not assessment.ring_uid:
        return "Degraded" if stuck else "Founding"
    if not available(assessment):
        if assessment.forming:
            return "Degraded" if stuck else "Forming"
        return "Unavailable"
    if plan.blocked is not None:
        return "Blocked"
    if stuck:
        return "Degraded"
    if plan.operation is not None:
        return STATES.get(plan.operation.type, "Repairing")
    if wrong:
        return "Degraded"
    if assessment.gaps():
        return "Repairing"
    return "Updating" if plan.doing else "Ready"


def _members(assessment: Assessment) -> list[dict[str, Any]]:
    ring = assessment.seen.ring
    if ring is None:
        # Nobody tells; who was there before is, as far as anybody can say, still of the ring.
        return [{**one, "state": "unreachable"} for one in assessment.seen.status.get("members", ())]

    def place(name: str) -> tuple[int, str]:
        ordinal = names.ordinal(assessment.seen.name, name)
        return (ordinal if ordinal is not None else 1 << 31), name

    return [
        {
            "name": member.name,
            "uid": member.uid,
            "position": member.position,
            "arcShare": round(member.arc_share, 4),
            "slots": member.slots.users + member.slots.backups,
            "state": member.state,
        }
        for member in sorted(ring.members, key=lambda member: (*place(member.name), member.uid))
    ]


def _skew(assessment: Assessment) -> float:
    ring = assessment.seen.ring
    if ring is None:
        return float(assessment.seen.status.get("skew", 0.0))
    on_circle = {member.uid: member.position for member in ring.members if member.arc_share > 0}
    return round(skew(on_circle, ring.slots), 3)


def _under_replicated(assessment: Assessment) -> int:
    ring = assessment.seen.ring
    if ring is not None:
        return ring.slots_under_replicated + ring.slots_unowned
    if any(pod.ready for pod in assessment.seen.pods):
        return int(assessment.seen.status.get("slotsUnderReplicated", 0))  # the operator is blind, not the ring in need
    return assessment.spec.slots if assessment.ring_uid else 0


def _storage_size(assessment: Assessment) -> str:
    """Return what every claim has: the size that the Ring may go back to."""
    claims = [claim for claim in assessment.seen.claims if not claim.deleting]
    found = [min((claim.size, claim.capacity or "0"), key=quantity) for claim in claims if claim.phase == "Bound"]
    return min(found, key=quantity, default="0")


def _operation(operation: Operation) -> dict[str, Any]:
    return {
        "type": operation.type,
        "target": operation.target,
        "podUid": operation.pod_uid,
        "since": moment(operation.since),
        "remaining": operation.remaining,
    }


# --- Events -----------------------------------------------------------------------------------------------------------

WARNINGS = {
    "NotAllowed",
    "ImagePullFailed",
    "Unschedulable",
    "NodeCrashing",
    "PodFailing",
    "ClaimPending",
    "ClaimLost",
    "ForeignNode",
    "ClaimDeleted",
    "MachineNotReady",
    "PodMissing",
    "PodRefused",
    "QuotaExceeded",
    "PodStopping",
    "PodNotReady",
    "NodeNotReady",
    "NodeSilent",
    "NodesSilent",
    "NoMajority",
    "UnderReplicated",
}
"""Reasons of Degraded that come from here; others are told by who found them."""


def events(before: Mapping[str, Any], plan: Plan, after: Mapping[str, Any]) -> list[Note]:
    """Return what is worth telling about the way from one status to the next."""
    return [
        *_founding(before, after),
        *_ended(before, plan, after),
        *_begun(before, plan, after),
        *_stay(before, plan),
        *_changed(before, plan, after),
    ]


def _founding(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Note]:
    if before.get("ringUid") or not after.get("ringUid"):
        return []
    return [Note("Normal", "Founded", f"the ring is founded; its uid is {after['ringUid']}")]


def _running(status: Mapping[str, Any]) -> tuple[str, str]:
    """Return type and target of the operation that a status tells of."""
    found = status.get("operation") or {}
    return str(found.get("type", "")), str(found.get("target", ""))


def _kept(plan: Plan, pod: str) -> bool:
    """Return whether a pod stays in the StatefulSet."""
    ordinal = pod.rpartition("-")[2]
    return ordinal.isdecimal() and int(ordinal) < plan.replicas


def _begun(before: Mapping[str, Any], plan: Plan, after: Mapping[str, Any]) -> list[Note]:
    kind, target = _running(after)
    if (kind, target) == _running(before):
        state = _member_state(after, target)
        if (
            kind == "ScaleDown"
            and state in ("leaving", "left")
            and _member_state(before, target) not in ("leaving", "left")
        ):
            return [Note("Normal", "Leaving", f"{target} leaves; its slots go to the other nodes")]
        return []
    told = {
        "ScaleUp": Note("Normal", "ScalingUp", f"{target} is to join the ring"),
        "ScaleDown": Note("Normal", "ScalingDown", f"{target} is to leave the ring; its pod stays until it has"),
        "Update": Note("Normal", "RollingUpdate", f"{target} gets the newest template; one pod at a time is restarted"),
        "Rebalance": Note("Normal", "Rebalancing", plan.doing),
        "Replace": Note("Warning", "Replacing", plan.doing),
    }
    return [told[kind]] if kind in told else []


def _ended(before: Mapping[str, Any], plan: Plan, after: Mapping[str, Any]) -> list[Note]:
    kind, target = _running(before)
    now, next_target = _running(after)
    if not kind or (kind, target) == (now, next_target):
        return []
    if kind == "ScaleDown":
        if _kept(plan, target):
            return []  # `_stay` tells of it
        return [Note("Normal", "ScaledDown", f"{target} is gone; the ring has {counted(plan.replicas, 'node')}")]
    if kind == "ScaleUp" and _member_state(after, target) == "ready":
        return [Note("Normal", "Joined", f"{target} has joined and holds its slots")]
    if kind == "Update" and now != "Update" and plan.partition == 0:
        return [Note("Normal", "Updated", "all pods run the newest template")]
    if kind == "Rebalance" and now != "Rebalance":
        return [Note("Normal", "Rebalanced", f"the widest arc is now {after.get('skew', 0):g} times the fair share")]
    if kind == "Replace" and _member_state(after, target) == "ready":
        return [Note("Normal", "Replaced", f"{target} is a new node of the ring, and has its slots")]
    return []


def _stay(before: Mapping[str, Any], plan: Plan) -> list[Note]:
    kind, target = _running(before)
    going = kind == "ScaleDown" and _kept(plan, target)
    if going and (plan.operation is None or (plan.operation.type, plan.operation.target) != (kind, target)):
        return [Note("Normal", "LeaveCancelled", f"{target} stays: it is wanted again")]
    if type(plan.step).__name__ == "CancelLeave" and plan.step is not None:
        pod = plan.step.pod
        if not going and _member_state(before, pod) not in ("leaving", "left"):
            return [Note("Normal", "LeaveCancelled", f"{pod} stays: nobody wants it to leave")]
    return []


def _member_state(status: Mapping[str, Any], pod: str) -> str:
    return next((str(one.get("state")) for one in status.get("members", ()) if one.get("name") == pod), "")


def _changed(before: Mapping[str, Any], plan: Plan, after: Mapping[str, Any]) -> list[Note]:
    """Return what conditions tell anew."""
    notes = []
    blocked, was = previous(after, "ScaleDownBlocked"), previous(before, "ScaleDownBlocked")
    if _is(blocked) and (not _is(was) or was.get("reason") != blocked.get("reason")):
        notes.append(Note("Warning", "ScaleDownBlocked", f"{blocked['reason']}: {blocked['message']}"))
    elif _is(was) and not _is(blocked):
        notes.append(Note("Normal", "ScaleDownUnblocked", "the scale-down goes on, or is no longer wanted"))
    notes += _degradation(previous(before, "Degraded"), previous(after, "Degraded"), plan)
    now, was = previous(after, "Available"), previous(before, "Available")
    if _is(now) and not _is(was):
        notes.append(Note("Normal", "Available", "every slot has its quorum: the ring takes accounts and messages"))
    elif _is(was) and not _is(now):
        notes.append(Note("Warning", "Unavailable", str(now.get("message", ""))))
    now, was = previous(after, "Paused"), previous(before, "Paused")
    if _is(now) != _is(was):
        notes.append(Note("Normal", "Paused" if _is(now) else "Resumed", str(now.get("message", ""))))
    return notes


def _degradation(was: Mapping[str, Any], now: Mapping[str, Any], plan: Plan) -> list[Note]:
    if _is(was) and not _is(now):
        return [Note("Normal", "Recovered", "nothing is missing any more")]
    reason, message = str(now.get("reason", "")), str(now.get("message", ""))
    if not _is(now) or reason not in WARNINGS or (reason, message) == (was.get("reason"), was.get("message")):
        return []
    if plan.operation is not None and plan.operation.type == "Update" and message.startswith(plan.operation.target):
        return [Note("Warning", "UpdateStopped", f"the update goes no further: {message}")]
    return [Note("Warning", reason if reason.startswith("Claim") else "Degraded", message)]


def _is(condition: Mapping[str, Any]) -> bool:
    return condition.get("status") == "True"
