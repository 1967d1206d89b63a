"""What an observation means: which pods and nodes stand where, and what keeps the ring from being whole.

Shared by `plan`, which waits for what is missing, and by `status`, which tells of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from coterie_protocol.admin import Member, NodeReport
from coterie_protocol.words import counted

from . import names
from .model import ClaimView, Observed, Operation, PodView

PULL_REASONS = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError")
"""Kubelet's words for an image that it cannot get; it changes between them from one moment to the next."""
CLAIM_PATIENCE = 30.0
"""Seconds within which a claim should be bound: making a volume takes a while."""
OVERDUE_SECONDS = 30.0
"""How long after its time a pod may still be stopping."""
GOING = ("leaving", "left")
"""States of a node that wants to leave."""


@dataclass(frozen=True)
class Gap:
    """Something that keeps the ring from being whole."""

    reason: str
    """CamelCase, as in a condition."""
    about: str
    """What it is about and what is wrong, in words that do not change from one look to the next."""
    details: str = ""
    """The rest of the sentence: what others say about it, and what to do."""
    ordinal: int | None = None
    """Of the pod that it is about."""
    hard: bool = False
    """Whether it needs a person: it does not pass by itself."""

    @property
    def message(self) -> str:
        """The whole sentence."""
        return self.about + self.details


class Assessment:
    """Reads an observation."""

    def __init__(self, observed: Observed) -> None:
        self.seen = observed
        self.spec = observed.spec
        self.wanted = observed.spec.replicas
        self.replicas = observed.statefulset.replicas if observed.statefulset else 0
        self.factor = observed.ring.replication_factor if observed.ring else observed.spec.replication_factor
        self.pods = {pod.ordinal: pod for pod in observed.pods}
        self.claims = {claim.ordinal: claim for claim in observed.claims}

    @cached_property
    def ring_uid(self) -> str:
        """Which ring it is: as recorded, else as the nodes say; empty before the founding."""
        reported = (answer.report.ring_uid for answer in self.seen.nodes.values() if answer.report)
        shown = self.seen.ring.ring_uid if self.seen.ring else ""
        return self.seen.ring_uid or shown or next((uid for uid in reported if uid), "")

    @property
    def forming(self) -> bool:
        """Whether the ring has never yet had as many nodes as copies."""
        ring = self.seen.ring
        return self.replicas < min(self.factor, self.wanted) or (ring is not None and ring.slots_forming > 0)

    @property
    def slots(self) -> int:
        """Into how many slots the ring is cut."""
        return self.seen.ring.slots if self.seen.ring else self.spec.slots

    @property
    def without_majority(self) -> int:
        """How many slots nobody serves with a majority of their nodes.

        The widest report says it of the whole ring. Where none came through, what each node says of the slots that it
        acts for is what is known. (A node of the release before knows of slots without an owner only.)
        """
        ring = self.seen.ring
        if ring is not None:
            return max(ring.slots_without_quorum, ring.slots_unowned)
        told = sum(answer.report.slots_without_quorum for answer in self.seen.nodes.values() if answer.report)
        return min(told, self.slots)

    @property
    def missing(self) -> list[str]:
        """The pods that should hold slots and whose nodes do not answer the operator."""
        return [self.name(ordinal) for ordinal in range(self.replicas) if not self.state(ordinal)]

    @property
    def leaver(self) -> int | None:
        """The ordinal of the pod that is to go next, if one is."""
        return self.replicas - 1 if self.wanted < self.replicas else None

    @property
    def going(self) -> bool:
        """Whether that one leaves already, or has left."""
        return self.leaver is not None and self.state(self.leaver) in GOING

    @property
    def extra(self) -> list[PodView]:
        """The pods that the StatefulSet is about to take away."""
        return [pod for pod in self.seen.pods if pod.ordinal >= self.replicas]

    def name(self, ordinal: int) -> str:
        """Return the name of a pod."""
        return names.pod(self.seen.name, ordinal)

    def node(self, ordinal: int) -> NodeReport | None:
        """Return what the node in a pod says about itself."""
        answer = self.seen.nodes.get(self.name(ordinal))
        return answer.report if answer else None

    def state(self, ordinal: int) -> str:
        """Return a node's state by its own word; empty when it does not answer."""
        report = self.node(ordinal)
        return report.state if report else ""

    def members(self, ordinal: int) -> list[Member]:
        """Return the ring's members of a pod's name: after the loss of a disk there may be two for a while."""
        report, ring = self.node(ordinal), self.seen.ring
        return [
            member
            for member in (ring.members if ring else ())
            if member.name == self.name(ordinal) or (report is not None and member.uid == report.uid)
        ]

    def ready(self, ordinal: int) -> bool:
        """Return whether a pod is there and its node works."""
        pod = self.pods.get(ordinal)
        return pod is not None and pod.ready and not pod.deleting and self.state(ordinal) == "ready"

    @property
    def now(self) -> datetime:
        """When it was observed."""
        return self.seen.now

    def operation(self, kind: str, target: str) -> Operation | None:
        """Return the operation under way if it is of this kind and about this pod."""
        found = self.seen.operation
        return found if found is not None and (found.type, found.target) == (kind, target) else None

    def refusal(self, ordinal: int, step: str) -> str:
        """Return what a node said when it refused this kind of step the last time; nothing if it did not."""
        pod, found = self.pods.get(ordinal), self.seen.refused.get(self.name(ordinal))
        return found.message if pod and found and (found.pod_uid, found.step) == (pod.uid, step) else ""

    def stranger(self, ordinal: int) -> bool:
        """Return whether the node did not know the operator's token when it was asked last."""
        pod, found = self.pods.get(ordinal), self.seen.refused.get(self.name(ordinal))
        return pod is not None and found is not None and found.pod_uid == pod.uid and found.token

    # --- Templates ---

    @property
    def applied(self) -> bool:
        """Whether the StatefulSet has the wanted template, and its controller has seen it."""
        live = self.seen.statefulset
        return live is not None and live.observed and live.template_hash == self.seen.template_hash

    @property
    def stale(self) -> list[int]:
        """Ordinals of the pods that do not run the newest template, as far as that can be told."""
        live = self.seen.statefulset
        if live is None or not self.applied or not live.update_revision:
            return []
        return [pod.ordinal for pod in self.seen.pods if not pod.deleting and pod.revision != live.update_revision]

    @property
    def broken(self) -> list[int]:
        """Those of the stale that do not run: to give them the newest template takes nobody away.

        A pod that is not ready for no reason that is known may be about to be; it is among them only if no pod above it
        runs an old template, for then it would be next anyway. A node that leaves is not ready, but at work.
        """
        unready = [o for o in self.stale if not self.pods[o].ready and self.state(o) not in GOING]
        running = [o for o in self.stale if o not in unready]
        return [o for o in unready if self.pods[o].reason or o > max(running, default=-1)]

    # --- What is missing ---

    def gaps(self, without: int | None = None) -> list[Gap]:
        """Return what keeps the ring from being whole, one pod left out of the account; nothing if it is whole."""
        return list(self._gaps(without))

    def _gaps(self, without: int | None) -> Iterator[Gap]:
        live = self.seen.statefulset
        if live is None:
            yield Gap("Starting", "there is no StatefulSet yet")
            return
        if not live.observed:
            yield Gap("Starting", "the StatefulSet's controller has not seen the last change yet")
        for ordinal in range(self.replicas):
            if ordinal != without and (gap := self.pod_gap(ordinal)) is not None:
                yield gap
        for pod in self.extra:
            yield Gap("PodStopping", f"{pod.name} is being taken away", ordinal=pod.ordinal)
        yield from self._ring_gaps()

    def pod_gap(self, ordinal: int) -> Gap | None:
        """Return what is wrong with a pod or its node, if anything is."""
        if self.ready(ordinal):
            return self._foreign(ordinal)
        name, pod = self.name(ordinal), self.pods.get(ordinal)
        claim = self.claims.get(ordinal)
        if claim is not None and (gap := self._claim_gap(claim)) is not None:
            return gap
        if pod is None:
            return self._missing(ordinal)
        if pod.deleting:
            return self._stopping(pod)
        if pod.reason == "Unschedulable" and (claim is None or claim.age < CLAIM_PATIENCE):
            # The scheduler says so of every new pod whose volume is still being made.
            return Gap("PodNotReady", f"{name} waits for its claim's volume", ordinal=ordinal)
        if pod.reason:
            return self._trouble(pod)
        if pod.machine_silent:
            advice = f"; Kubernetes sends it nobody until it does (kubectl describe node {pod.machine})"
            about = f"the machine of {name} ({pod.machine}) does not report to Kubernetes"
            return Gap("MachineNotReady", about, advice, ordinal)
        report, answer = self.node(ordinal), self.seen.nodes.get(name)
        if report is not None and report.state != "ready":
            said = f": {'; '.join(report.reasons)}" if report.reasons else ""
            return Gap("NodeNotReady", f"{name} is {report.state}", said, ordinal)
        if report is not None and report.reasons:
            return Gap("NodeNotReady", f"{name} cannot serve", f": {'; '.join(report.reasons)}", ordinal)
        if not pod.ip:
            return Gap("PodNotReady", f"{name} is starting", ordinal=ordinal)
        if report is None:
            said = f" ({answer.error})" if answer and answer.error else ""
            return Gap("NodeSilent", f"the node in {name} does not answer", said, ordinal)
        return Gap("PodNotReady", f"{name} is about to be ready", ordinal=ordinal)

    def _missing(self, ordinal: int) -> Gap:
        live, name = self.seen.statefulset, self.name(ordinal)
        if live is None or name not in live.trouble:
            return Gap("PodMissing", f"{name} is being made", ordinal=ordinal)
        quota = " quota" in live.trouble
        advice = "raise the quota, or ask for less" if quota else "mend what it says"
        said = f": {live.trouble}; {advice} (kubectl describe sts {names.statefulset(self.seen.name)})"
        about = f"Kubernetes does not make {name}"
        return Gap("QuotaExceeded" if quota else "PodRefused", about, said, ordinal, hard=True)

    def _stopping(self, pod: PodView) -> Gap:
        if pod.overdue < OVERDUE_SECONDS:
            return Gap("PodStopping", f"{pod.name} is being stopped", ordinal=pod.ordinal)
        where = f"its machine {pod.machine}" if pod.machine else "its machine"
        advice = (
            f"; bring the machine back, or if it is gone for good: kubectl delete node {pod.machine or 'NAME'}"
            f" (or kubectl delete pod {pod.name} --force)"
        )
        about = f"{pod.name} should have stopped, and {where} does not say that it has"
        return Gap("MachineNotReady", about, advice, pod.ordinal, hard=True)

    def _foreign(self, ordinal: int) -> Gap | None:
        report = self.node(ordinal)
        if report is None or not report.ring_uid or report.ring_uid == self.ring_uid:
            return None
        name = self.name(ordinal)
        advice = f"; its claim {names.claim(self.seen.name, ordinal)} holds data of another ring: move that away"
        about = f"{name} belongs to ring {report.ring_uid}, not to {self.ring_uid}"
        return Gap("ForeignNode", about, advice, ordinal, hard=True)

    def _claim_gap(self, claim: ClaimView) -> Gap | None:
        said = f": {claim.trouble}" if claim.trouble else ""
        if claim.phase == "Lost":
            about = f"the volume of {claim.name} is lost"
            return Gap(
                "ClaimLost", about, "; the node is replaced when the others can spare it", claim.ordinal, hard=True
            )
        if claim.phase == "Pending" and claim.age >= CLAIM_PATIENCE:
            kind = f"storage class {self.spec.storage_class}" if self.spec.storage_class else "default storage class"
            advice = (
                f"; check that the {kind} exists and makes volumes of {claim.size or self.spec.storage_size}"
                f" (kubectl get storageclass; kubectl describe pvc {claim.name})"
            )
            return Gap("ClaimPending", f"the claim {claim.name} is not bound", said + advice, claim.ordinal, hard=True)
        return None

    def _trouble(self, pod: PodView) -> Gap:
        live = self.seen.statefulset
        said = f": {pod.trouble}" if pod.trouble else ""
        if pod.reason in PULL_REASONS:
            newest = live is not None and pod.revision == live.update_revision and self.applied and self.spec.image
            image = f"its image {self.spec.image}" if newest else "its image"
            advice = "; correct spec.image, or see that the machine may pull it"
            return Gap("ImagePullFailed", f"{pod.name} cannot get {image}", said + advice, pod.ordinal, hard=True)
        if pod.reason == "Unschedulable":
            advice = f"; add a machine, or ask for less (kubectl describe pod {pod.name})"
            return Gap("Unschedulable", f"no machine takes {pod.name}", said + advice, pod.ordinal, hard=True)
        if pod.reason == "CrashLoopBackOff":
            advice = f"; its log says why (kubectl logs {pod.name} --previous)"
            return Gap("NodeCrashing", f"{pod.name} ends again and again", said + advice, pod.ordinal, hard=True)
        advice = f"; see kubectl describe pod {pod.name}"
        return Gap("PodFailing", f"{pod.name} does not run ({pod.reason})", said + advice, pod.ordinal, hard=True)

    def warnings(self) -> list[Gap]:
        """Return what is not missing yet but will be: nothing that the operator does waits for it."""
        return [
            self._doomed(claim.name, claim.ordinal)
            for claim in self.seen.claims
            if claim.deleting and claim.phase == "Bound" and claim.ordinal < self.replicas
        ]

    def _doomed(self, claim: str, ordinal: int) -> Gap:
        name = self.name(ordinal)
        about = f"the claim {claim} is being deleted, and goes with its data when {name} stops"
        advice = (
            f"; while no slot is under-replicated, kubectl delete pod {name} brings the node back empty, and the others"
            " give it its copies"
        )
        return Gap("ClaimDeleted", about, advice, ordinal)

    def _ring_gaps(self) -> Iterator[Gap]:
        ring = self.seen.ring
        if ring is None:
            yield Gap("NodesSilent", "no node tells how the ring is")
            return
        if lost := self.without_majority:
            yield Gap(
                "NoMajority", f"{lost} of {counted(ring.slots, 'slot')} have no majority of the nodes that hold them"
            )
        if ring.slots_forming:
            yield Gap(
                "Forming",
                f"{ring.slots_forming} of {counted(ring.slots, 'slot')} wait for {counted(self.factor, 'node')}",
            )
        if ring.slots_under_replicated:
            count = ring.slots_under_replicated
            copies = counted(self.factor, "copy", "copies")
            yield Gap("UnderReplicated", f"{count} of {counted(ring.slots, 'slot')} have fewer than {copies} in sync")

    def since(self, condition: str) -> datetime | None:
        """Return since when a condition of the Ring has been True; None if it is not."""
        for one in self.seen.status.get("conditions", ()):
            if one.get("type") == condition and one.get("status") == "True" and "lastTransitionTime" in one:
                return datetime.fromisoformat(str(one["lastTransitionTime"]).replace("Z", "+00:00"))
        return None
