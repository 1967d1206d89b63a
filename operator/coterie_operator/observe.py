"""Look at everything that a decision about a ring may rest on, once, and say it in the terms of `model`.

Whatever the Kubernetes API refuses ends the pass (KubeError); a node that does not answer is an observation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import structlog

from coterie_protocol.admin import NodeReport, RingReport

from . import names
from .admin import Admin, NodeError
from .kube import CLAIM, CONFIG_MAP, POD, SECRET, STATEFUL_SET, Forbidden, Kind, Kube, Object
from .model import Answer, ClaimView, PodView
from .snapshot import Snapshot, claim_view, newest, pod_view, recorded_uid, refused

log = structlog.get_logger()

CORE_EVENT = Kind("v1", "events")
"""The core kind: it lets itself be selected by the object that the events are about."""
PATIENCE = 5.0
"""Seconds that a claim may be pending before it is worth asking why."""


async def look(kube: Kube, admin: Admin, namespace: str, name: str) -> Snapshot:
    """Gather it. Raises KubeError."""
    labels = f"{names.RING_LABEL}={name}"
    now = datetime.now(UTC)
    statefulset, config, secret, pods, claims = await asyncio.gather(
        kube.find(STATEFUL_SET, namespace, names.statefulset(name)),
        kube.find(CONFIG_MAP, namespace, names.ring_config(name)),
        kube.find(SECRET, namespace, names.ring_secret(name)),
        kube.list(POD, namespace, labels=labels),
        kube.list(CLAIM, namespace, labels=labels),
    )
    uid = recorded_uid(config)
    claims = [*claims, *await _unlabelled(kube, namespace, name, statefulset if uid else None, claims)]
    seen = _by_ordinal(pod_view(name, pod, now) for pod in pods)
    nodes, ring = await _ask(admin, seen, uid)
    return Snapshot(
        now=now,
        statefulset=statefulset,
        refused=await _refused(kube, statefulset, len(seen), now),
        secret=secret,
        recorded_uid=uid,
        pods=seen,
        claims=_by_ordinal(await asyncio.gather(*(_claim(kube, name, claim, now) for claim in claims))),
        nodes=nodes,
        ring=ring,
    )


def widest(reports: Iterable[RingReport], uid: str) -> RingReport | None:
    """Return the report that sees most of the ring: of the recorded one if any is, then by members that answer."""

    def sees(report: RingReport) -> tuple[bool, int, int]:
        alive = sum(member.state != "unreachable" for member in report.members)
        return report.ring_uid == uid, alive, len(report.members)

    return max(reports, key=sees, default=None)


async def _ask(admin: Admin, pods: tuple[PodView, ...], uid: str) -> tuple[dict[str, Answer], RingReport | None]:
    """Ask every node about itself, and those that answered about the ring, all at once."""
    asked = [pod for pod in pods if pod.ip and pod.phase == "Running"]
    answers = await asyncio.gather(*(_node(admin, pod) for pod in asked))
    answering = [pod for pod, answer in zip(asked, answers, strict=True) if answer.report is not None]
    rings = await asyncio.gather(*(_ring(admin, pod) for pod in answering))
    return (
        {pod.name: answer for pod, answer in zip(asked, answers, strict=True)},
        widest((ring for ring in rings if ring is not None and ring.ring_uid), uid),
    )


async def _node(admin: Admin, pod: PodView) -> Answer:
    try:
        report: NodeReport = await admin.node(pod.ip)
    except NodeError as error:
        return Answer(None, str(error))
    if report.name != pod.name:
        return Answer(None, f"another node, {report.name}, answers at its address {pod.ip}")
    return Answer(report)


async def _ring(admin: Admin, pod: PodView) -> RingReport | None:
    try:
        return await admin.ring(pod.ip)
    except NodeError as error:
        log.debug("no ring report", pod=pod.name, error=str(error))
        return None


async def _unlabelled(
    kube: Kube, namespace: str, name: str, statefulset: Object | None, labelled: Sequence[Object]
) -> list[Object]:
    """Return the claims that are the ring's by their names only: a StatefulSet uses them, whatever labels they bear.

    They are what a ring that is made anew comes from. So without a StatefulSet of a ring that is known, all are looked
    through; with one, those of its pods.
    """
    known = {str(claim["metadata"]["name"]) for claim in labelled}
    if statefulset is None:
        found: Sequence[Object | None] = await kube.list(CLAIM, namespace)
    else:
        wanted = (names.claim(name, ordinal) for ordinal in range(int(statefulset["spec"].get("replicas", 1))))
        missing = [claim for claim in wanted if claim not in known]
        found = await asyncio.gather(*(kube.find(CLAIM, namespace, claim) for claim in missing))
    return [claim for claim in found if claim is not None and claim["metadata"]["name"] not in known]


async def _refused(kube: Kube, statefulset: Object | None, pods: int, now: datetime) -> str:
    """Say why the StatefulSet has fewer pods than it should, as far as its controller says so."""
    if statefulset is None or pods >= int(statefulset["spec"].get("replicas", 1)):
        return ""
    metadata = statefulset["metadata"]
    fields = f"involvedObject.kind=StatefulSet,involvedObject.uid={metadata['uid']}"
    try:
        events = await kube.list(CORE_EVENT, metadata["namespace"], fields=fields)
    except Forbidden as error:
        log.warning("cannot say why pods are missing", statefulset=metadata["name"], error=str(error))
        return ""
    return refused(events, now)


async def _claim(kube: Kube, ring: str, claim: Object, now: datetime) -> ClaimView | None:
    view = claim_view(ring, claim, now)
    if view is None or view.phase != "Pending" or view.age < PATIENCE:
        return view
    metadata = claim["metadata"]
    fields = f"involvedObject.kind=PersistentVolumeClaim,involvedObject.uid={metadata['uid']}"
    try:
        events = await kube.list(CORE_EVENT, metadata["namespace"], fields=fields)
    except Forbidden as error:
        log.warning("cannot say why a claim is pending", claim=view.name, error=str(error))
        return view
    return claim_view(ring, claim, now, newest(events))


def _by_ordinal(views: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(sorted((view for view in views if view is not None), key=lambda view: view.ordinal))
