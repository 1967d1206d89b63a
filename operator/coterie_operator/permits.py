"""What whoever may edit Rings may make the operator do beyond that, and what only the operator's own settings allow.

The operator makes pods and services with its own rights. So a Ring that names a foreign image, its machines' network,
somebody's pull secret or the control plane's machines would lend these rights to everybody who may write a Ring. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .model import RingSpec

CONTROL_PLANE = tuple(f"node-role.kubernetes.io/{role}" for role in ("control-plane", "master", "controlplane", "etcd"))
"""Labels and taints of the machines that run Kubernetes itself, as distributions call them."""
NAMING = ("In", "Exists", "Gt", "Lt")
"""Operators of a node requirement that ask for a label; the others keep away from it."""


@dataclass(frozen=True)
class Permits:
    """What the operator's settings allow. In the lists an entry that ends with `*` stands for all that begin so."""

    images: Sequence[str] = ()
    """Image repositories, without tag and digest."""
    pull_secrets: Sequence[str] = ()
    host_network: bool = False
    control_plane: bool = False
    service_annotations: Sequence[str] = ()
    """Keys."""
    service_types: Sequence[str] = ("ClusterIP", "NodePort", "LoadBalancer")


@dataclass(frozen=True)
class Use:
    """Something in a spec that needs a permit."""

    field: str
    """Below `spec`."""
    value: str
    """What it is set to, the same text for the same thing."""
    permit: str
    """The chart's value that may allow it."""
    asks: str
    """What the permit has to name; empty for one that is true or false."""


def uses(spec: RingSpec) -> list[Use]:
    """Return what in a spec needs a permit."""
    found = [Use("image", spec.image, "images", repository(spec.image))]
    found += [Use("imagePullSecrets", name, "imagePullSecrets", name) for name in spec.image_pull_secrets]
    if spec.host_network:
        found.append(Use("hostNetwork", "true", "hostNetwork", ""))
    found += [Use("tolerations", _text(one), "controlPlane", "") for one in spec.tolerations if _tolerates(one)]
    found += [
        Use("nodeSelector", f"{key}={value}", "controlPlane", "")
        for key, value in spec.node_selector.items()
        if key in CONTROL_PLANE
    ]
    found += [Use("affinity", _text(one), "controlPlane", "") for one in _requirements(spec.affinity) if _selects(one)]
    found += [
        Use("service.annotations", f"{key}={value}", "serviceAnnotations", key)
        for key, value in (spec.service.get("annotations") or {}).items()
    ]
    return [*found, Use("service.type", spec.service_type, "serviceTypes", spec.service_type)]


def refusal(spec: RingSpec, permits: Permits, given: RingSpec | None = None) -> str:
    """Say in one sentence what of a spec is not allowed; nothing if all of it is.

    `given` is what the operator's settings themselves give this Ring: that stands, as it is there.
    """
    mine = {(use.field, use.value) for use in uses(given)} if given is not None else set()
    refused = [use for use in uses(spec) if (use.field, use.value) not in mine and not _allowed(use, permits)]
    if not refused:
        return ""
    said = "; ".join(dict.fromkeys(f"spec.{use.field} {_short(use.value)}" for use in refused))
    names = ", ".join(dict.fromkeys(f"allow.{use.permit}" for use in refused))
    return (
        f"not allowed to this Ring, and nothing of it is applied: {said}; take it out of the Ring,"
        f" or have whoever installs the operator allow it ({names} in the chart's values)"
    )


def repository(image: str) -> str:
    """Return an image's name without tag and digest."""
    name = image.partition("@")[0]
    head, slash, tail = name.rpartition("/")
    return head + slash + tail.partition(":")[0]


def _allowed(use: Use, permits: Permits) -> bool:
    lists = {
        "images": permits.images,
        "imagePullSecrets": permits.pull_secrets,
        "serviceAnnotations": permits.service_annotations,
        "serviceTypes": permits.service_types,
    }
    if use.permit in lists:
        return any(_matches(use.asks, entry) for entry in lists[use.permit])
    return {"hostNetwork": permits.host_network, "controlPlane": permits.control_plane}[use.permit]


def _matches(text: str, entry: str) -> bool:
    return text.startswith(entry[:-1]) if entry.endswith("*") else text == entry


def _tolerates(toleration: Mapping[str, Any]) -> bool:
    """Whether a toleration reaches the control plane's machines: by their taint, or as one of every taint."""
    key = str(toleration.get("key") or "")
    return not key or key in CONTROL_PLANE


def _requirements(affinity: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield what an affinity asks of machines' labels, whether as a must or as a wish."""
    node = affinity.get("nodeAffinity") or {}
    required = node.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    wishes = node.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
    for term in (*(required.get("nodeSelectorTerms") or ()), *(wish.get("preference") or {} for wish in wishes)):
        yield from term.get("matchExpressions") or ()


def _selects(requirement: Mapping[str, Any]) -> bool:
    return requirement.get("key") in CONTROL_PLANE and requirement.get("operator") in NAMING


def _text(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _short(text: str) -> str:
    """Return a text that fits into a sentence: what a Ring may name has no bound of its own everywhere."""
    return text if len(text) <= 120 else f"{text[:119]}…"
