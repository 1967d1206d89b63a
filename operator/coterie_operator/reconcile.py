"""The loop of one Ring: it looks at everything, decides, acts, and waits until something is worth a look.

Nothing is carried from one pass to the next but what a restart may forget: which nodes refused a step, what the API
refused, how often it failed. A pass never ends the process; what goes wrong becomes a condition of the Ring.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog

from . import names
from .act import Executor, NameTaken, Outcome, Problem, SecretDamaged, problem
from .admin import Admin, NodeRefused
from .events import Events
from .health import Health
from .kube import RING, Conflict, Kube, KubeError, NotLeader, Object, Unreachable
from .manifests import build, secret, template_hash
from .metrics import Metrics
from .model import Observed, Plan, Refusal, RingSpec, Step
from .observe import look
from .permits import Permits, refusal
from .plan import plan
from .snapshot import Snapshot, operation, statefulset_view
from .spec import SpecError, read_spec
from .status import events, status
from .watch import Key

log = structlog.get_logger()

USUAL_SECONDS = 10.0
"""How often a quiet ring is looked at: nodes tell nobody when they are done, and a lost event must not matter long."""
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
"""Pauses after failures, doubling between these."""
SETTLE_SECONDS = 0.5
"""The least between the beginnings of two passes: what changes together is seen together, nodes are not pestered."""
DEAD_AFTER = 180.0
"""Seconds without one answered pass or list after which the loop counts as dead: three of the longest pauses."""
CONFLICTS = 10
"""So many conflicts one after another are no coincidence: a failure, with its pauses."""


@dataclass(frozen=True)
class Tools:
    """What every pass works with."""

    kube: Kube
    admin: Admin
    events: Events
    metrics: Metrics
    health: Health
    node_image: str
    """For Rings that name none: the operator's own."""
    permits: Permits
    given: Mapping[Key, RingSpec] = field(default_factory=dict)
    """What the operator's settings themselves give a Ring: that much of it needs no other permit."""


class RingLoop:
    """The loop of one Ring."""

    def __init__(
        self, tools: Tools, key: Key, *, clock: Callable[[], float] = time.monotonic, rng: random.Random | None = None
    ) -> None:
        self._tools = tools
        self._namespace, self._name = key
        self.touched = asyncio.Event()
        self._executor = Executor(tools.kube, tools.admin)
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311  (spreads pauses)
        self._problem: Problem | None = None
        """What kept the last pass from doing what it should."""
        self._failures = self._conflicts = 0
        self._answered = True
        """Whether the API answered in the last pass, be it with a refusal."""
        self._refused: dict[str, Refusal] = {}
        self._doing: str | None = None
        self._where = f"{self._namespace}/{self._name}"

    async def run(self) -> None:
        """Look after the Ring until it is gone."""
        part = f"ring {self._where}"
        self._tools.health.expect(part, DEAD_AFTER)
        try:
            while True:
                self.touched.clear()
                began = self._clock()
                pause = await self._once()
                self._tools.metrics.seconds.observe(self._clock() - began)
                if pause is None:
                    return
                if self._answered:
                    self._tools.health.beat(part)
                await self._wait(began, pause)
        finally:
            self._tools.health.drop(part)
            self._tools.metrics.forget(self._namespace, self._name)

    async def _wait(self, began: float, pause: float) -> None:
        """Wait for a touch, at most so long. (A pass often touches its own ring by the status that it writes.)"""
        least = FIRST_PAUSE if self._failures else SETTLE_SECONDS
        await asyncio.sleep(max(0.0, min(pause, began + least - self._clock())))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, began + pause - self._clock())):
                await self.touched.wait()

    async def _once(self) -> float | None:
        """Make one pass; return the seconds until the next, or None when there is no such Ring any more."""
        ring: Object | None = None
        self._answered = True
        try:
            ring = await self._tools.kube.find(RING, self._namespace, self._name)
            if ring is None:
                return None
            # A Ring that is being deleted is Kubernetes' business.
            pause = USUAL_SECONDS if "deletionTimestamp" in ring["metadata"] else await self._pass(ring)
        except (NotLeader, asyncio.CancelledError):
            raise
        except Conflict as error:
            self._conflicts += 1
            log.debug("changed while it was looked at", ring=self._where, error=str(error))
            if self._conflicts < CONFLICTS:
                return SETTLE_SECONDS
            return await self._failed(ring, problem(error))
        except Unreachable as error:
            self._answered = False
            return await self._failed(None, Problem("Unreachable", str(error)))
        except SpecError as error:
            return await self._failed(ring, Problem("InvalidSpec", str(error)))
        except KubeError as error:
            return await self._failed(ring, problem(error))
        except Exception as error:
            log.exception("a pass went wrong", ring=self._where)
            said = f"the operator failed ({type(error).__name__}: {error}); its log says how, it tries again"
            return await self._failed(ring, Problem("InternalError", said))
        self._failures = self._conflicts = 0
        self._tools.metrics.passed(self._namespace, self._name)
        return pause

    async def _pass(self, ring: Object) -> float:
        """Observe, plan, act; return the seconds until the next look. Raises SpecError and KubeError."""
        spec = read_spec(ring, self._tools.node_image)
        snapshot = await look(self._tools.kube, self._tools.admin, self._namespace, self._name)
        observed = self._observed(ring, spec, snapshot)
        decided = plan(observed)
        if decided.doing != self._doing:
            self._doing = decided.doing
            log.info("decided", ring=self._where, doing=decided.doing or "nothing: the ring is as it should be")
        wanted = status(observed, decided)
        ring = await self._write(ring, wanted, decided)
        if decided.changes_nothing:
            return self._spread(decided.wake_after)
        outcome = await self._put(ring, observed, decided, snapshot)
        found = outcome.problems[0] if outcome.problems else None
        if found != self._problem:
            self._problem = found
            ring = await self._write(ring, wanted, decided)
        for one in outcome.problems:
            self._tools.metrics.errors.labels(one.reason).inc()
            log.error("not put in place", ring=self._where, reason=one.reason, error=one.message)
        if decided.step is not None and outcome.essential:
            await self._step(ring, decided.step, snapshot, outcome)
        if outcome.again is not None:
            return outcome.again
        return self._spread(decided.wake_after)

    async def _step(self, ring: Object, step: Step, snapshot: Snapshot, outcome: Outcome) -> None:
        """Take a step, and remember a node's no until it says yes."""
        try:
            if await self._executor.step(ring, step, snapshot, outcome):
                self._refused.pop(step.pod, None)
        except NodeRefused as error:
            uid = next(pod.uid for pod in snapshot.pods if pod.name == step.pod)
            said = str(error)
            if unknown := error.status in (401, 403):
                said = unknown_token(self._name, step.pod)
            refusal = Refusal(uid, type(step).__name__, said, error.code == "busy", unknown)
            if self._refused.get(step.pod) != refusal:
                log.warning("a node refused", ring=self._where, pod=step.pod, step=refusal.step, error=refusal.message)
            self._refused[step.pod] = refusal

    def _observed(self, ring: Object, spec: RingSpec, snapshot: Snapshot) -> Observed:
        metadata, current = ring["metadata"], ring.get("status", {})
        here = {pod.name: pod.uid for pod in snapshot.pods}
        self._refused = {name: one for name, one in self._refused.items() if here.get(name) == one.pod_uid}
        return Observed(
            now=snapshot.now,
            name=self._name,
            namespace=self._namespace,
            uid=metadata["uid"],
            generation=int(metadata["generation"]),
            deleting="deletionTimestamp" in metadata,
            spec=spec,
            status=current,
            template_hash=template_hash(self._name, spec),
            ring_uid=snapshot.recorded_uid or str(current.get("ringUid", "")),
            statefulset=None
            if snapshot.statefulset is None
            else statefulset_view(snapshot.statefulset, snapshot.refused),
            pods=snapshot.pods,
            claims=snapshot.claims,
            nodes=snapshot.nodes,
            ring=snapshot.ring,
            operation=operation(current),
            refused=self._refused,
            refused_spec=refusal(spec, self._tools.permits, self._tools.given.get((self._namespace, self._name))),
        )

    async def _put(self, ring: Object, observed: Observed, decided: Plan, snapshot: Snapshot) -> Outcome:
        try:
            made = await self._executor.put_secret(
                lambda: secret(ring, secrets.token_hex(32), secrets.token_hex(32)), snapshot
            )
            if made and observed.ring_uid:
                name = names.ring_secret(self._name)
                said = f"Secret {name} was gone and is made anew, with another token; nodes read it within two minutes"
                await self._tools.events.say(ring, "Warning", "SecretMadeAnew", said)
        except (Unreachable, Conflict):
            raise
        except (KubeError, NameTaken, SecretDamaged) as error:
            return Outcome([problem(error)], essential=False)
        return await self._executor.put(ring, build(observed, decided), snapshot)

    async def _write(self, ring: Object, wanted: Mapping[str, Any], decided: Plan) -> Object:
        """Write the status if it differs, and tell what is new in it."""
        before = ring.get("status", {})
        after = degraded(wanted, self._problem, before, datetime.now(UTC))
        ring = await self._executor.write_status(ring, after)
        self._show(ring, after)
        notes = [(note.type, note.reason, note.message) for note in events(before, decided, after)]
        if self._problem is not None and not said(before, self._problem):
            notes.append(("Warning", self._problem.reason, self._problem.message))
        for note in dict.fromkeys(notes):
            await self._tools.events.say(ring, *note)
        return ring

    async def _failed(self, ring: Object | None, found: Problem) -> float:
        """Say why a pass ended; return the pause before the next."""
        self._failures += 1
        self._tools.metrics.errors.labels(found.reason).inc()
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self._failures - 1, 10)) * self._rng.uniform(0.75, 1.0)
        log.error(
            "the pass failed", ring=self._where, reason=found.reason, error=found.message, again_in=round(pause, 1)
        )
        if ring is not None:
            await self._tell(found)
        return pause

    async def _tell(self, found: Problem) -> None:
        """Say in the Ring's status why it cannot be looked after. What it said before stays beside it."""
        try:
            ring = await self._tools.kube.get(RING, self._namespace, self._name)
            await self._tell_ring(ring, found)
        except KubeError as error:
            log.error("could not write the status", ring=self._where, error=str(error))

    async def _tell_ring(self, ring: Object, found: Problem) -> None:
        before = ring.get("status", {})
        now = {**before, "observedGeneration": ring["metadata"]["generation"]}
        after = degraded(now, found, before, datetime.now(UTC))
        if not said(before, found):
            await self._tools.events.say(ring, "Warning", found.reason, found.message)
        await self._executor.write_status(ring, after)
        self._show(ring, after)

    def _show(self, ring: Object, current: Mapping[str, Any]) -> None:
        """Give the metrics what the status says."""
        shown = {one["type"]: one["status"] == "True" for one in current.get("conditions", ())}
        self._tools.metrics.conditions(self._namespace, self._name, shown)
        wanted = (ring.get("spec") or {}).get("replicas")
        if isinstance(wanted, int):  # an invalid spec is shown, too
            ready = int(current.get("readyReplicas", 0))
            self._tools.metrics.nodes(self._namespace, self._name, wanted=wanted, ready=ready)

    def _spread(self, wake_after: float | None) -> float:
        """Return when to look again, such that many rings are not looked at all at once."""
        return wake_after if wake_after is not None else USUAL_SECONDS * self._rng.uniform(0.9, 1.1)


def degraded(
    wanted: Mapping[str, Any], found: Problem | None, before: Mapping[str, Any], now: datetime
) -> dict[str, Any]:
    """Return a status that says Degraded because of a problem, or the status itself without one."""
    if found is None:
        return dict(wanted)
    was: Mapping[str, Any] = next((one for one in before.get("conditions", ()) if one["type"] == "Degraded"), {})
    stays = was.get("status") == "True" and "lastTransitionTime" in was
    condition = {
        "type": "Degraded",
        "status": "True",
        "reason": found.reason,
        "message": found.message,
        "lastTransitionTime": was["lastTransitionTime"] if stays else now.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    conditions = {one["type"]: one for one in wanted.get("conditions", ())}
    conditions["Degraded"] = condition
    state = wanted.get("state", "Ready")
    return {**wanted, "state": "Degraded" if state == "Ready" else state, "conditions": list(conditions.values())}


def unknown_token(ring: str, pod: str) -> str:
    """Say why a node takes no changes from the operator, and what to do."""
    return (
        f"it does not know the token in Secret {names.ring_secret(ring)} (was that made anew?); it reads it within two"
        f" minutes; if it is of a release that does not, restart it (kubectl delete pod {pod})"
    )


def said(current: Mapping[str, Any], found: Problem) -> bool:
    """Whether a status says so already."""
    return any(
        one["type"] == "Degraded" and (one.get("reason"), one.get("message")) == (found.reason, found.message)
        for one in current.get("conditions", ())
    )
