"""Decide what to do next about a ring: a pure function of what was observed.

A pass takes at most one disruptive step, and in this order of concerns: who should stay and is leaving is told to stay;
a lost volume is replaced; the ring gets its size, then its template, then its balance. Each waits until the ring is
whole (every node ready, every slot owned, served and fully replicated), so that no two pods are ever away at once
because of us. Only what is broken already does not wait: it can lose nothing more.

Nothing is remembered between passes but `status.operation`. Where the StatefulSet's partition belongs follows from the
pods alone, so a new template in the middle of a roll, an eviction or another operator change nothing about how it ends.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from coterie_protocol.words import counted

from . import names
from .assessment import GOING, Assessment
from .model import Blocked, CancelLeave, Move, Observed, Operation, Plan, Replace, Step
from .quantity import quantity
from .rebalance import shift
from .shrink import shrink

SOON = 1.0
"""Seconds after which to look again while something is under way: nodes tell nobody when they are done."""
WAITING = 5.0
"""The same while something is waited for that the operator does not do."""
FOLLOW_SECONDS = 60.0
"""How long the slots may take to begin to follow a node that has joined or moved, before the next may: hand-over begins
a little later, and until then nothing else shows that it is not over."""

TOGETHER_SECONDS = 60.0
"""Claims that were made within so long were made for the same ring: nothing of worth lies on one that is younger."""
STUCK_SECONDS = 120.0
"""After how long an operation that does not end no longer holds up a scale-down."""


@dataclass(frozen=True)
class _Next:
    """What is decided besides the partition."""

    replicas: int
    doing: str = ""
    operation: Operation | None = None
    step: Step | None = None
    blocked: Blocked | None = None
    roll: bool = False
    """Whether the next pod may get the newest template."""
    wake: float | None = None


def plan(observed: Observed) -> Plan:
    """Decide. Never raises: what cannot be done is said in the plan."""
    assessment = Assessment(observed)
    if observed.deleting or observed.spec.paused or observed.refused_spec:
        return _as_it_is(assessment)
    if observed.statefulset is None:
        decided, partition = _begin(assessment), _first_partition(assessment)
    else:
        decided = _decide(assessment) if assessment.ring_uid else _found(assessment)
        partition = _partition(assessment, decided.roll)
    return Plan(
        replicas=decided.replicas,
        partition=partition,
        founder=_founder(assessment),
        ring_uid=assessment.ring_uid,
        operation=decided.operation,
        step=decided.step,
        blocked=decided.blocked,
        doing=decided.doing,
        wake_after=decided.wake,
    )


def _as_it_is(assessment: Assessment) -> Plan:
    """Change nothing."""
    live = assessment.seen.statefulset
    until = "spec.paused is false" if assessment.spec.paused else "the Ring asks only for what is allowed"
    return Plan(
        replicas=assessment.replicas,
        partition=live.partition if live else 0,
        founder="",
        ring_uid=assessment.seen.ring_uid,
        operation=assessment.seen.operation,
        doing="" if assessment.seen.deleting else f"nothing is changed until {until}",
        changes_nothing=True,
    )


# --- The beginning ----------------------------------------------------------------------------------------------------


def _founder(assessment: Assessment) -> str:
    """Return who may found the ring: the first pod, unless a ring is known or the claims of others may hold one.

    They may where the first pod's claim is missing, or has been made for it just now: it is empty.
    """
    ages = {claim.ordinal: claim.age for claim in assessment.seen.claims if not claim.deleting}
    if assessment.ring_uid or (ages and 0 not in ages):
        return ""
    return assessment.name(0) if all(age <= ages[0] + TOGETHER_SECONDS for age in ages.values()) else ""


def _begin(assessment: Assessment) -> _Next:
    """Return how many pods a new StatefulSet begins with."""
    last = max(assessment.pods, default=-1)
    if assessment.ring_uid:
        # Somebody (or we, to make claims grow) deleted the StatefulSet. A pod that it does not count would be taken
        # away without a leave, so it begins with all there were; then the ring gets its size in the usual way.
        listed = (
            names.ordinal(assessment.seen.name, one.get("name", ""))
            for one in assessment.seen.status.get("members", ())
        )
        last = max([last, *(ordinal for ordinal in listed if ordinal is not None)])
        replicas = last + 1 or max(assessment.wanted, _claimed(assessment))
    elif _claimed(assessment) > 1:
        replicas = max(assessment.wanted, _claimed(assessment), last + 1)
    else:
        replicas = max(1, last + 1)
    return _Next(replicas, "the StatefulSet is made", assessment.seen.operation, wake=SOON)


def _claimed(assessment: Assessment) -> int:
    """Return how many pods there must be to use every claim: one of them may hold the only copies of something."""
    return max((claim.ordinal for claim in assessment.seen.claims if not claim.deleting), default=-1) + 1


def _first_partition(assessment: Assessment) -> int:
    """Return a new StatefulSet's partition: pods that are adopted are not restarted by a template that is new."""
    return max(assessment.pods, default=-1) + 1


def _found(assessment: Assessment) -> _Next:
    """Wait for the ring to be founded, or for one of an earlier life to come back."""
    replicas = (
        max(assessment.replicas, assessment.wanted, _claimed(assessment))
        if _claimed(assessment) > 1
        else assessment.replicas
    )
    gap = assessment.pod_gap(0)
    doing = (
        f"{assessment.name(0)} founds the ring"
        if replicas == 1
        else f"{counted(replicas, 'node')} look for the former ring"
    )
    if gap is not None:
        doing += f"; {gap.message}"
    return _Next(replicas, doing, wake=SOON)


# --- The life of a ring -----------------------------------------------------------------------------------------------


def _decide(assessment: Assessment) -> _Next:
    for decided in (_stay(assessment), _replace(assessment), _carry_on(assessment), _size(assessment)):
        if decided is not None:
            return decided
    if assessment.stale:
        return _roll(assessment)
    if gaps := assessment.gaps():
        doing = "; ".join(gap.message for gap in gaps[:3])
        if assessment.wanted > assessment.replicas:
            doing += f"; then {assessment.name(assessment.replicas)} comes"
        return _Next(assessment.replicas, doing, wake=SOON if assessment.forming else WAITING)
    if not assessment.applied:
        return _Next(assessment.replicas, "the pods get a new template", wake=SOON)
    return _settle(assessment) or _balance(assessment)


def _stay(assessment: Assessment) -> _Next | None:
    """Tell a node to stay that is leaving though nobody wants it to, or not yet: one leaves at a time."""
    for ordinal in range(assessment.replicas):
        pod = assessment.pods.get(ordinal)
        if ordinal == assessment.leaver or pod is None or pod.deleting or assessment.state(ordinal) not in GOING:
            continue
        refused = assessment.refusal(ordinal, "CancelLeave")
        said = f"{pod.name} is to stay, and does not: {refused}" if refused else f"{pod.name} stays after all"
        return _Next(assessment.replicas, said, step=CancelLeave(pod.name), wake=SOON)
    return None


def _replace(assessment: Assessment) -> _Next | None:
    """Give a pod whose volume is lost a new one, once the others can spare it."""
    if (too_large := _too_large(assessment)) is not None:
        return too_large
    for ordinal, claim in assessment.claims.items():
        if claim.phase != "Lost" or claim.deleting or ordinal >= assessment.replicas or ordinal == assessment.leaver:
            continue
        pod = assessment.pods.get(ordinal)
        name = assessment.name(ordinal)
        operation = assessment.operation("Replace", name) or Operation(
            "Replace", name, _uid(assessment, ordinal), assessment.now
        )
        # A node that works although its volume is gone is as good as any. Where it does not, its slots wait for it.
        due = () if assessment.ready(ordinal) else ("UnderReplicated", "Forming", "ClaimLost")
        # Nor does it wait for who leaves: that one may be waiting for this.
        spared = {ordinal, assessment.leaver if assessment.going else ordinal}
        if gaps := [gap for gap in assessment.gaps() if gap.ordinal not in spared and gap.reason not in due]:
            doing = (
                f"the volume of {claim.name} is lost; {name} is replaced once the others are whole: {gaps[0].message}"
            )
            return _Next(assessment.replicas, doing, operation, wake=WAITING)
        doing = f"{name} is replaced: the volume of {claim.name} is lost"
        step = Replace(name, pod.uid if pod else "", claim.name)
        return _Next(assessment.replicas, doing, operation, step, wake=SOON)
    return None


def _too_large(assessment: Assessment) -> _Next | None:
    """Give a pod a claim of the size that is wanted now in place of a larger one that was never bound: it is empty."""
    live = assessment.seen.statefulset
    wanted = quantity(assessment.spec.storage_size)
    if live is None or quantity(live.storage_size) != wanted:
        return None
    for ordinal, claim in assessment.claims.items():
        pod = assessment.pods.get(ordinal)
        waits = claim.phase == "Pending" and not claim.deleting and ordinal < assessment.replicas
        if waits and quantity(claim.size) > wanted and (pod is None or (not pod.ip and not pod.deleting)):
            name = assessment.name(ordinal)
            operation = assessment.operation("Replace", name) or Operation(
                "Replace", name, _uid(assessment, ordinal), assessment.now
            )
            doing = f"{name} gets a claim of {assessment.spec.storage_size}: the one of {claim.size} was never bound"
            step = Replace(name, pod.uid if pod else "", claim.name)
            return _Next(assessment.replicas, doing, operation, step, wake=SOON)
    return None


def _carry_on(assessment: Assessment) -> _Next | None:
    """Let a step end that was taken before, if it is one that `_size` and the rest do not see to themselves."""
    running = assessment.seen.operation
    ordinal = names.ordinal(assessment.seen.name, running.target) if running else None
    if running is None or ordinal is None:
        return None
    if assessment.leaver is not None:
        # Whoever is to go is not waited for, and what gets stuck must not hide that the ring is to become smaller.
        young = (assessment.now - running.since).total_seconds() < STUCK_SECONDS
        going = running.type == "ScaleDown" or ordinal == assessment.leaver or assessment.going
        if going or not young:
            return None
    elif running.type == "Update" and assessment.stale:
        return None
    if running.type == "ScaleDown" and ordinal < assessment.replicas:
        return None
    if running.type == "ScaleUp" and ordinal >= assessment.replicas:
        return None
    if waits := _unfinished(assessment, running, ordinal):
        # The pod that an operation began with is gone where it restarts it; in the others it is still to come.
        operation = replace(running, pod_uid=running.pod_uid or _uid(assessment, ordinal))
        return _Next(_at_least(assessment), waits, operation, wake=SOON)
    return None


def _unfinished(assessment: Assessment, running: Operation, ordinal: int) -> str:
    """Say what an operation waits for; nothing when it is done."""
    if gaps := assessment.gaps():
        return gaps[0].message
    if (assessment.now - running.since).total_seconds() >= FOLLOW_SECONDS:
        return ""
    report = assessment.node(ordinal)
    if running.type == "ScaleUp" and report is not None and not report.slots.users + report.slots.backups:
        return f"{running.target} waits for its slots"
    ring = assessment.seen.ring
    if running.type == "Rebalance" and ring is not None:
        for member in assessment.members(ordinal):
            if member.slots.users != round(member.arc_share * ring.slots):
                return f"the slots follow {running.target} to slot {member.position}"
    return ""


def _settle(assessment: Assessment) -> _Next | None:
    """Let the slots follow the nodes after an operation: what comes of that would else look like something new."""
    running, ring = assessment.seen.operation, assessment.seen.ring
    if running is None or ring is None or (assessment.now - running.since).total_seconds() >= FOLLOW_SECONDS:
        return None
    late = [member.name for member in ring.members if member.slots.users != round(member.arc_share * ring.slots)]
    if not late:
        return None
    doing = f"the slots follow the nodes: {late[0]} has not yet those of its arc"
    return _Next(assessment.replicas, doing, running, wake=SOON)


def _at_least(assessment: Assessment) -> int:
    """Return how many pods there should be at once: a ring that still forms gets all of its nodes."""
    return max(assessment.replicas, assessment.wanted) if assessment.forming else assessment.replicas


def _size(assessment: Assessment) -> _Next | None:
    """Bring the ring nearer to its size; None when it has it, or when growing has to wait until the ring is whole."""
    if assessment.leaver is not None and assessment.stale and assessment.stranger(assessment.leaver):
        return None  # restarted with the new template it knows the token, and can be told to leave
    if assessment.leaver is not None:
        going = shrink(assessment)
        return _Next(going.replicas, going.doing, going.operation, going.step, going.blocked, wake=going.wake)
    if assessment.wanted == assessment.replicas:
        return None
    if assessment.forming:
        return _Next(
            assessment.wanted, f"the ring forms: all of its {counted(assessment.wanted, 'node')} may come", wake=SOON
        )
    if assessment.gaps():
        return None
    name = assessment.name(assessment.replicas)
    # A pod of this name that is gone was another one: this one's UID is found out when it is there.
    operation = assessment.operation("ScaleUp", name) or Operation("ScaleUp", name, "", assessment.now)
    return _Next(assessment.replicas + 1, f"{name} joins the ring", operation, wake=SOON)


# --- The template -----------------------------------------------------------------------------------------------------


def _partition(assessment: Assessment, may_roll: bool) -> int:
    """Return from which ordinal on pods run the newest template: the StatefulSet's controller restarts those.

    Not below the highest pod that runs an old template well, unless that one may be next.
    """
    live = assessment.seen.statefulset
    assert live is not None
    if live.template_hash != assessment.seen.template_hash:
        # Nothing restarts yet: which pods have to is known when the controller has seen the template.
        return live.replicas
    if not live.observed:
        return live.partition
    stale, broken = assessment.stale, assessment.broken
    running = [ordinal for ordinal in stale if ordinal not in broken]
    if broken:
        # All the broken ones at once if nobody who works is in between. Else the highest alone: the controller takes
        # those that are not ready first, and the gate is shut again as soon as that pod is there anew.
        alone = [ordinal for ordinal in broken if ordinal > max(running, default=-1)]
        return min(alone) if alone else max(broken)
    if not running:
        return 0
    pod = assessment.pods.get(live.partition)
    if live.partition < live.replicas and (pod is None or pod.deleting):
        return live.partition  # raised now, it would come back with the old template
    return max(running) if may_roll else max(running) + 1


def _roll(assessment: Assessment) -> _Next:
    """Give the next pod the newest template once the ring is whole; one that does not become ready stops it there."""
    stale, broken = assessment.stale, assessment.broken
    left = f"{len(stale)} of {counted(assessment.replicas, 'pod')} still to be restarted" if len(stale) > 1 else ""
    running = assessment.seen.operation
    if broken:
        target = max(broken)
        doing = f"{assessment.name(target)} gets the newest template first: it does not run"
        return _Next(_at_least(assessment), doing, _update(assessment, target), wake=SOON)
    if gaps := assessment.gaps():
        doing = "; ".join(part for part in (gaps[0].message, left) if part)
        kept = running if running is not None and running.type == "Update" else _update(assessment, max(stale))
        return _Next(_at_least(assessment), doing, kept, wake=SOON)
    target = max(stale)
    doing = "; ".join(part for part in (f"{assessment.name(target)} is restarted with the new template", left) if part)
    return _Next(assessment.replicas, doing, _update(assessment, target), roll=True, wake=SOON)


def _update(assessment: Assessment, ordinal: int) -> Operation:
    name = assessment.name(ordinal)
    found = assessment.operation("Update", name)
    return found or Operation("Update", name, _uid(assessment, ordinal), assessment.now, len(assessment.stale))


# --- The balance ------------------------------------------------------------------------------------------------------


def _balance(assessment: Assessment) -> _Next:
    """Shift a node if the arcs are too uneven, in a ring that is whole."""
    ring = assessment.seen.ring
    quiet = _Next(assessment.replicas)
    if ring is None or not assessment.spec.rebalance:
        return quiet
    places = {member.name: member.position for member in ring.members if member.state == "ready"}
    if len(places) != len(ring.members) or places.keys() != {pod.name for pod in assessment.seen.pods}:
        return quiet
    found = shift(places, ring.slots, assessment.spec.max_skew)
    if found is None:
        return quiet
    name, position = found
    ordinal = names.ordinal(assessment.seen.name, name)
    assert ordinal is not None
    doing = f"{name} moves from slot {places[name]} to {position}, for more even arcs"
    refused = assessment.refusal(ordinal, "Move")
    if refused:
        doing += f"; the last time it said: {refused}"
    operation = Operation("Rebalance", name, _uid(assessment, ordinal), assessment.now)
    if refused:
        operation = assessment.operation("Rebalance", name) or operation
    return _Next(assessment.replicas, doing, operation, Move(name, position), wake=WAITING if refused else SOON)


def _uid(assessment: Assessment, ordinal: int) -> str:
    pod = assessment.pods.get(ordinal)
    return pod.uid if pod else ""
