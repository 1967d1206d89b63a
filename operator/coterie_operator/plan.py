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
from .model import Blocked, CancelLeave, Move, Observed, Operation, Plan, Replace, Step
from .quantity import quantity
from .rebalance import shift
from .shrink import shrink
from .survey import GOING, Survey

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
    survey = Survey(observed)
    if observed.deleting or observed.spec.paused or observed.refused_spec:
        return _as_it_is(survey)
    if observed.statefulset is None:
        decided, partition = _begin(survey), _first_partition(survey)
    else:
        decided = _decide(survey) if survey.ring_uid else _found(survey)
        partition = _partition(survey, decided.roll)
    return Plan(
        replicas=decided.replicas,
        partition=partition,
        founder=_founder(survey),
        ring_uid=survey.ring_uid,
        operation=decided.operation,
        step=decided.step,
        blocked=decided.blocked,
        doing=decided.doing,
        wake_after=decided.wake,
    )


def _as_it_is(survey: Survey) -> Plan:
    """Change nothing."""
    live = survey.seen.statefulset
    until = "spec.paused is false" if survey.spec.paused else "the Ring asks only for what is allowed"
    return Plan(
        replicas=survey.replicas,
        partition=live.partition if live else 0,
        founder="",
        ring_uid=survey.seen.ring_uid,
        operation=survey.seen.operation,
        doing="" if survey.seen.deleting else f"nothing is changed until {until}",
        changes_nothing=True,
    )


# --- The beginning ----------------------------------------------------------------------------------------------------


def _founder(survey: Survey) -> str:
    """Return who may found the ring: the first pod, unless a ring is known or the claims of others may hold one.

    They may where the first pod's claim is missing, or has been made for it just now: it is empty.
    """
    ages = {claim.ordinal: claim.age for claim in survey.seen.claims if not claim.deleting}
    if survey.ring_uid or (ages and 0 not in ages):
        return ""
    return survey.name(0) if all(age <= ages[0] + TOGETHER_SECONDS for age in ages.values()) else ""


def _begin(survey: Survey) -> _Next:
    """Return how many pods a new StatefulSet begins with."""
    last = max(survey.pods, default=-1)
    if survey.ring_uid:
        # Somebody (or we, to make claims grow) deleted the StatefulSet. A pod that it does not count would be taken
        # away without a leave, so it begins with all there were; then the ring gets its size in the usual way.
        listed = (names.ordinal(survey.seen.name, one.get("name", "")) for one in survey.seen.status.get("members", ()))
        last = max([last, *(ordinal for ordinal in listed if ordinal is not None)])
        replicas = last + 1 or max(survey.wanted, _claimed(survey))
    elif _claimed(survey) > 1:
        replicas = max(survey.wanted, _claimed(survey), last + 1)
    else:
        replicas = max(1, last + 1)
    return _Next(replicas, "the StatefulSet is made", survey.seen.operation, wake=SOON)


def _claimed(survey: Survey) -> int:
    """Return how many pods there must be to use every claim: one of them may hold the only copies of something."""
    return max((claim.ordinal for claim in survey.seen.claims if not claim.deleting), default=-1) + 1


def _first_partition(survey: Survey) -> int:
    """Return a new StatefulSet's partition: pods that are adopted are not restarted by a template that is new."""
    return max(survey.pods, default=-1) + 1


def _found(survey: Survey) -> _Next:
    """Wait for the ring to be founded, or for one of an earlier life to come back."""
    replicas = max(survey.replicas, survey.wanted, _claimed(survey)) if _claimed(survey) > 1 else survey.replicas
    gap = survey.pod_gap(0)
    doing = (
        f"{survey.name(0)} founds the ring"
        if replicas == 1
        else f"{counted(replicas, 'node')} look for the former ring"
    )
    if gap is not None:
        doing += f"; {gap.message}"
    return _Next(replicas, doing, wake=SOON)


# --- The life of a ring -----------------------------------------------------------------------------------------------


def _decide(survey: Survey) -> _Next:
    for decided in (_stay(survey), _replace(survey), _carry_on(survey), _size(survey)):
        if decided is not None:
            return decided
    if survey.stale:
        return _roll(survey)
    if gaps := survey.gaps():
        doing = "; ".join(gap.message for gap in gaps[:3])
        if survey.wanted > survey.replicas:
            doing += f"; then {survey.name(survey.replicas)} comes"
        return _Next(survey.replicas, doing, wake=SOON if survey.forming else WAITING)
    if not survey.applied:
        return _Next(survey.replicas, "the pods get a new template", wake=SOON)
    return _settle(survey) or _balance(survey)


def _stay(survey: Survey) -> _Next | None:
    """Tell a node to stay that is leaving though nobody wants it to, or not yet: one leaves at a time."""
    for ordinal in range(survey.replicas):
        pod = survey.pods.get(ordinal)
        if ordinal == survey.leaver or pod is None or pod.deleting or survey.state(ordinal) not in GOING:
            continue
        refused = survey.refusal(ordinal, "CancelLeave")
        said = f"{pod.name} is to stay, and does not: {refused}" if refused else f"{pod.name} stays after all"
        return _Next(survey.replicas, said, step=CancelLeave(pod.name), wake=SOON)
    return None


def _replace(survey: Survey) -> _Next | None:
    """Give a pod whose volume is lost a new one, once the others can spare it."""
    if (too_large := _too_large(survey)) is not None:
        return too_large
    for ordinal, claim in survey.claims.items():
        if claim.phase != "Lost" or claim.deleting or ordinal >= survey.replicas or ordinal == survey.leaver:
            continue
        pod = survey.pods.get(ordinal)
        name = survey.name(ordinal)
        operation = survey.operation("Replace", name) or Operation("Replace", name, _uid(survey, ordinal), survey.now)
        # A node that works although its volume is gone is as good as any. Where it does not, its slots wait for it.
        due = () if survey.ready(ordinal) else ("UnderReplicated", "Forming", "ClaimLost")
        # Nor does it wait for who leaves: that one may be waiting for this.
        spared = {ordinal, survey.leaver if survey.going else ordinal}
        if gaps := [gap for gap in survey.gaps() if gap.ordinal not in spared and gap.reason not in due]:
            doing = (
                f"the volume of {claim.name} is lost; {name} is replaced once the others are whole: {gaps[0].message}"
            )
            return _Next(survey.replicas, doing, operation, wake=WAITING)
        doing = f"{name} is replaced: the volume of {claim.name} is lost"
        step = Replace(name, pod.uid if pod else "", claim.name)
        return _Next(survey.replicas, doing, operation, step, wake=SOON)
    return None


def _too_large(survey: Survey) -> _Next | None:
    """Give a pod a claim of the size that is wanted now in place of a larger one that was never bound: it is empty."""
    live = survey.seen.statefulset
    wanted = quantity(survey.spec.storage_size)
    if live is None or quantity(live.storage_size) != wanted:
        return None
    for ordinal, claim in survey.claims.items():
        pod = survey.pods.get(ordinal)
        waits = claim.phase == "Pending" and not claim.deleting and ordinal < survey.replicas
        if waits and quantity(claim.size) > wanted and (pod is None or (not pod.ip and not pod.deleting)):
            name = survey.name(ordinal)
            operation = survey.operation("Replace", name) or Operation(
                "Replace", name, _uid(survey, ordinal), survey.now
            )
            doing = f"{name} gets a claim of {survey.spec.storage_size}: the one of {claim.size} was never bound"
            step = Replace(name, pod.uid if pod else "", claim.name)
            return _Next(survey.replicas, doing, operation, step, wake=SOON)
    return None


def _carry_on(survey: Survey) -> _Next | None:
    """Let a step end that was taken before, if it is one that `_size` and the rest do not see to themselves."""
    running = survey.seen.operation
    ordinal = names.ordinal(survey.seen.name, running.target) if running else None
    if running is None or ordinal is None:
        return None
    if survey.leaver is not None:
        # Whoever is to go is not waited for, and what gets stuck must not hide that the ring is to become smaller.
        young = (survey.now - running.since).total_seconds() < STUCK_SECONDS
        going = running.type == "ScaleDown" or ordinal == survey.leaver or survey.going
        if going or not young:
            return None
    elif running.type == "Update" and survey.stale:
        return None
    if running.type == "ScaleDown" and ordinal < survey.replicas:
        return None
    if running.type == "ScaleUp" and ordinal >= survey.replicas:
        return None
    if waits := _unfinished(survey, running, ordinal):
        # The pod that an operation began with is gone where it restarts it; in the others it is still to come.
        operation = replace(running, pod_uid=running.pod_uid or _uid(survey, ordinal))
        return _Next(_at_least(survey), waits, operation, wake=SOON)
    return None


def _unfinished(survey: Survey, running: Operation, ordinal: int) -> str:
    """Say what an operation waits for; nothing when it is done."""
    if gaps := survey.gaps():
        return gaps[0].message
    if (survey.now - running.since).total_seconds() >= FOLLOW_SECONDS:
        return ""
    report = survey.node(ordinal)
    if running.type == "ScaleUp" and report is not None and not report.slots.users + report.slots.backups:
        return f"{running.target} waits for its slots"
    ring = survey.seen.ring
    if running.type == "Rebalance" and ring is not None:
        for member in survey.members(ordinal):
            if member.slots.users != round(member.arc_share * ring.slots):
                return f"the slots follow {running.target} to slot {member.position}"
    return ""


def _settle(survey: Survey) -> _Next | None:
    """Let the slots follow the nodes after an operation: what comes of that would else look like something new."""
    running, ring = survey.seen.operation, survey.seen.ring
    if running is None or ring is None or (survey.now - running.since).total_seconds() >= FOLLOW_SECONDS:
        return None
    late = [member.name for member in ring.members if member.slots.users != round(member.arc_share * ring.slots)]
    if not late:
        return None
    doing = f"the slots follow the nodes: {late[0]} has not yet those of its arc"
    return _Next(survey.replicas, doing, running, wake=SOON)


def _at_least(survey: Survey) -> int:
    """Return how many pods there should be at once: a ring that still forms gets all of its nodes."""
    return max(survey.replicas, survey.wanted) if survey.forming else survey.replicas


def _size(survey: Survey) -> _Next | None:
    """Bring the ring nearer to its size; None when it has it, or when growing has to wait until the ring is whole."""
    if survey.leaver is not None and survey.stale and survey.stranger(survey.leaver):
        return None  # restarted with the new template it knows the token, and can be told to leave
    if survey.leaver is not None:
        going = shrink(survey)
        return _Next(going.replicas, going.doing, going.operation, going.step, going.blocked, wake=going.wake)
    if survey.wanted == survey.replicas:
        return None
    if survey.forming:
        return _Next(survey.wanted, f"the ring forms: all of its {counted(survey.wanted, 'node')} may come", wake=SOON)
    if survey.gaps():
        return None
    name = survey.name(survey.replicas)
    # A pod of this name that is gone was another one: this one's UID is found out when it is there.
    operation = survey.operation("ScaleUp", name) or Operation("ScaleUp", name, "", survey.now)
    return _Next(survey.replicas + 1, f"{name} joins the ring", operation, wake=SOON)


# --- The template -----------------------------------------------------------------------------------------------------


def _partition(survey: Survey, may_roll: bool) -> int:
    """Return from which ordinal on pods run the newest template: the StatefulSet's controller restarts those.

    Not below the highest pod that runs an old template well, unless that one may be next.
    """
    live = survey.seen.statefulset
    assert live is not None
    if live.template_hash != survey.seen.template_hash:
        # Nothing restarts yet: which pods have to is known when the controller has seen the template.
        return live.replicas
    if not live.observed:
        return live.partition
    stale, broken = survey.stale, survey.broken
    running = [ordinal for ordinal in stale if ordinal not in broken]
    if broken:
        # All the broken ones at once if nobody who works is in between. Else the highest alone: the controller takes
        # those that are not ready first, and the gate is shut again as soon as that pod is there anew.
        alone = [ordinal for ordinal in broken if ordinal > max(running, default=-1)]
        return min(alone) if alone else max(broken)
    if not running:
        return 0
    pod = survey.pods.get(live.partition)
    if live.partition < live.replicas and (pod is None or pod.deleting):
        return live.partition  # raised now, it would come back with the old template
    return max(running) if may_roll else max(running) + 1


def _roll(survey: Survey) -> _Next:
    """Give the next pod the newest template once the ring is whole; one that does not become ready stops it there."""
    stale, broken = survey.stale, survey.broken
    left = f"{len(stale)} of {counted(survey.replicas, 'pod')} still to be restarted" if len(stale) > 1 else ""
    running = survey.seen.operation
    if broken:
        target = max(broken)
        doing = f"{survey.name(target)} gets the newest template first: it does not run"
        return _Next(_at_least(survey), doing, _update(survey, target), wake=SOON)
    if gaps := survey.gaps():
        doing = "; ".join(part for part in (gaps[0].message, left) if part)
        kept = running if running is not None and running.type == "Update" else _update(survey, max(stale))
        return _Next(_at_least(survey), doing, kept, wake=SOON)
    target = max(stale)
    doing = "; ".join(part for part in (f"{survey.name(target)} is restarted with the new template", left) if part)
    return _Next(survey.replicas, doing, _update(survey, target), roll=True, wake=SOON)


def _update(survey: Survey, ordinal: int) -> Operation:
    name = survey.name(ordinal)
    found = survey.operation("Update", name)
    return found or Operation("Update", name, _uid(survey, ordinal), survey.now, len(survey.stale))


# --- The balance ------------------------------------------------------------------------------------------------------


def _balance(survey: Survey) -> _Next:
    """Shift a node if the arcs are too uneven, in a ring that is whole."""
    ring = survey.seen.ring
    quiet = _Next(survey.replicas)
    if ring is None or not survey.spec.rebalance:
        return quiet
    places = {member.name: member.position for member in ring.members if member.state == "ready"}
    if len(places) != len(ring.members) or places.keys() != {pod.name for pod in survey.seen.pods}:
        return quiet
    found = shift(places, ring.slots, survey.spec.max_skew)
    if found is None:
        return quiet
    name, position = found
    ordinal = names.ordinal(survey.seen.name, name)
    assert ordinal is not None
    doing = f"{name} moves from slot {places[name]} to {position}, for more even arcs"
    refused = survey.refusal(ordinal, "Move")
    if refused:
        doing += f"; the last time it said: {refused}"
    operation = Operation("Rebalance", name, _uid(survey, ordinal), survey.now)
    if refused:
        operation = survey.operation("Rebalance", name) or operation
    return _Next(survey.replicas, doing, operation, Move(name, position), wake=WAITING if refused else SOON)


def _uid(survey: Survey, ordinal: int) -> str:
    pod = survey.pods.get(ordinal)
    return pod.uid if pod else ""
