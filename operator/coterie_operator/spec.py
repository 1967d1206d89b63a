"""Read `spec` of a Ring, with the defaults of the CustomResourceDefinition.

The API server has checked it against the schema as a rule. An older definition may have let something through, so
everything is read with care, and what cannot be becomes a sentence for people.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .model import RingSpec
from .quantity import quantity

LEAST_SKEW = 1.05
"""Nodes have whole slots: a ring can hardly be more even, and would be shifted for ever."""
MOST_SLOTS = 1 << 20
_DURATION = re.compile(r"(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,6})s)?", re.ASCII)


class SpecError(Exception):
    """A spec that cannot be: the field, and a sentence about what is wrong and what would be right."""

    def __init__(self, field: str, sentence: str) -> None:
        super().__init__(f"spec.{field}: {sentence}")
        self.field = field


def read_spec(resource: Mapping[str, Any], default_image: str = "") -> RingSpec:
    """Return the spec of a Ring resource. `default_image` is for a Ring that names none. Raises SpecError."""
    spec = _mapping(resource, "spec")
    storage = _mapping(spec, "storage")
    rebalance = _mapping(spec, "rebalance")
    scale_down = _mapping(spec, "scaleDown")
    service = dict(_mapping(spec, "service"))
    monitoring = _mapping(spec, "monitoring")
    found = RingSpec(
        replicas=_whole(spec, "replicas", 3),
        replication_factor=_whole(spec, "replicationFactor", 3),
        slots=_whole(spec, "slots", 1024),
        image=str(spec.get("image") or default_image),
        image_pull_policy=_choice(spec, "imagePullPolicy", ("IfNotPresent", "Always", "Never")),
        image_pull_secrets=tuple(str(one.get("name", "")) for one in _objects(spec, "imagePullSecrets")),
        storage_size=str(storage.get("size", "1Gi")),
        storage_class=None if storage.get("className") is None else str(storage["className"]),
        retain=_yes(storage, "retain", True, "storage.retain"),
        discovery=_choice(spec, "discovery", ("dns", "multicast")),
        host_network=_yes(spec, "hostNetwork", False),
        rebalance=_choice(rebalance, "mode", ("Auto", "Off"), "rebalance.mode") == "Auto",
        max_skew=_number(rebalance, "maxSkew", 1.2, LEAST_SKEW, "rebalance.maxSkew"),
        scale_down_timeout=duration(str(scale_down.get("timeout", "10m")), "scaleDown.timeout"),
        scale_down_force=_choice(scale_down, "policy", ("Safe", "Force"), "scaleDown.policy") == "Force",
        service_type=str(service.pop("type", "ClusterIP")),
        service_hosts=tuple(str(host) for host in service.pop("hosts", ())),
        service=service,
        resources=_mapping(spec, "resources"),
        affinity=_mapping(spec, "affinity"),
        topology_spread_constraints=_objects(spec, "topologySpreadConstraints") or None,
        tolerations=_objects(spec, "tolerations"),
        node_selector=_mapping(spec, "nodeSelector"),
        pod_disruption_budget=_yes(spec, "podDisruptionBudget", True),
        network_policy=_yes(spec, "networkPolicy", True),
        scrape_annotations=_yes(monitoring, "annotations", True, "monitoring.annotations"),
        scrape_from=_objects(monitoring, "from") if "from" in monitoring else RingSpec.scrape_from,
        paused=_yes(spec, "paused", False),
    )
    _check(found)
    if _mapping(spec, "tls").get("mode", "Off") != "Off":
        raise SpecError("tls.mode", "TLS comes with a later release; use Off")
    if _mapping(spec, "update").get("maxUnavailable", 1) != 1:
        raise SpecError("update.maxUnavailable", "nodes are updated one at a time; use 1")
    return found


def _check(found: RingSpec) -> None:
    """Raise SpecError for what the API server refuses, too, where its definition is of this release."""
    if not found.image:
        raise SpecError("image", "no image is named, and the operator knows none; set spec.image")
    if found.replicas < 1:
        raise SpecError("replicas", "a ring has at least one node; delete the Ring if you want none")
    if not 1 <= found.replication_factor <= found.replicas:
        raise SpecError(
            "replicationFactor",
            f"copies need as many nodes, {found.replication_factor} here; use 1 to {found.replicas}, or raise replicas",
        )
    if not 1 <= found.slots <= MOST_SLOTS or found.slots & (found.slots - 1):
        raise SpecError("slots", f"{found.slots} is no power of two up to {MOST_SLOTS}; use 1024")
    if quantity(found.storage_size) <= 0:
        raise SpecError("storage.size", f"{found.storage_size!r} is no amount of storage; write it as 10Gi")


def duration(text: str, field: str) -> float:
    """Return a duration such as 10m, 90s or 1h30m in seconds. Raises SpecError, naming the field."""
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        raise SpecError(field, f"{text!r} is no duration; write it as 10m, 90s or 1h30m")
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(hours * 3600 + minutes * 60 + seconds)


def _mapping(of: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = of.get(key) or {}
    if not isinstance(found, Mapping):
        raise SpecError(key, f"{found!r} is no object")
    return found


def _objects(of: Mapping[str, Any], key: str) -> tuple[Mapping[str, Any], ...]:
    found = of.get(key) or ()
    if not isinstance(found, Sequence) or not all(isinstance(one, Mapping) for one in found):
        raise SpecError(key, f"{found!r} is no list of objects")
    return tuple(found)


def _whole(of: Mapping[str, Any], key: str, default: int) -> int:
    found = of.get(key, default)
    if not isinstance(found, int) or isinstance(found, bool):
        raise SpecError(key, f"{found!r} is no whole number")
    return found


def _number(of: Mapping[str, Any], key: str, default: float, least: float, field: str) -> float:
    found = of.get(key, default)
    if not isinstance(found, int | float) or isinstance(found, bool) or not found >= least:
        raise SpecError(field, f"{found!r} is no number of at least {least:g}")
    return float(found)


def _yes(of: Mapping[str, Any], key: str, default: bool, field: str = "") -> bool:
    found = of.get(key, default)
    if not isinstance(found, bool):
        raise SpecError(field or key, f"{found!r} is neither true nor false")
    return found


def _choice(of: Mapping[str, Any], key: str, choices: Sequence[str], field: str = "") -> str:
    """Return one of the choices; the first is the default."""
    found = of.get(key, choices[0])
    if found not in choices:
        raise SpecError(field or key, f"{found!r} is none of {', '.join(choices)}")
    return str(found)
