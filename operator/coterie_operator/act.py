"""Carry out a plan: the status first, then the manifests, then at most one step at a node.

The order is `model.Plan`'s promise. Everything here may be done twice, and may be cut short anywhere: the next pass
looks again and goes on. Only what differs is written.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from . import names
from .admin import Admin, NodeError, NodeRefused
from .kube import (
    BUDGET,
    CLAIM,
    KINDS,
    NETWORK_POLICY,
    POD,
    RING,
    SECRET,
    STATEFUL_SET,
    Conflict,
    Denied,
    Forbidden,
    Invalid,
    Kind,
    Kube,
    KubeError,
    Object,
    Unreachable,
)
from .model import CancelLeave, Leave, Move, PodView, Replace, Step
from .quantity import quantity
from .snapshot import Snapshot, storage_size

log = structlog.get_logger()

RESYNC_SECONDS = 30.0
"""How long a part that is not watched (a Service, say) may differ before it is applied again; where nothing differs,
that writes nothing."""
SOON = 0.5
"""Seconds after which to look again at what the API is about to finish."""
OPTIONAL = {"PodDisruptionBudget": BUDGET, "NetworkPolicy": NETWORK_POLICY}
"""Parts that a Ring can be told to do without."""
NEWER = frozenset({"storageSize"})
"""Fields of the status that the definition of 0.1.0 does not have."""
ESSENTIAL = ("StatefulSet", "ConfigMap", "Secret")
"""Parts without which no step is taken."""
GUARD = re.compile(r"ValidatingAdmissionPolicy '([-.a-z0-9]+\.coterie\.chat)'")
"""Finds, in what the API server says, the chart's guard of StatefulSets, whose advice is for people."""


@dataclass(frozen=True)
class Problem:
    """What keeps a ring from being as its spec says: reason (CamelCase) and message, as in a condition."""

    reason: str
    message: str


@dataclass
class Outcome:
    """How carrying out went."""

    problems: list[Problem] = field(default_factory=list)
    again: float | None = None
    """Seconds after which to look again; None: when the plan says."""
    essential: bool = True
    """Whether the parts are there that a step rests on."""


@dataclass(frozen=True)
class _Applied:
    digest: str
    generation: int
    uid: str
    at: float


class NameTaken(Exception):
    """Something that is not the ring's has a name that the ring needs."""


class SecretDamaged(Exception):
    """The ring's Secret lacks what the operator and the nodes need from it."""


def problem(error: KubeError | NameTaken | SecretDamaged) -> Problem:
    """Say in a condition's terms why something could not be put in place."""
    if isinstance(error, SecretDamaged):
        return Problem("SecretDamaged", str(error))
    if isinstance(error, Denied) and (guard := GUARD.search(str(error))):
        return Problem("GuardRefuses", _guarded(guard.group(1), error))
    if isinstance(error, NameTaken):
        return Problem("NameTaken", str(error))
    return Problem("OperatorForbidden" if isinstance(error, Forbidden) else "ApplyFailed", str(error))


class Executor:
    """Carries out the plans for one Ring. It remembers what it applied, so that a steady state costs no writes."""

    def __init__(self, kube: Kube, admin: Admin, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._kube = kube
        self._admin = admin
        self._clock = clock
        self._applied: dict[tuple[str, str], _Applied] = {}
        self._absent: set[str] = set()

    async def write_status(self, ring: Object, status: Mapping[str, Any]) -> Object:
        """Write the status if it differs; return the Ring as it is then. Raises Conflict if the Ring has changed."""
        if _unordered(ring.get("status", {})) == _unordered(status):
            return ring
        try:
            return await self._kube.apply_status(ring, status)
        except Invalid as error:
            if not (newer := NEWER & status.keys()):
                raise
            # The definition is an older chart's: it is put there by others (crd.upgrade=false), and later than this.
            log.warning("the definition of Ring is older than this operator", lacks=sorted(newer), error=str(error))
            return await self._kube.apply_status(ring, {key: one for key, one in status.items() if key not in newer})

    async def put_secret(self, manifest: Callable[[], Object], snapshot: Snapshot) -> bool:
        """Make the ring's Secret if there is none, and say whether it was made. It is never written again.

        Raises NameTaken and SecretDamaged.
        """
        if snapshot.secret is None:
            try:
                await self._kube.create(SECRET, manifest())
            except Conflict:
                log.debug("the secret exists already")
                return False
            return True
        metadata = snapshot.secret["metadata"]
        if metadata.get("labels", {}).get(names.RING_LABEL) is None:
            raise NameTaken(_taken(SECRET, metadata["namespace"], metadata["name"]))
        if missing := [key for key in (names.ADMIN_TOKEN_KEY, names.SECRET_KEY) if not _secret(snapshot.secret, key)]:
            raise SecretDamaged(
                f"Secret {metadata['name']} has no {' and no '.join(missing)}: delete it, and it is made anew"
                f" (kubectl -n {metadata['namespace']} delete secret {metadata['name']})"
            )
        return False

    async def put(self, ring: Object, manifests: Sequence[Object], snapshot: Snapshot) -> Outcome:
        """Apply what differs and delete what the spec does without. What the API refuses does not stop the rest.

        Raises Unreachable and Conflict: then nothing is known, and the pass is to begin again.
        """
        outcome = Outcome()
        for manifest in manifests:
            kind = str(manifest["kind"])
            try:
                if kind == "StatefulSet":
                    await self._label_claims(ring, manifest, snapshot)
                    await self._grow_claims(ring, manifest, snapshot, outcome)
                    await self._put_statefulset(ring, manifest, snapshot, outcome)
                else:
                    await self._put(ring, manifest)
            except (Unreachable, Conflict):
                raise
            except (KubeError, NameTaken) as error:
                outcome.problems.append(problem(error))
                outcome.essential &= kind not in ESSENTIAL
        try:
            await self._delete_optional(ring, manifests)
        except Forbidden as error:
            outcome.problems.append(problem(error))
        return outcome

    async def step(self, ring: Object, step: Step, snapshot: Snapshot, outcome: Outcome) -> bool:
        """Take a step, unless the Ring has changed since it was read; say whether it was taken.

        Raises KubeError, and NodeRefused when a node says no.
        """
        live = await self._kube.find(RING, ring["metadata"]["namespace"], ring["metadata"]["name"])
        if live is None or _version(live) != _version(ring):
            outcome.again = 0.0
            return False
        if isinstance(step, Replace):
            await self._replace(ring["metadata"]["namespace"], step, snapshot)
            return True
        pod = next((pod for pod in snapshot.pods if pod.name == step.pod), None)
        if pod is None or not pod.ip or snapshot.secret is None:
            outcome.again = SOON
            return False
        try:
            await self._ask(step, pod, _token(snapshot.secret))
        except NodeRefused:
            raise
        except NodeError as error:
            # The next pass sees what became of it, and asks again if nothing did.
            log.warning("a node did not answer", pod=pod.name, step=type(step).__name__, error=str(error))
            return False
        log.info("asked a node", pod=pod.name, step=type(step).__name__)
        return True

    async def _ask(self, step: Leave | CancelLeave | Move, pod: PodView, token: str) -> None:
        if isinstance(step, Leave):
            await self._admin.leave(pod.ip, token)
        elif isinstance(step, CancelLeave):
            await self._admin.cancel_leave(pod.ip, token)
        else:
            await self._admin.move(pod.ip, token, step.position)

    async def _replace(self, namespace: str, step: Replace, snapshot: Snapshot) -> None:
        """Delete a claim and its pod: the claim goes once no pod uses it, and the pod comes back with a new one."""
        log.warning("replacing a pod and its claim", pod=step.pod, claim=step.claim)
        await self._kube.delete(CLAIM, namespace, step.claim)
        if step.pod_uid and any(pod.uid == step.pod_uid for pod in snapshot.pods):
            await self._kube.delete(POD, namespace, step.pod, uid=step.pod_uid)

    async def _put(self, ring: Object, manifest: Object, live: Object | None = None) -> None:
        """Apply a manifest unless that was done a moment ago and, as far as `live` shows, still stands."""
        key = (str(manifest["kind"]), str(manifest["metadata"]["name"]))
        digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
        before = self._applied.get(key)
        if before is not None and before.digest == digest and self._clock() < before.at + RESYNC_SECONDS:
            shown = (before.uid, before.generation)
            if live is None or (live["metadata"]["uid"], live["metadata"].get("generation", 0)) == shown:
                return
        if before is None:
            await self._check_name(ring, KINDS[key[0]], key[1])
        made = await self._kube.apply(manifest)
        metadata = made["metadata"]
        self._applied[key] = _Applied(digest, int(metadata.get("generation", 0)), metadata["uid"], self._clock())
        self._absent.discard(key[0])

    async def _check_name(self, ring: Object, kind: Kind, name: str) -> Object | None:
        """Return what bears the name. Raises NameTaken if that is not a ring's: it must not be overwritten."""
        metadata = ring["metadata"]
        live = await self._kube.find(kind, metadata["namespace"], name)
        if live is None or live["metadata"].get("labels", {}).get(names.RING_LABEL) == metadata["name"]:
            return live
        raise NameTaken(_taken(kind, metadata["namespace"], name))

    async def _put_statefulset(self, ring: Object, manifest: Object, snapshot: Snapshot, outcome: Outcome) -> None:
        live = snapshot.statefulset
        if live is not None and "deletionTimestamp" in live["metadata"]:
            # Applied now, it would be gone with the rest in a moment; its pods stay and are adopted.
            outcome.again = SOON
            return
        if live is None:
            self._applied.pop(("StatefulSet", manifest["metadata"]["name"]), None)
        elif quantity(storage_size(manifest)) != quantity(storage_size(live)):
            # The API takes no change of a claim template: the StatefulSet goes without its pods, and the next pass
            # makes it anew; it adopts them without a restart.
            await self._check_name(ring, STATEFUL_SET, manifest["metadata"]["name"])
            name, uid = live["metadata"]["name"], live["metadata"]["uid"]
            log.info("making the StatefulSet anew, its pods stay", statefulset=name, storage=storage_size(manifest))
            await self._kube.delete(STATEFUL_SET, ring["metadata"]["namespace"], name, uid=uid, orphan=True)
            outcome.again = SOON
            return
        await self._put(ring, manifest, live)

    async def _label_claims(self, ring: Object, manifest: Object, snapshot: Snapshot) -> None:
        """Give claims that were found by their names the labels that the others have: they are watched by these."""
        wanted = manifest["spec"]["volumeClaimTemplates"][0]["metadata"]["labels"]
        for claim in snapshot.claims:
            if not claim.labelled and not claim.deleting:
                log.info("a claim of the ring had lost its labels", claim=claim.name)
                await self._kube.merge(
                    CLAIM, ring["metadata"]["namespace"], claim.name, {"metadata": {"labels": wanted}}
                )

    async def _grow_claims(self, ring: Object, manifest: Object, snapshot: Snapshot, outcome: Outcome) -> None:
        """Make the claims of wanted nodes as large as the template says. A refusal is told, and stops nothing.

        One that is larger stays so: claims cannot shrink.
        """
        size = storage_size(manifest)
        patch = {"spec": {"resources": {"requests": {"storage": size}}}}
        for claim in snapshot.claims:
            due = claim.ordinal < int(manifest["spec"]["replicas"]) and claim.phase == "Bound" and not claim.deleting
            if due and quantity(claim.size) < quantity(size):
                try:
                    await self._kube.merge(CLAIM, ring["metadata"]["namespace"], claim.name, patch)
                except Forbidden as error:
                    outcome.problems.append(problem(error))
                except (Denied, Invalid) as error:
                    outcome.problems.append(
                        Problem("ClaimCannotGrow", _cannot_grow(claim.name, claim.size, size, error))
                    )

    async def _delete_optional(self, ring: Object, manifests: Sequence[Object]) -> None:
        wanted = {str(manifest["kind"]) for manifest in manifests}
        namespace, name = ring["metadata"]["namespace"], ring["metadata"]["name"]
        for kind_name, kind in OPTIONAL.items():
            if kind_name in wanted or kind_name in self._absent:
                continue
            live = await self._kube.find(kind, namespace, name)
            if live is not None and live["metadata"].get("labels", {}).get(names.RING_LABEL) == name:
                await self._kube.delete(kind, namespace, name, uid=live["metadata"]["uid"])
            self._applied.pop((kind_name, name), None)
            self._absent.add(kind_name)


def _unordered(status: Mapping[str, Any]) -> dict[str, Any]:
    """Return a status whose conditions have no order: the API keeps its own."""
    return {**status, "conditions": {one["type"]: one for one in status.get("conditions", ())}}


def _guarded(guard: str, error: KubeError) -> str:
    return (
        f"the guard {guard} does not let this operator pass ({error.what}): it is of an older chart or of another"
        " release; upgrade that release, or if it is gone: kubectl delete validatingadmissionpolicy,"
        f"validatingadmissionpolicybinding {guard}"
    )


def _cannot_grow(claim: str, has: str, wanted: str, error: KubeError) -> str:
    return (
        f"the claim {claim} has {has} and does not get {wanted}: {error}; set storage.size back to {has},"
        " or let its storage class grow claims (allowVolumeExpansion: true)"
    )


def _taken(kind: Kind, namespace: str, name: str) -> str:
    return f"{kind.plural} {namespace}/{name} exists and is not of this ring; delete it, or give the Ring another name"


def _version(ring: Object) -> tuple[str, int, bool]:
    metadata = ring["metadata"]
    return metadata["uid"], int(metadata.get("generation", 0)), "deletionTimestamp" in metadata


def _token(secret: Object) -> str:
    return _secret(secret, names.ADMIN_TOKEN_KEY)


def _secret(secret: Object, key: str) -> str:
    """Return a text in a Secret; empty if there is none, or bytes that are no text."""
    return base64.b64decode((secret.get("data") or {}).get(key, "")).decode(errors="ignore").strip()
