"""What a pass of the operator sees, and what it decides: the types between `observe`, `plan` and `act`.

Nothing here does anything. `observe` fills `Observed`, `plan` turns it into a `Plan` without I/O, clock or randomness,
`act` carries the plan out, and `status` says to people what both of them mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from coterie_protocol.admin import NodeReport, RingReport

# --- What the user asked for ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RingSpec:
    """`spec` of a Ring with every default filled in. Kubernetes' own structures are handed through as they are."""

    replicas: int = 3
    replication_factor: int = 3
    slots: int = 1024
    image: str = ""
    image_pull_policy: str = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    storage_size: str = "1Gi"
    storage_class: str | None = None
    """None: the cluster's default class."""
    retain: bool = True
    """Whether claims outlive their nodes, on a scale-down as well as on the deletion of the Ring."""
    discovery: str = "dns"
    """dns or multicast."""
    host_network: bool = False
    rebalance: bool = True
    """`rebalance.mode` is Auto."""
    max_skew: float = 1.2
    """The widest arc over the fair share, above which nodes are shifted."""
    scale_down_timeout: float = 600.0
    """Seconds after which a leave that does not end counts as blocked (Safe) or is cut short (Force)."""
    scale_down_force: bool = False
    """`scaleDown.policy` is Force: a node that cannot leave in time is removed all the same."""
    service_type: str = "ClusterIP"
    service_hosts: tuple[str, ...] = ()
    service: Mapping[str, Any] = field(default_factory=dict)
    """The rest of `spec.service`: annotations, nodePort, loadBalancerClass, …"""
    resources: Mapping[str, Any] = field(default_factory=dict)
    affinity: Mapping[str, Any] = field(default_factory=dict)
    topology_spread_constraints: Sequence[Mapping[str, Any]] | None = None
    """None: pods prefer different hosts."""
    tolerations: Sequence[Mapping[str, Any]] = ()
    node_selector: Mapping[str, str] = field(default_factory=dict)
    pod_disruption_budget: bool = True
    network_policy: bool = True
    scrape_annotations: bool = True
    """`monitoring.annotations`: whether pods tell a Prometheus that and where they can be scraped."""
    scrape_from: Sequence[Mapping[str, Any]] = ({"namespaceSelector": {}},)
    """`monitoring.from`: peers that may reach the admin ports besides ring and operator; all pods of the cluster."""
    paused: bool = False


# --- What there is ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StatefulSetView:
    """The ring's StatefulSet as the API server has it."""

    replicas: int
    partition: int
    template_hash: str
    """The annotation `coterie.chat/template-hash` of the last template applied."""
    current_revision: str
    update_revision: str
    observed: bool
    """Whether its controller has seen the newest generation: until then the revisions are those of the one before."""
    storage_size: str = ""
    """What its claim template asks for."""
    trouble: str = ""
    """Why its controller makes no pods or claims, as far as its newest Warning event says."""


@dataclass(frozen=True)
class PodView:
    """A pod of the ring."""

    name: str
    ordinal: int
    uid: str
    ip: str
    ready: bool
    phase: str
    revision: str
    """The label `controller-revision-hash`."""
    deleting: bool
    trouble: str = ""
    """Why it does not run, for people: a waiting container's reason and message, or why it is not scheduled."""
    reason: str = ""
    """The same as one word, such as ImagePullBackOff, CrashLoopBackOff or Unschedulable."""
    machine: str = ""
    """The name of the machine that it runs on."""
    machine_silent: bool = False
    """Whether Kubernetes took its readiness away although its containers are: that is for a kubelet that is silent."""
    overdue: float = 0.0
    """Seconds since it should have ended, for one that is being deleted."""


@dataclass(frozen=True)
class ClaimView:
    """The claim `data-<ring>-<ordinal>` of a pod."""

    name: str
    ordinal: int
    phase: str
    """Pending, Bound or Lost."""
    deleting: bool
    age: float
    """Seconds since its creation."""
    trouble: str = ""
    """Why it is not bound, as far as its newest Warning event says."""
    size: str = ""
    """What it asks for."""
    capacity: str = ""
    """What it has got; empty for one that is not bound."""
    labelled: bool = True
    """Whether it bears the ring's label. One without was found by its name: the StatefulSet uses it all the same."""


@dataclass(frozen=True)
class Answer:
    """What the node in a pod said: its report, or why there is none."""

    report: NodeReport | None
    error: str = ""


@dataclass(frozen=True)
class Operation:
    """A disruptive step under way, as `status.operation` keeps it over restarts of the operator."""

    type: str
    """ScaleUp, ScaleDown, Rebalance, Update or Replace."""
    target: str
    """The pod's name."""
    pod_uid: str
    """The pod's UID: a pod of the same name that came later is another one. Empty for one that is yet to come."""
    since: datetime
    remaining: int = 0
    """Slots to go, where that is known."""


@dataclass(frozen=True)
class Refusal:
    """A node's no to the last step asked of it. Kept from pass to pass in memory only, until a step succeeds there."""

    pod_uid: str
    step: str
    """The step's class: Leave, CancelLeave or Move."""
    message: str
    """What the node said."""
    busy: bool = False
    """Whether it said: not now."""
    token: bool = False
    """Whether it did not know the token: then it is asked in vain until it does, and no other pod can change that."""


@dataclass(frozen=True)
class Observed:
    """Everything that a decision may rest on, gathered in one pass."""

    now: datetime
    name: str
    namespace: str
    uid: str
    generation: int
    deleting: bool
    spec: RingSpec
    status: Mapping[str, Any]
    """The Ring's status as it stands."""
    template_hash: str
    """Of the pod template that the spec demands now (manifests.template_hash)."""
    ring_uid: str
    """As recorded in the ConfigMap `<ring>-ring` or in status; empty before the founding was seen."""
    statefulset: StatefulSetView | None
    pods: tuple[PodView, ...] = ()
    """By ordinal."""
    claims: tuple[ClaimView, ...] = ()
    """By ordinal."""
    nodes: Mapping[str, Answer] = field(default_factory=dict)
    """By the pod's name, for each pod that has an address."""
    ring: RingReport | None = None
    """The ring as the node sees it that sees most of it; None while no node answers."""
    operation: Operation | None = None
    """status.operation, read."""
    refused: Mapping[str, Refusal] = field(default_factory=dict)
    """By the pod's name. Forgotten when the operator restarts: the step is asked again, and refused again."""
    refused_spec: str = ""
    """What of the spec the operator's settings do not allow (permits.refusal): then nothing of it is applied."""


# --- What is decided --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Leave:
    """Ask a node to leave (POST leave). Idempotent: asked again in every pass until the node says `left`."""

    pod: str


@dataclass(frozen=True)
class CancelLeave:
    """Ask a node to stay after all (POST cancel-leave)."""

    pod: str


@dataclass(frozen=True)
class Move:
    """Ask a node to stand at another position (POST move)."""

    pod: str
    position: int


@dataclass(frozen=True)
class Replace:
    """Delete a claim whose volume is lost, and the pod that waits for it; the StatefulSet makes both anew."""

    pod: str
    pod_uid: str
    claim: str


Step = Leave | CancelLeave | Move | Replace


@dataclass(frozen=True)
class Blocked:
    """Why a scale-down does not go on: reason (CamelCase, for scripts) and message (what, why, what to do next)."""

    reason: str
    message: str


@dataclass(frozen=True)
class Note:
    """Something to be told as an Event."""

    type: str
    """Normal or Warning."""
    reason: str
    message: str


@dataclass(frozen=True)
class Plan:
    """What a pass decides. `replicas` and `partition` are applied with every manifest; at most one `step` is taken.

    The order in `act` is a promise: status (with `operation`) is written first, then the manifests, then the step, so
    that an operator killed at any point finds out from the API alone where it stood.
    """

    replicas: int
    """Of the StatefulSet."""
    partition: int
    """Ordinals from here on run the newest template."""
    founder: str
    """Name of the pod that may found the ring; empty once a ring uid is recorded."""
    ring_uid: str
    """To be recorded; empty while none was seen."""
    operation: Operation | None = None
    step: Step | None = None
    blocked: Blocked | None = None
    """A scale-down that cannot go on."""
    doing: str = ""
    """What is under way or waited for, a sentence for people; empty when the ring is as it should be."""
    changes_nothing: bool = False
    """Whether the ring is left as it is: nothing at all is applied."""
    wake_after: float | None = None
    """Seconds after which to look again although nothing changed; None: the usual time."""
