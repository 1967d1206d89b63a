"""A Kubernetes and a ring small enough for properties: a StatefulSet's controller, pods, claims, nodes; no I/O.

One `tick` is two seconds. The toy checks the promises that must hold at every moment; the tests check where it ends.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime

from tests.unit.operator_.toy_parts import (
    HAND_OVER,
    LEAVE,
    NOTHING,
    REPLACE_AFTER,
    SLOTS,
    START,
    STOP,
    TICK,
    Node,
    Pod,
    Set,
)

from coterie_operator import names
from coterie_operator.model import (
    Answer,
    CancelLeave,
    ClaimView,
    Leave,
    Move,
    Note,
    Observed,
    Plan,
    PodView,
    Refusal,
    Replace,
    RingSpec,
    StatefulSetView,
)
from coterie_operator.plan import plan
from coterie_operator.rebalance import arcs
from coterie_operator.snapshot import operation
from coterie_operator.status import events, status
from coterie_protocol.admin import Member, NodeReport, RingReport, SlotCounts


@dataclass
class Toy:
    """All of it. `spec` and `template` are what the user asks for."""

    spec: RingSpec
    template: str = "a"
    generation: int = 1
    now: datetime = START
    statefulset: Set | None = None
    pods: dict[int, Pod] = field(default_factory=dict)
    nodes: dict[int, Node] = field(default_factory=dict)
    lost: set[int] = field(default_factory=set)
    recorded: str = ""
    founder: str = ""
    formed: bool = False
    hand_over: int = 0
    status: dict[str, object] = field(default_factory=dict)
    refuses: bool = False
    refused: dict[str, Refusal] = field(default_factory=dict)
    controller_away: int = 0
    uids: int = 0
    notes: list[Note] = field(default_factory=list)
    last: Plan | None = None
    writes: int = 0

    # --- The nodes and their ring ---

    def uid(self, kind: str) -> str:
        self.uids += 1
        return f"{kind}-{self.uids}"

    def alive(self, ordinal: int) -> bool:
        pod = self.pods.get(ordinal)
        return pod is not None and pod.up and ordinal in self.nodes

    def members(self) -> list[int]:
        """Ordinals of the members, round the circle."""
        found = [ordinal for ordinal, node in self.nodes.items() if node.member]
        return sorted(found, key=lambda ordinal: self.nodes[ordinal].position)

    def live(self) -> list[int]:
        return [ordinal for ordinal in self.members() if self.alive(ordinal)]

    def state(self, ordinal: int) -> str:
        node = self.nodes[ordinal]
        if not node.member:
            return "joining"
        if node.leaving:
            return "leaving" if node.to_go else "left"
        return "ready" if self.formed else "forming"

    def under_replicated(self) -> int:
        named = [ordinal for ordinal in self.members() if self.nodes[ordinal].to_go or not self.nodes[ordinal].leaving]
        dead = sum(not self.alive(ordinal) for ordinal in named)
        return 20 * dead + 10 * bool(self.hand_over) if self.formed else 0

    def report(self) -> RingReport | None:
        live = self.live()
        if not live:
            return None
        positions = [self.nodes[ordinal].position for ordinal in live]
        widths = dict(zip(live, arcs(positions, SLOTS), strict=True))
        members = []
        for ordinal in self.members():
            node, up = self.nodes[ordinal], ordinal in widths
            users = widths.get(ordinal, 0) + bool(self.hand_over) if not node.leaving else node.to_go
            members.append(
                Member(
                    uid=node.uid,
                    name=names.pod("main", ordinal),
                    position=node.position,
                    position_ratio=node.position / SLOTS,
                    arc_share=widths.get(ordinal, 0) / SLOTS,
                    slots=SlotCounts(users, 0, 0),
                    records=NOTHING,
                    state=self.state(ordinal) if up else "unreachable",
                    slots_under_replicated=0,
                    peer="",
                    client="",
                    admin="",
                    successors=[],
                    predecessor=None,
                )
            )
        dead = len(self.members()) - len(live)
        return RingReport(
            ring_uid="ring",
            replication_factor=self.spec.replication_factor,
            slots=SLOTS,
            members=members,
            slots_under_replicated=self.under_replicated(),
            slots_unowned=5 * (dead > self.spec.replication_factor // 2) if self.formed else 0,
            slots_forming=0 if self.formed else SLOTS,
        )

    def _nodes_work(self) -> None:
        for ordinal, pod in self.pods.items():
            if pod.up and ordinal in self.nodes and not self.nodes[ordinal].member:
                self._join(ordinal)
        live = self.live()
        for ordinal in self.members():
            node = self.nodes[ordinal]
            node.dead = 0 if ordinal in live else node.dead + 1
            gone = node.leaving and not node.to_go and ordinal not in live
            if gone or (node.dead > REPLACE_AFTER and len(live) >= self.spec.replication_factor):
                node.member, node.leaving, node.dead = False, False, 0
                self.hand_over = HAND_OVER
        whole = len(self.live()) == len(self.members())
        self.formed |= whole and len(self.live()) >= self.spec.replication_factor
        if whole and self.hand_over:
            self.hand_over -= 1
        elif whole:
            for node in self.nodes.values():
                if node.leaving and node.to_go:
                    node.to_go -= 1
        leaving = [ordinal for ordinal in self.live() if self.nodes[ordinal].leaving]
        assert len(leaving) <= 1, "two nodes leave at once"

    def _join(self, ordinal: int) -> None:
        node, live = self.nodes[ordinal], self.live()
        if live:
            widths = arcs([self.nodes[one].position for one in live], SLOTS)
            widest = max(range(len(live)), key=lambda i: (widths[i], -i))
            node.position = (self.nodes[live[widest]].position - widths[widest] + widths[widest] // 2) % SLOTS
            taken = {self.nodes[one].position for one in self.members()}
            while node.position in taken:
                node.position = (node.position + 1) % SLOTS
        elif self.members() or self.recorded or self.founder != names.pod("main", ordinal):
            return
        else:
            node.position = 7
        node.member, node.leaving, node.to_go = True, False, LEAVE
        self.hand_over = HAND_OVER

    # --- Kubernetes ---

    def _controller_works(self) -> None:
        live = self.statefulset
        if live is None or self.controller_away:
            self.controller_away = max(0, self.controller_away - 1)
            return
        live.update, live.seen = live.template, True
        for ordinal in range(live.replicas):
            if ordinal not in self.pods:
                template = live.update if ordinal >= live.partition else live.current
                self.pods[ordinal] = Pod(self.uid("pod"), template)
                self.nodes.setdefault(ordinal, Node(self.uid("node")))
        for ordinal, pod in self.pods.items():
            if ordinal >= live.replicas and not pod.stopping:
                pod.stopping = STOP
        stale = [
            o for o, pod in self.pods.items() if live.partition <= o < live.replicas and pod.template != live.update
        ]
        down = [o for o in range(live.replicas) if not self.ready(o)]
        for ordinal in sorted(stale, reverse=True):
            pod = self.pods[ordinal]
            if pod.stopping:
                continue
            if ordinal in down:
                self.stop(ordinal)
            elif not down:
                self.stop(ordinal)
                break
        if all(pod.template == live.update for pod in self.pods.values()) and not live.partition:
            live.current = live.update

    def ready(self, ordinal: int) -> bool:
        return self.alive(ordinal) and self.state(ordinal) == "ready"

    def stop(self, ordinal: int) -> None:
        """Stop a pod; its node forgets that it was leaving, its claim stays."""
        pod = self.pods.get(ordinal)
        if pod is not None and not pod.stopping:
            pod.stopping = STOP

    def lose(self, ordinal: int) -> None:
        """Lose a volume, and the pod with it."""
        if ordinal in self.pods and ordinal not in self.lost:
            self.lost.add(ordinal)
            self.pods[ordinal].age = -10_000

    def tick(self) -> None:
        """Let two seconds pass."""
        self.now += TICK
        for ordinal, pod in list(self.pods.items()):
            pod.age += 1
            if pod.stopping:
                pod.stopping -= 1
                if not pod.stopping:
                    del self.pods[ordinal]
                    node = self.nodes.get(ordinal)
                    if node is not None and (node.to_go or not node.leaving):
                        node.leaving, node.to_go = False, LEAVE
        self._controller_works()
        self._nodes_work()

    # --- The operator ---

    def observed(self) -> Observed:
        live = self.statefulset
        pods = tuple(
            PodView(
                name=names.pod("main", ordinal),
                ordinal=ordinal,
                uid=pod.uid,
                ip="10.0.0.1" if pod.age > 0 else "",
                ready=self.ready(ordinal),
                phase="Running" if pod.up else "Pending",
                revision=pod.template,
                deleting=bool(pod.stopping),
                reason="ImagePullBackOff" if pod.template.startswith("bad") else "",
                trouble="there is no such image" if pod.template.startswith("bad") else "",
            )
            for ordinal, pod in sorted(self.pods.items())
        )
        claims = tuple(
            ClaimView(
                names.claim("main", o),
                o,
                "Lost" if o in self.lost else "Bound",
                False,
                100.0,
                size="1Gi",
                capacity="1Gi",
            )
            for o in sorted(self.nodes)
        )
        return Observed(
            now=self.now,
            name="main",
            namespace="default",
            uid="uid",
            generation=self.generation,
            deleting=False,
            spec=self.spec,
            status=self.status,
            template_hash=self.template,
            ring_uid=self.recorded or str(self.status.get("ringUid", "")),
            statefulset=None
            if live is None
            else StatefulSetView(live.replicas, live.partition, live.template, live.current, live.update, live.seen),
            pods=pods,
            claims=claims,
            nodes={pod.name: Answer(self._node_report(pod.ordinal)) for pod in pods if self.alive(pod.ordinal)},
            ring=self.report(),
            operation=operation(self.status),
            refused=self.refused,
        )

    def _node_report(self, ordinal: int) -> NodeReport:
        node = self.nodes[ordinal]
        told = self.report()
        named = next((one for one in (told.members if told else ()) if one.uid == node.uid), None)
        return NodeReport(
            uid=node.uid,
            name=names.pod("main", ordinal),
            version="1",
            ring_uid="ring" if node.member else "",
            state=self.state(ordinal),
            reasons=[],
            position=node.position,
            replication_factor=self.spec.replication_factor,
            slots=named.slots if named else SlotCounts(0, 0, 0),
            records=NOTHING,
            sessions=0,
            slots_under_replicated=0,
            uptime_seconds=0.0,
            successors=[],
            predecessor=None,
        )

    def reconcile(self, *, killed_after: str = "") -> Plan:
        """Make one pass, which may be killed after the status was written or the manifests were."""
        seen = self.observed()
        decided = self.last = plan(seen)
        told = status(seen, decided)
        if told != self.status:
            self.writes += 1
            self.notes += events(self.status, decided, told)
            self.status = told
        if killed_after == "status" or self.spec.paused:
            return decided
        self._apply(decided)
        if killed_after == "manifests" or decided.step is None:
            return decided
        self._take(decided)
        return decided

    def _apply(self, decided: Plan) -> None:
        live = self.statefulset
        self.recorded, self.founder = decided.ring_uid, decided.founder
        if live is None:
            assert decided.replicas >= max(self.pods, default=-1) + 1, "a new StatefulSet would take pods away"
            self.statefulset = Set(decided.replicas, decided.partition, self.template, self.template, "")
            self.writes += 1
            return
        for ordinal in range(decided.replicas, live.replicas):
            self._may_go(ordinal)
        if (live.replicas, live.partition, live.template) != (decided.replicas, decided.partition, self.template):
            self.writes += 1
            live.replicas, live.partition, live.template = decided.replicas, decided.partition, self.template
            live.seen = False

    def _may_go(self, ordinal: int) -> None:
        """Check that a pod which the StatefulSet is to lose is not needed."""
        if self.spec.scale_down_force:
            return
        node, live = self.nodes.get(ordinal), self.statefulset
        assert live is not None
        assert ordinal == live.replicas - 1
        left = node is not None and self.alive(ordinal) and self.state(ordinal) == "left"
        outside = node is None or (not node.member and not self.under_replicated())
        assert left or outside, f"main-{ordinal} goes and has not left"

    def _take(self, decided: Plan) -> None:
        step = decided.step
        assert step is not None
        ordinal = names.ordinal("main", step.pod)
        assert ordinal is not None
        if isinstance(step, Replace):
            assert ordinal in self.lost
            self.lost.discard(ordinal)
            self.nodes[ordinal] = Node(self.uid("node"))
            self.pods.pop(ordinal, None)
            self.hand_over = HAND_OVER
            return
        if not self.alive(ordinal):
            return
        node = self.nodes[ordinal]
        if isinstance(step, Leave):
            if self.refuses:
                self.refused[step.pod] = Refusal(self.pods[ordinal].uid, "Leave", "not while I am told not to")
                return
            if node.leaving:
                return
            rest = [one for one in self.live() if one != ordinal and self.state(one) == "ready"]
            assert len(rest) >= self.spec.replication_factor
            node.leaving = True
        elif isinstance(step, CancelLeave):
            node.leaving, node.to_go = False, LEAVE
        elif isinstance(step, Move):
            assert self.under_replicated() == 0
            node.position, self.hand_over = step.position, HAND_OVER
        self.refused.pop(step.pod, None)

    def killed(self) -> None:
        """The operator is killed: what it remembered is gone."""
        self.refused = {}

    # --- What tests ask ---

    def change(self, **spec: object) -> None:
        """Change the spec."""
        self.spec = replace(self.spec, **spec)  # type: ignore[arg-type]
        self.generation += 1

    def settled(self) -> bool:
        live = self.statefulset
        return (
            live is not None
            and live.seen
            and (live.replicas, live.partition) == (self.spec.replicas, 0)
            and sorted(self.pods) == list(range(self.spec.replicas))
            and all(self.ready(ordinal) and pod.template == self.template for ordinal, pod in self.pods.items())
            and self.status.get("observedGeneration") == self.generation
            and self.status.get("state") == "Ready"
            and "operation" not in self.status
        )

    def run(self, passes: int = 400) -> int:
        """Make passes until all is as wanted; return how many. Fails if that takes too many."""
        for count in range(passes):
            if self.settled():
                return count
            self.reconcile()
            self.tick()
        raise AssertionError(f"not settled after {passes} passes: {self.last}, {self.status}, {self.pods}")
