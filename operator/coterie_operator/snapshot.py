"""What there is of a ring, and how its objects are read in the terms of `model`. Pure: `observe` fetches them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from coterie_protocol.admin import RingReport

from . import names
from .kube import Object
from .model import Answer, ClaimView, Operation, PodView, StatefulSetView

STARTING = ("ContainerCreating", "PodInitializing")
"""Reasons of a waiting container that are no trouble."""
REFUSED_SECONDS = 1200.0
"""How long the controller's word counts that it could not make something: it tries again after at most 17 minutes."""


@dataclass(frozen=True)
class Snapshot:
    """What there is of a ring, as the API and its nodes have it."""

    now: datetime
    statefulset: Object | None
    refused: str
    """Why the StatefulSet's controller makes no pods or claims; empty when it does, or nobody can say."""
    secret: Object | None
    recorded_uid: str
    """The ring uid in the ConfigMap."""
    pods: tuple[PodView, ...]
    claims: tuple[ClaimView, ...]
    nodes: Mapping[str, Answer]
    ring: RingReport | None


def statefulset_view(live: Object, trouble: str = "") -> StatefulSetView:
    """Read a StatefulSet; `trouble` is what its events say."""
    metadata, spec, status = live["metadata"], live["spec"], live.get("status", {})
    rolling = spec.get("updateStrategy", {}).get("rollingUpdate") or {}
    return StatefulSetView(
        replicas=int(spec.get("replicas", 1)),
        partition=int(rolling.get("partition", 0)),
        template_hash=metadata.get("annotations", {}).get(names.TEMPLATE_HASH, ""),
        current_revision=status.get("currentRevision", ""),
        update_revision=status.get("updateRevision", ""),
        observed=int(status.get("observedGeneration", 0)) >= int(metadata["generation"]),
        storage_size=storage_size(live),
        trouble=trouble,
    )


def storage_size(statefulset: Mapping[str, Any]) -> str:
    """Return what the claim template of a StatefulSet asks for, or nothing."""
    templates = statefulset["spec"].get("volumeClaimTemplates") or []
    return _requested(templates[0]) if templates else ""


def pod_view(ring: str, pod: Object, now: datetime) -> PodView | None:
    """Read a pod; None if it is not one of the ring's StatefulSet."""
    metadata, status = pod["metadata"], pod.get("status", {})
    ordinal = names.ordinal(ring, metadata["name"])
    if ordinal is None:
        return None
    reason, trouble = _pod_trouble(status)
    ready, running = _condition(status, "Ready"), _condition(status, "ContainersReady")
    ends = metadata.get("deletionTimestamp")
    return PodView(
        name=metadata["name"],
        ordinal=ordinal,
        uid=metadata["uid"],
        ip=status.get("podIP", ""),
        ready=ready.get("status") == "True",
        phase=status.get("phase", "Pending"),
        revision=metadata.get("labels", {}).get("controller-revision-hash", ""),
        deleting=ends is not None,
        trouble=trouble,
        reason=reason,
        machine=pod.get("spec", {}).get("nodeName", ""),
        # The kubelet writes both at once; who writes the one alone is Kubernetes, for a machine that does not report.
        machine_silent=ready.get("status") == "False" and running.get("status") == "True",
        overdue=max(0.0, (now - _time(ends)).total_seconds()) if ends else 0.0,
    )


def claim_view(ring: str, claim: Object, now: datetime, trouble: str = "") -> ClaimView | None:
    """Read a claim; None if it is not one of the ring's nodes'."""
    metadata = claim["metadata"]
    ordinal = names.ordinal(ring, metadata["name"].removeprefix("data-"))
    if ordinal is None or metadata["name"] != names.claim(ring, ordinal):
        return None
    return ClaimView(
        name=metadata["name"],
        ordinal=ordinal,
        phase=claim.get("status", {}).get("phase", "Pending"),
        deleting="deletionTimestamp" in metadata,
        age=(now - _time(metadata["creationTimestamp"])).total_seconds(),
        trouble=trouble,
        size=_requested(claim),
        capacity=str((claim.get("status", {}).get("capacity") or {}).get("storage", "")),
        labelled=metadata.get("labels", {}).get(names.RING_LABEL) == ring,
    )


def operation(status: Mapping[str, Any]) -> Operation | None:
    """Read `status.operation`; None if there is none, or none that can be read."""
    found = status.get("operation")
    if not isinstance(found, Mapping) or not found.get("type") or not found.get("target"):
        return None
    try:
        since = _time(str(found.get("since", "")))
    except ValueError:
        return None
    return Operation(
        type=str(found["type"]),
        target=str(found["target"]),
        pod_uid=str(found.get("podUid", "")),
        since=since,
        remaining=int(found.get("remaining") or 0),
    )


def recorded_uid(config: Object | None) -> str:
    """Return the ring uid that the ring's ConfigMap records, or nothing."""
    return str(((config or {}).get("data") or {}).get(names.RING_UID_KEY, ""))


def refused(events: Iterable[Object], now: datetime) -> str:
    """Return why a StatefulSet's controller could not make a pod or claim; empty unless it said so lately.

    An event that repeats is counted up with pauses that grow to several minutes, and stays for an hour: what succeeded
    since makes it void.
    """
    found = sorted(events, key=_when)
    if not found or found[-1].get("type") != "Warning" or found[-1].get("reason") != "FailedCreate":
        return ""
    when = _when(found[-1])
    try:
        lately = not when or (now - _time(when)).total_seconds() < REFUSED_SECONDS
    except ValueError:
        lately = True
    return str(found[-1].get("message", "")) if lately else ""


def _when(event: Object) -> str:
    """Return when an event was seen last."""
    series = event.get("series") or {}
    return str(series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime") or "")


def newest(events: Iterable[Object]) -> str:
    """Return the text of the newest Warning or, without one, of the newest event."""

    def rank(event: Object) -> tuple[bool, str]:
        return event.get("type") == "Warning", _when(event)

    found = max(events, key=rank, default=None)
    return str(found.get("message", "")) if found else ""


def _pod_trouble(status: Mapping[str, Any]) -> tuple[str, str]:
    """Return reason and sentence about what keeps a pod from running, or twice nothing."""
    for container in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
        state, last = container.get("state", {}), container.get("lastState", {}).get("terminated")
        if (waiting := state.get("waiting")) and waiting.get("reason") not in STARTING:
            said = str(waiting.get("message") or waiting.get("reason", "the container waits"))
            return str(waiting.get("reason", "Waiting")), f"{said}; {_ended(last)}" if last else said
        if (ended := state.get("terminated")) and ended.get("exitCode"):
            return str(ended.get("reason", "Error")), _ended(ended)
    scheduled = _condition(status, "PodScheduled")
    if scheduled.get("status") == "False":
        return str(scheduled.get("reason", "Unschedulable")), str(scheduled.get("message", "it is not scheduled"))
    if status.get("phase") == "Failed":
        return str(status.get("reason") or "Failed"), str(status.get("message") or "the pod has failed")
    return "", ""


def _ended(terminated: Mapping[str, Any]) -> str:
    """Say how a container ended."""
    how = f"it ended with exit code {terminated.get('exitCode')} ({terminated.get('reason')})"
    said = str(terminated.get("message") or "").strip()
    return f"{how}: {said}" if said else how


def _condition(status: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    return next((one for one in status.get("conditions", ()) if one.get("type") == kind), {})


def _requested(claim: Mapping[str, Any]) -> str:
    return str(claim["spec"].get("resources", {}).get("requests", {}).get("storage", ""))


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
