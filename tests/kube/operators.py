"""Operator processes for the tests, and what the tests ask of a Ring that one looks after."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.ports import free_port
from tests.kube.lab.definition import CRD
from tests.kube.lab.handle import Kube

PROGRAM = [sys.executable, "-m", "coterie_operator.entry"]
PARTS = "statefulset,service,configmap,secret,poddisruptionbudget,networkpolicy"


@dataclass
class Operator:
    """A running operator process."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path
    lines: list[dict[str, Any]] = field(default_factory=list)

    def said(self, text: str) -> bool:
        return text in self.log.read_text()

    def get(self, path: str) -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            return str(error.read().decode())
        except OSError:
            return ""

    def metric(self, name: str) -> float:
        for line in self.get("/metrics").splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[1])
        return 0.0

    @property
    def leads(self) -> bool:
        return self.metric("coterie_operator_leader") == 1

    @property
    def passes(self) -> float:
        return self.metric("coterie_operator_reconcile_seconds_count")

    @property
    def runs(self) -> bool:
        return self.process.poll() is None


@contextlib.contextmanager
def operator(kubeconfig: Path, namespace: str) -> Iterator[Operator]:
    port = free_port(1)
    with tempfile.NamedTemporaryFile(prefix="operator-", suffix=".log") as log:
        process = subprocess.Popen(
            [
                *PROGRAM,
                "run",
                "--namespace",
                namespace,
                "--kubeconfig",
                str(kubeconfig),
                "--node-image",
                "coterie:test",
            ],
            env={**os.environ, "COTERIE_OPERATOR_METRICS_PORT": str(port), "COTERIE_OPERATOR_LOG_FORMAT": "json"},
            stdout=log,
            stderr=log,
        )
        try:
            yield Operator(process, port, Path(log.name))
        finally:
            process.kill()
            process.wait()


def apply_crd(kube: Kube) -> str:
    done = subprocess.run(
        [*PROGRAM, "apply-crd", str(CRD), "--kubeconfig", str(kube.kubeconfig)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def ring(namespace: str, name: str = "main", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "coterie.chat/v1alpha1",
        "kind": "Ring",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"replicas": 3, "replicationFactor": 3, **spec},
    }


def change(plane: Kube, namespace: str, **spec: Any) -> None:
    plane.kubectl("patch", "ring", "main", "-n", namespace, "--type=merge", "-p", json.dumps({"spec": spec}))


def condition(plane: Kube, namespace: str, kind: str, name: str = "main") -> dict[str, Any]:
    found = plane.get("ring", name, "-n", namespace) or {}
    conditions = found.get("status", {}).get("conditions", [])
    return next((one for one in conditions if one["type"] == kind), {})


def reason(plane: Kube, namespace: str, kind: str = "Degraded") -> str:
    found = condition(plane, namespace, kind)
    return str(found.get("reason", "")) if found.get("status") == "True" else ""


def versions(plane: Kube, namespace: str) -> dict[str, str]:
    found = plane.items(f"ring,{PARTS},pod,pvc", "-n", namespace)
    return {f"{one['kind']}/{one['metadata']['name']}": one["metadata"]["resourceVersion"] for one in found}


def settled(plane: Kube, namespace: str, one: Operator, seconds: float = 40) -> None:
    """Wait until two passes in a row wrote nothing."""
    plane.until(lambda: plane.get("pod", "main-0", "-n", namespace), seconds, "the first pod is there")

    def quiet() -> bool:
        before, passes = versions(plane, namespace), one.passes
        plane.kubectl("label", "pod", "main-0", "-n", namespace, f"touched=t{int(passes)}", "--overwrite")
        plane.until(lambda: one.passes > passes, 20, "another pass")
        changed = {key for key, value in versions(plane, namespace).items() if before.get(key) != value}
        return changed <= {"Pod/main-0"}

    plane.until(quiet, seconds, "nothing is written any more")
