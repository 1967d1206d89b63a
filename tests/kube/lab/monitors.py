"""The Prometheus operator's kinds on an API server: its own definitions, from its Go module.

Only the definitions: what is asked is whether the chart's objects are what these kinds take. (Here and not in `tools`:
every program is built anew when that changes.)
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path

from tests.tools.needs import CannotRun

from .handle import Kube
from .tools import TOOLS, _go, _version

MODULE = "github.com/prometheus-operator/prometheus-operator"
KINDS = ("podmonitors", "prometheusrules")


def sources() -> Path:
    """Return the folder of the module, of the version and checksum that stand in `../tools`. Raises CannotRun."""
    pinned = TOOLS / "prometheus-operator"
    version = _version(pinned, MODULE)
    # Outside of any module: what this one needs itself is of no interest.
    done = subprocess.run(
        [_go(), "mod", "download", "-json", f"{MODULE}@{version}"],
        cwd=tempfile.gettempdir(),
        env={**os.environ, "GOWORK": "off", "GOFLAGS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise CannotRun(f"cannot download {MODULE}: {(done.stdout + done.stderr).strip()[-2000:]}")
    found = json.loads(done.stdout)
    if f"{MODULE} {version} {found['Sum']}\n" not in (pinned / "go.sum").read_text():
        raise CannotRun(f"{MODULE} {version} is not what {pinned / 'go.sum'} says; nothing of it is used")
    return Path(found["Dir"])


def define_monitors(kube: Kube, folder: Path) -> None:
    """Apply the definitions in the module's folder and wait until they are served."""
    for kind in KINDS:
        file = folder / "example" / "prometheus-operator-crd" / f"monitoring.coreos.com_{kind}.yaml"
        kube.kubectl("apply", "--server-side", "-f", str(file))
    served = ("get", ",".join(KINDS), "-A")
    kube.until(lambda: kube.kubectl(*served, check=False).returncode == 0, 30, "monitors and rules are served")
