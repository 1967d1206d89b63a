"""The chart's CustomResourceDefinition on an API server."""

from __future__ import annotations

from pathlib import Path

from .handle import Kube

CRD = Path(__file__).parents[3] / "chart" / "crds" / "rings.yaml"


def define(kube: Kube) -> None:
    """Apply the definition and wait until Rings are served. (`kubectl wait` fails while it has no conditions.)"""
    kube.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRD))
    kube.until(lambda: kube.kubectl("get", "rings", "-A", check=False).returncode == 0, 30, "rings are served")
