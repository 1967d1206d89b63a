"""Apply a CustomResourceDefinition and wait until the API serves it: Helm installs CRDs, but never upgrades them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from .kube import CRD, Kube

LOOK_SECONDS = 0.5
HELM = "helm"
"""Helm's field manager. What is applied for Helm stays Helm's: fields of another's would make the next release that is
installed beside this one fail with a conflict."""


class CrdError(Exception):
    """The file holds no CRDs, or the API does not serve them; one line."""


def read_crds(file: Path) -> list[dict[str, Any]]:
    """Return the CustomResourceDefinitions of a YAML file. Raises CrdError."""
    try:
        found = [one for one in yaml.safe_load_all(file.read_text()) if one is not None]
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CrdError(f"cannot read {file}: {' '.join(str(error).split())}") from None
    if not found or not all(_is_crd(one) for one in found):
        raise CrdError(f"{file} holds something else than CustomResourceDefinitions; give the chart's crds/ file")
    return found


async def apply_crds(kube: Kube, crds: Sequence[dict[str, Any]], seconds: float) -> list[str]:
    """Apply CRDs, wait until they are served, and return their names. Raises KubeError and CrdError."""
    names = [str((await kube.apply(crd, HELM))["metadata"]["name"]) for crd in crds]
    for name in names:
        said = "it has no condition yet"
        try:
            async with asyncio.timeout(seconds):
                while said := _missing(await kube.get(CRD, None, name)):  # noqa: ASYNC110  (the API has no event for it)
                    await asyncio.sleep(LOOK_SECONDS)
        except TimeoutError:
            raise CrdError(f"{name} is not served after {seconds:g} s: {said}") from None
    return names


def _is_crd(one: object) -> bool:
    if not isinstance(one, dict) or one.get("kind") != "CustomResourceDefinition":
        return False
    metadata = one.get("metadata")
    return isinstance(metadata, dict) and isinstance(metadata.get("name"), str)


def _missing(crd: dict[str, Any]) -> str:
    """Say what keeps a CRD from being served; nothing when it is."""
    # A definition that was just made has conditions, and they are null.
    conditions = {one["type"]: one for one in crd.get("status", {}).get("conditions") or ()}
    if "Terminating" in conditions and conditions["Terminating"]["status"] == "True":
        return "it is being deleted; wait until it is gone, then apply it again"
    if conditions.get("Established", {}).get("status") == "True":
        return ""
    names = conditions.get("NamesAccepted", {})
    return str(names.get("message") or "it has no condition yet")
