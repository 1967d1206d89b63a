"""Make a ring smaller: the highest node leaves, and its pod goes only when nothing on it is needed any more."""

from __future__ import annotations

from dataclasses import dataclass, replace

from coterie_protocol.words import counted

from .assessment import Assessment
from .model import Blocked, Leave, Operation, PodView, Step

SOON = 1.0
GRACE_SECONDS = 60.0
"""How long a pod may take to become a member of the ring before it goes as one that never was one."""
BUSY_SECONDS = 15.0
"""How long a node may say `not now` before that counts as blocked."""
SILENT_SECONDS = 120.0
"""How long a node that should leave may be silent before that counts as blocked. A restart takes less, and so do the
others to replace a dead node (they begin after a minute), where they are enough."""


@dataclass(frozen=True)
class Going:
    """What is decided about the node that is to go."""

    replicas: int
    doing: str
    operation: Operation | None
    step: Step | None = None
    blocked: Blocked | None = None
    wake: float | None = SOON


def shrink(assessment: Assessment) -> Going:
    """Decide; the ring has more pods than are wanted."""
    if assessment.extra:
        return Going(assessment.replicas, f"{assessment.extra[0].name} is being taken away", assessment.seen.operation)
    ordinal = assessment.replicas - 1
    pod = assessment.pods.get(ordinal)
    name = assessment.name(ordinal)
    before = assessment.operation("ScaleDown", name)
    if pod is None or pod.deleting:
        operation = before or Operation("ScaleDown", name, "", assessment.now)
        return Going(assessment.replicas, f"{name} is to leave, and is being restarted", operation)
    if before is None or before.pod_uid != pod.uid:
        # A pod of the same name that came later is asked anew, and gets its own time.
        return _Leaver(
            assessment, ordinal, pod, Operation("ScaleDown", name, pod.uid, assessment.now), asked=False
        ).decide()
    return _Leaver(assessment, ordinal, pod, before, asked=True).decide()


class _Leaver:
    """The node that is to go, and the case for it."""

    def __init__(
        self, assessment: Assessment, ordinal: int, pod: PodView, operation: Operation, *, asked: bool
    ) -> None:
        self._assessment = assessment
        self._ordinal = ordinal
        self._pod = pod
        self._operation = operation
        self._asked = asked
        """Whether it may have been asked for this operation; what it refused before that does not matter."""
        self._rest = assessment.gaps(without=ordinal)
        self._state = assessment.state(ordinal)
        limit = assessment.spec.scale_down_timeout
        self._late = (assessment.now - operation.since).total_seconds() >= limit
        self._limit = f"{limit:g} s"

    def decide(self) -> Going:
        """Decide."""
        name, factor = self._pod.name, self._assessment.factor
        if self._state == "left":
            return self._remove(f"{name} has left; its pod goes")
        if self._ordinal < factor:
            more = f"{counted(self._ordinal, 'node')} cannot hold {counted(factor, 'copy', 'copies')} of everything"
            return self._blocked("TooFewNodes", f"{name} must stay: {more}; set replicas to {factor} or more")
        if self._late and self._assessment.spec.scale_down_force and self._others_work():
            return self._remove(f"{name} is taken away without having left in {self._limit}: scaleDown.policy is Force")
        if self._state == "leaving":
            return self._leaving()
        if self._unnamed():
            return self._remove(f"{name} is no member of the ring, and no slot needs it; its pod goes")
        if not self._state:
            return self._silent()
        return self._ask()

    def _leaving(self) -> Going:
        report = self._assessment.node(self._ordinal)
        assert report is not None
        slots = report.slots
        self._operation = replace(self._operation, remaining=slots.users + slots.backups + slots.held)
        doing = f"{self._pod.name} leaves: {counted(self._operation.remaining, 'slot')} to go"
        if not self._late:
            return self._wait(doing, Leave(self._pod.name))
        why = f": {self._rest[0].message}" if self._rest else ""
        what = f"{self._pod.name} has not left within {self._limit}{why}; it goes on, and its pod is kept"
        return self._blocked("LeaveTimeout", f"{what}; to keep the node, raise replicas again", Leave(self._pod.name))

    def _ask(self) -> Going:
        """Ask a node to leave that has not begun to, if the others can do without it."""
        name = self._pod.name
        step = Leave(name)
        if not self._rest and self._state in ("ready", "syncing"):
            said = self._assessment.refusal(self._ordinal, "Leave") or self._refused_before()
            if said and self._asked and not self._busy():
                return self._blocked(
                    "TokenUnknown" if self._assessment.stranger(self._ordinal) else "LeaveRefused",
                    f"{name} refuses to leave: {said}; its pod is kept and it is asked again:"
                    " mend what it says, or raise replicas again",
                    step,
                )
            return self._wait(f"{name} is asked to leave", step)
        own = self._assessment.pod_gap(self._ordinal)
        first = self._rest[0] if self._rest else own
        why = first.message if first is not None else f"{name} is {self._state}"
        if not self._late:
            return self._wait(f"{name} leaves when the ring is whole; {why}")
        reason = "SlotsUnderReplicated" if first is not None and first.reason == "UnderReplicated" else "RingNotWhole"
        return self._blocked(reason, f"{name} cannot leave yet: {why}; it leaves when that is over")

    def _busy(self) -> bool:
        """Whether the node said `not now`, and a moment ago: between two leaves it may not know yet how the ring is."""
        found = self._assessment.seen.refused.get(self._pod.name)
        young = (self._assessment.now - self._operation.since).total_seconds() < BUSY_SECONDS
        return found is not None and found.busy and young

    def _silent(self) -> Going:
        gap = self._assessment.pod_gap(self._ordinal)
        why = gap.message if gap is not None else f"{self._pod.name} does not answer"
        if not self._late and not self._long_down():
            return self._wait(f"{self._pod.name} is to leave, and does not answer; {why}")
        return self._blocked(
            "NodeUnreachable",
            f"{self._pod.name} cannot leave: {why}; mend it, raise replicas again, or set scaleDown.policy to Force,"
            " which gives up what only this node holds",
        )

    # --- What may be ---

    def _unnamed(self) -> bool:
        """Whether the node is none of the ring's, and the ring is whole without it.

        It never joined, or it died and the others have replaced it. Whoever needs it would still name it.
        """
        alive = self._state in ("ready", "syncing")
        return not self._rest and not alive and self._waited() and not self._assessment.members(self._ordinal)

    def _waited(self) -> bool:
        return (self._assessment.now - self._operation.since).total_seconds() >= GRACE_SECONDS

    def _long_down(self) -> bool:
        since = self._assessment.since("Degraded")
        since = max(self._operation.since, since) if since is not None else None
        return since is not None and (self._assessment.now - since).total_seconds() >= SILENT_SECONDS

    def _others_work(self) -> bool:
        """Whether the other pods are all there and work: even a forced end takes no second one away."""
        return all(self._assessment.ready(ordinal) for ordinal in range(self._ordinal))

    def _refused_before(self) -> str:
        """Return what the Ring's status says of a refusal: another operator may have asked."""
        for one in self._assessment.seen.status.get("conditions", ()):
            if one.get("type") == "ScaleDownBlocked" and one.get("reason") == "LeaveRefused":
                head, tail = f"{self._pod.name} refuses to leave: ", "; its pod is kept"
                message = str(one.get("message", ""))
                if one.get("status") == "True" and message.startswith(head):
                    return message.removeprefix(head).split(tail)[0]
        return ""

    # --- What follows ---

    def _remove(self, doing: str) -> Going:
        return Going(self._assessment.replicas - 1, doing, replace(self._operation, remaining=0))

    def _wait(self, doing: str, step: Step | None = None) -> Going:
        return Going(self._assessment.replicas, doing, self._operation, step)

    def _blocked(self, reason: str, message: str, step: Step | None = None) -> Going:
        return Going(self._assessment.replicas, message, self._operation, step, Blocked(reason, message), wake=None)
