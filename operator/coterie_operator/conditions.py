"""The conditions of a Ring: each says in a sentence what is so, why, and what to do about it.

A condition that says the same as before keeps its time, and its words where only what others said has changed: kubelet
puts the same trouble differently from one moment to the next, and a status that is rewritten each time is noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from coterie_protocol.words import counted, listed

from . import names
from .assessment import Assessment, Gap
from .model import Plan

PATIENCE_SECONDS = 15.0
"""How long the ring may lack something, with nothing under way, before it counts as degraded: what passes by itself
within this time (a link that was lost, a node that comes back) is nobody's business."""
PLANNED_SECONDS = 120.0
"""How long the pod that an operation restarts or brings may take before that counts as degraded."""


def conditions(assessment: Assessment, plan: Plan) -> list[dict[str, Any]]:
    """Return all conditions, in a fixed order."""
    degraded = trouble(assessment, plan)
    values = {
        "Available": _available(assessment),
        "Progressing": _progressing(assessment, plan, degraded),
        "Degraded": _degraded(assessment, degraded),
        "ScaleDownBlocked": (
            ("True", plan.blocked.reason, plan.blocked.message)
            if plan.blocked is not None
            else ("False", "NotBlocked", "no scale-down is held up")
        ),
        "Paused": (
            ("True", "PausedBySpec", "the operator changes nothing until spec.paused is false")
            if assessment.spec.paused
            else ("False", "NotPaused", "the operator looks after the ring")
        ),
        "TLSReady": ("False", "TLSOff", "traffic is not encrypted: spec.tls.mode is Off"),
    }
    return [_condition(assessment, kind, *value) for kind, value in values.items()]


def previous(status: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """Return a condition as a status has it; empty if it has not."""
    return next((one for one in status.get("conditions", ()) if one.get("type") == kind), {})


def available(assessment: Assessment) -> bool:
    """Return whether every slot has its quorum."""
    return _available(assessment)[0] == "True"


def trouble(assessment: Assessment, plan: Plan) -> list[Gap]:
    """Return what makes the ring degraded: what needs a person; without that, what is neither planned nor passes."""
    if assessment.seen.refused_spec:
        return [Gap("NotAllowed", assessment.seen.refused_spec, hard=True)]
    if assessment.spec.paused and assessment.seen.statefulset is None:
        return []
    gaps = [gap for gap in assessment.gaps() if gap.reason not in ("Starting", "Forming")]
    hard = [gap for gap in gaps if gap.hard]
    return hard or [*assessment.warnings(), *(gap for gap in gaps if not _expected(assessment, plan, gap))]


def _expected(assessment: Assessment, plan: Plan, gap: Gap) -> bool:
    """Whether a gap is part of what is under way, or young."""
    if (
        not assessment.ring_uid
        or assessment.forming
        or (gap.ordinal is not None and gap.ordinal >= assessment.replicas)
    ):
        return True
    operation = plan.operation
    if operation is not None:
        age = (assessment.now - operation.since).total_seconds()
        ours = gap.ordinal is None or assessment.name(gap.ordinal) == operation.target
        if ours and (age < PLANNED_SECONDS or operation.type == "ScaleDown"):
            return True
    if assessment.since("Degraded") is not None:
        return False
    if assessment.since("Available") is None and available(assessment):
        return True  # it has just come to be: its first copies are under way
    began = [since for kind in ("Progressing", "Available") if (since := assessment.since(kind)) is not None]
    return assessment.since("Progressing") is None or (assessment.now - max(began)).total_seconds() < PATIENCE_SECONDS


def _available(assessment: Assessment) -> tuple[str, str, str]:
    ring = assessment.seen.ring
    if not assessment.ring_uid:
        return "False", "Founding", "the ring is not founded yet"
    lost = assessment.without_majority
    if ring is None and not lost:
        running = any(pod.ready for pod in assessment.seen.pods)
        what = "no node tells the operator how the ring is"
        return (
            ("Unknown", "NodesSilent", f"{what}, though pods are ready: does a NetworkPolicy keep it from port 7402?")
            if running
            else ("False", "NodesDown", f"{what}, and no pod is ready")
        )
    if ring is not None and assessment.forming:
        need = f"it has {len(ring.members)} of the {counted(assessment.factor, 'node')} that keep each message"
        return "False", "Forming", f"the ring takes no accounts or messages yet: {need}"
    if lost:
        have = (
            f"{counted(lost, 'slot has', 'slots have')} no majority of the nodes that hold them, of {assessment.slots}"
        )
        return "False", "NoMajority", f"{have}: nobody can log in there; {_bring_back(assessment)}"
    if not any(pod.ready and not pod.deleting for pod in assessment.seen.pods):
        return "False", "NoPodReady", f"no pod is ready: the service {assessment.seen.name} leads clients nowhere"
    return "True", "EverySlotServed", "every slot has its quorum"


def _bring_back(assessment: Assessment) -> str:
    """Say who is missing, and what would help."""
    away = assessment.missing
    if away:
        return f"bring back {listed(away)}"
    return "the nodes run but do not reach each other: check DNS (CoreDNS), NetworkPolicies and port 7401"


def _progressing(assessment: Assessment, plan: Plan, degraded: list[Gap]) -> tuple[str, str, str]:
    if assessment.spec.paused:
        return "False", "Paused", plan.doing
    if plan.blocked is not None:
        return "False", plan.blocked.reason, plan.doing
    if any(gap.hard for gap in degraded):
        return "False", "Stopped", plan.doing
    if plan.operation is not None:
        return "True", plan.operation.type, plan.doing
    if plan.doing:
        reason = "Founding" if not assessment.ring_uid else "Forming" if assessment.forming else "Waiting"
        return "True", reason, plan.doing
    return "False", "AsWanted", "the ring is as the spec wants it"


def _degraded(assessment: Assessment, gaps: list[Gap]) -> tuple[str, str, str]:
    before = previous(assessment.seen.status, "Degraded")
    if before.get("status") == "True" and (kept := _kept(assessment, before, gaps)):
        return kept
    if not gaps:
        return "False", "Whole", "nothing is missing"
    first = gaps[0]
    more = f" (and {len(gaps) - 1} more)" if len(gaps) > 1 else ""
    return "True", first.reason, first.message + more


def _kept(assessment: Assessment, before: Mapping[str, Any], gaps: list[Gap]) -> tuple[str, str, str] | None:
    """Return the condition as it was if it still holds in the main.

    It does when the same thing is wrong, whatever others say about it now, and while a pod that ended again and again
    is up for a moment without having become ready.
    """
    reason, message = str(before.get("reason", "")), str(before.get("message", ""))
    more = f" (and {len(gaps) - 1} more)" if len(gaps) > 1 else ""
    if gaps and reason == gaps[0].reason and message.startswith(gaps[0].about):
        return ("True", reason, message) if message.endswith(more) and ("(and " in message) == bool(more) else None
    if reason == "NodeCrashing" and not (gaps and gaps[0].hard):
        about = {
            f"{assessment.name(ordinal)} " for ordinal in range(assessment.replicas) if assessment.pod_gap(ordinal)
        }
        if any(message.startswith(one) for one in about):
            return "True", reason, message
    return None


def _condition(assessment: Assessment, kind: str, status: str, reason: str, message: str) -> dict[str, Any]:
    before = previous(assessment.seen.status, kind)
    same = before.get("status") == status and "lastTransitionTime" in before
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "observedGeneration": assessment.seen.generation,
        "lastTransitionTime": before["lastTransitionTime"] if same else moment(assessment.now),
    }


def moment(when: datetime) -> str:
    """Return a time as Kubernetes writes it."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def selector(ring: str) -> str:
    """Return the label selector of a ring's pods, for the scale subresource."""
    return f"{names.RING_LABEL}={ring},app.kubernetes.io/component=node"
