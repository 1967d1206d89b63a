"""A ring on a Kubernetes, as tests see it: its resource, its pods, its events, and people who talk through it."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .handle import Kube
from .images import IMAGE

ROOT = Path(__file__).parent.parent.parent.parent
CHART = str(ROOT / "chart")
TALK = Path(__file__).with_name("talk.py")
PEOPLE = "people"
OPERATOR = "app.kubernetes.io/component=operator"
ON_IMAGE = (
    *("--set", f"image.repository={IMAGE.partition(':')[0]}"),
    *("--set", f"image.tag={IMAGE.partition(':')[2]}"),
    *("--set", "image.pullPolicy=IfNotPresent"),
    # Where nobody answers: images that are not there.
    *("--set", "allow.images={127.0.0.1:1/coterie}"),
)


SIGNAL = """
import os, sys
for pid in filter(str.isdigit, os.listdir("/proc")):
    words = open(f"/proc/{pid}/cmdline").read().split(chr(0))
    if int(pid) not in (1, os.getpid()) and any(word.endswith(sys.argv[1]) for word in words[:2]):
        os.kill(int(pid), int(sys.argv[2]))
"""
"""Sends a signal to a program of the container in which it runs, past the init that is PID 1."""


def is_ready(pod: dict[str, Any]) -> bool:
    """Say whether a pod is ready."""
    conditions = pod["status"].get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


@dataclass(frozen=True)
class Ring:
    """The Ring `name` in a namespace."""

    kube: Kube
    namespace: str
    name: str = "main"

    # --- Looking ---

    @property
    def resource(self) -> dict[str, Any]:
        found: dict[str, Any] = self.get("ring", self.name)
        return found

    @property
    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.resource.get("status", {})
        return found

    def get(self, *arguments: str) -> Any:
        """Return something of the namespace, or None."""
        return self.kube.get(*arguments, "-n", self.namespace)

    def kubectl(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run kubectl in the namespace."""
        return self.kube.kubectl("-n", self.namespace, *arguments, **options)

    def pods(self) -> dict[str, dict[str, Any]]:
        """Return the ring's pods by name."""
        found = self.kube.items("pods", "-n", self.namespace, "-l", f"coterie.chat/ring={self.name}")
        return {pod["metadata"]["name"]: pod for pod in found}

    def pod_uid(self, ordinal: int) -> str:
        """Return a pod's UID: another one means another pod."""
        return str(self.get("pod", f"{self.name}-{ordinal}")["metadata"]["uid"])

    def condition(self, type_: str) -> dict[str, Any]:
        """Return a condition of the Ring; an empty one when it is not there."""
        found = (one for one in self.status.get("conditions", []) if one["type"] == type_)
        return next(found, {})

    def events(self) -> list[tuple[str, str]]:
        """Return (reason, note) of what was told about the Ring."""
        found = self.kube.items("events.events.k8s.io", "-n", self.namespace)
        return [(one["reason"], one.get("note", "")) for one in found if one["regarding"].get("kind") == "Ring"]

    def node_uids(self) -> dict[str, str]:
        """Return the nodes' uids by the names of their pods."""
        return {member["name"]: member["uid"] for member in self.status["members"]}

    # --- Waiting ---

    def until(self, what: str, look: Any, seconds: float = 120) -> Any:
        """Wait until something is so; a failure shows the whole status and the pods."""
        try:
            return self.kube.until(look, seconds, what)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.story()}") from None

    def whole(self, replicas: int, seconds: float = 240) -> dict[str, Any]:
        """Wait until so many nodes are one ring, and nothing is missing or under way; return the status."""

        def look() -> dict[str, Any] | None:
            ring = self.resource
            status: dict[str, Any] = ring.get("status", {})
            settled = (
                status.get("observedGeneration") == ring["metadata"]["generation"]
                and status.get("state") == "Ready"
                and status.get("replicas") == status.get("readyReplicas") == len(status.get("members", [])) == replicas
                and status.get("slotsUnderReplicated") == 0
                and not status.get("operation")
            )
            return status if settled else None

        found: dict[str, Any] = self.until(f"{self.name} is whole with {replicas} nodes", look, seconds)
        return found

    def story(self) -> str:
        """Return what a person would look at first when something is not as it should be."""
        parts = [
            ("status", json.dumps(self.status, indent=1)),
            ("pods", self.kubectl("get", "pods,pvc", "-o", "wide", check=False).stdout),
            ("events", self.kubectl("get", "events", "--sort-by=.lastTimestamp", check=False).stdout[-4000:]),
            ("operator", self.kubectl("logs", "-l", OPERATOR, "--tail=40", check=False).stdout[-6000:]),
        ]
        return "\n".join(f"--- {name}\n{text}" for name, text in parts)

    # --- Changing ---

    def scale(self, replicas: int) -> None:
        """`kubectl scale ring/NAME --replicas=N`."""
        self.kubectl("scale", f"ring/{self.name}", f"--replicas={replicas}")

    def patch(self, spec: dict[str, Any]) -> None:
        """Change the Ring's spec."""
        self.kubectl("patch", "ring", self.name, "--type=merge", "-p", json.dumps({"spec": spec}))

    def forget_quickly(self, pod: str) -> None:
        """Delete a pod without grace, as when its machine is gone."""
        self.kubectl("delete", "pod", pod, "--grace-period=0", "--force", "--wait=false")

    def signal(self, pod: str, program: str, number: int, *, check: bool = True) -> None:
        """Send a signal to a program in a pod. Its end may end this command too: then do not check."""
        self.kubectl("exec", pod, "--", "python", "-c", SIGNAL, program, str(number), check=check)

    # --- People ---

    def people(self) -> None:
        """Start the pod in which people live who talk through the client service."""
        self.kube.apply(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": PEOPLE, "namespace": self.namespace},
                "spec": {
                    "automountServiceAccountToken": False,
                    "terminationGracePeriodSeconds": 0,
                    "securityContext": {
                        "runAsNonRoot": True,
                        "runAsUser": 65532,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "volumes": [{"name": "tmp", "emptyDir": {}}],
                    "containers": [
                        {
                            "name": PEOPLE,
                            "image": IMAGE,
                            "imagePullPolicy": "IfNotPresent",
                            "command": ["sleep", "infinity"],
                            "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
                            "env": [
                                {"name": "COTERIE_SERVERS", "value": f"ws://{self.name}:7400"},
                                {"name": "COTERIE_INSECURE", "value": "1"},
                                {"name": "COTERIE_HOME", "value": "/tmp/coterie"},
                                {"name": "COTERIE_PASSWORD", "value": "correct horse battery staple"},
                            ],
                            "securityContext": {
                                "allowPrivilegeEscalation": False,
                                "readOnlyRootFilesystem": True,
                                "capabilities": {"drop": ["ALL"]},
                            },
                        }
                    ],
                },
            }
        )
        self.kubectl("wait", "--for=condition=Ready", f"pod/{PEOPLE}", "--timeout=60s")

    @contextlib.contextmanager
    def talk(self, word: str, pairs: int = 4, interval: float = 0.05) -> Iterator[Talk]:
        """Let pairs of people talk during the block; at its end everything acknowledged was shown once, in order."""
        command = self.kube.command("kubectl", "-n", self.namespace, "exec", "-i", PEOPLE, "--")
        script = ["python", "-c", TALK.read_text(), word, str(pairs), str(interval)]
        with subprocess.Popen(
            [*command, *script],
            env=self.kube.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            talk = Talk(process)
            try:
                talk.next("ready", 90)
                yield talk
                talk.end()
            finally:
                process.kill()


@dataclass
class Talk:
    """A conversation under way, by what its process tells."""

    process: subprocess.Popen[str]
    acknowledged: int = 0
    gap: float = 0.0
    """Seconds, the longest that a pair waited for its next acknowledgement."""
    _told: queue.Queue[dict[str, Any]] = field(default_factory=queue.Queue)
    _errors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        def read() -> None:
            assert self.process.stdout is not None
            for line in self.process.stdout:
                self._told.put(json.loads(line))
            self._told.put({"event": "gone"})

        def complain() -> None:
            assert self.process.stderr is not None
            self._errors.extend(self.process.stderr)

        for target in (read, complain):
            threading.Thread(target=target, daemon=True).start()

    def next(self, event: str, seconds: float) -> dict[str, Any]:
        """Wait for an event; return it."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                told = self._told.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"people did not tell {event!r} within {seconds:g} s") from None
            if told["event"] == "count":
                self.acknowledged, self.gap = told["acknowledged"], told["gap"]
            if told["event"] == event:
                return told
            if told["event"] == "gone":
                raise AssertionError(f"people stopped talking: {''.join(self._errors)[-2000:]}")

    def go_on(self, more: int = 100, seconds: float = 60) -> None:
        """Wait for so many more acknowledgements."""
        self.next("count", seconds)
        target = self.acknowledged + more
        deadline = time.monotonic() + seconds
        while self.acknowledged < target:
            self.next("count", max(0.1, deadline - time.monotonic()))

    def end(self) -> None:
        """Stop talking; check that all that was acknowledged was shown once, in its order."""
        assert self.process.stdin is not None
        self.process.stdin.write("stop\n")
        self.process.stdin.flush()
        told = self.next("end", 200)
        for pair in told["pairs"]:
            sent = sorted(pair["acknowledged"], key=_number)
            twice = [text for text, times in Counter(pair["shown"]).items() if times > 1]
            assert not twice, f"shown more than once: {twice[:5]}"
            missing = sorted(set(sent) - set(pair["shown"]), key=_number)
            assert not missing, f"acknowledged and never shown: {len(missing)} of {len(sent)}, such as {missing[:5]}"
            assert pair["shown"] == sorted(pair["shown"], key=_number), "shown in another order than sent"


def _number(text: str) -> int:
    return int(text.split()[1])
