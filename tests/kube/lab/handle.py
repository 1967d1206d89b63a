"""What tests hold of a Kubernetes: kubectl and helm against it, and ways to wait for what it says."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Kube:
    """A Kubernetes that answers on loopback."""

    kubeconfig: Path
    programs: Path | None = None
    """Where kubectl and helm are; None: on PATH."""

    def kubectl(
        self,
        *arguments: str,
        input: str | None = None,  # noqa: A002
        check: bool = True,
        timeout: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl. A failure that is not expected fails the test with what kubectl said."""
        return self._run("kubectl", arguments, input, check, timeout)

    def helm(self, *arguments: str, check: bool = True, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """Run helm."""
        return self._run("helm", arguments, None, check, timeout)

    def command(self, program: str, *arguments: str) -> list[str]:
        """Return the command by which kubectl or helm would be run, for processes that go on."""
        path = str(self.programs / program) if self.programs else program
        return [path, *arguments]

    @contextlib.contextmanager
    def forwarded(self, namespace: str, target: str, port: int) -> Iterator[str]:
        """Forward a free port of this computer to a pod's or service's, as long as needed; yield HOST:PORT."""
        command = self.command("kubectl", "-n", namespace, "port-forward", target, f":{port}")
        with subprocess.Popen(command, env=self.environment, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                found = re.search(r"127\.0\.0\.1:\d+", process.stdout.readline())
                assert found is not None
                yield found.group()
            finally:
                process.kill()

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment in which they run."""
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig)}

    def get(self, *arguments: str) -> Any:
        """Return `kubectl get -o json`, or None for what is not there."""
        done = self.kubectl("get", *arguments, "-o", "json", check=False)
        if done.returncode:
            assert "NotFound" in done.stderr or "not found" in done.stderr, done.stderr
            return None
        return json.loads(done.stdout)

    def items(self, *arguments: str) -> list[Any]:
        """Return the items of a `kubectl get -o json` of several."""
        return list(self.get(*arguments)["items"])

    def apply(self, *objects: dict[str, Any], namespace: str | None = None) -> None:
        """Apply manifests."""
        where = ["-n", namespace] if namespace else []
        for one in objects:
            self.kubectl("apply", *where, "-f", "-", input=json.dumps(one))

    def until(self, look: Callable[[], T], seconds: float, what: str, pause: float = 0.3) -> T:
        """Look again and again until there is something true to see, and return it."""
        deadline = time.monotonic() + seconds
        while not (seen := look()):
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds:g} s: {what}")
            time.sleep(pause)
        return seen

    @contextlib.contextmanager
    def namespace(self, name: str, **labels: str) -> Iterator[str]:
        """Make a namespace, and delete it with all that it holds at the end."""
        self.kubectl("create", "namespace", name)
        for key, value in labels.items():
            self.kubectl("label", "namespace", name, f"pod-security.kubernetes.io/{key}={value}")
        try:
            yield name
        finally:
            self.kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")

    def _run(
        self, program: str, arguments: tuple[str, ...], text: str | None, check: bool, timeout: float
    ) -> subprocess.CompletedProcess[str]:
        command = self.command(program, *arguments)
        done = subprocess.run(
            command, input=text, env=self.environment, capture_output=True, text=True, check=False, timeout=timeout
        )
        if check and done.returncode:
            said = (done.stdout + done.stderr).strip()
            raise AssertionError(f"`{program} {' '.join(arguments)}` failed with {done.returncode}:\n{said}")
        return done
