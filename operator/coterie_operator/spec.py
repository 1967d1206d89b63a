"""Read `spec` of a Ring, with the defaults of the CustomResourceDefinition.

The API server has checked it against the schema as a rule. An older definition may have let something through, so
everything is read with care, and what cannot be becomes a sentence for people.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .model import RingSpec

_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


class SpecError(Exception):
    """A spec that cannot be: the field, and a sentence about what is wrong and what would be right."""

    def __init__(self, field: str, sentence: str) -> None:
        super().__init__(f"spec.{field}: {sentence}")
        self.field = field


def read_spec(resource: Mapping[str, Any], default_image: str = "") -> RingSpec:
    """Return the spec of a Ring resource. `default_image` is for a Ring that names none. Raises SpecError."""
    spec = _mapping(resource, "spec", "")
    storage = _mapping(spec, "storage")
    rebalance = _mapping(spec, "rebalance")
    scale_down = _mapping(spec, "scaleDown")
    service = dict(_mapping(spec, "service"))
    tls = _mapping(spec, "tls")
    found = RingSpec(
        replicas=_whole(spec, "replicas", 3, "replicas"),
        replication_factor=_whole(spec, "replicationFactor", 3, "replicationFactor"),
        slots=_whole(spec, "slots", 1024, "slots"),
        image=str(spec.get("image") or default_image),
        image_pull_policy=_choice(spec, "imagePullPolicy", ("IfNotPresent", "Always", "Never"), "imagePullPolicy"),
        image_pull_secrets=tuple(str(one.get("name", "")) for one in _sequence(spec, "imagePullSecrets")),
        storage_size=str(storage.get("size", "1Gi")),
        storage_class=storage.get("className"),
        retain=bool(storage.get("retain", True)),
        discovery=_choice(spec, "discovery", ("dns", "multicast"), "discovery"),
        host_network=bool(spec.get("hostNetwork", False)),
        rebalance=_choice(rebalance, "mode", ("Auto", "Off"), "rebalance.mode") == "Auto",
        max_skew=_number(rebalance, "maxSkew", 1.2, "rebalance.maxSkew"),
        scale_down_timeout=duration(str(scale_down.get("timeout", "10m")), "scaleDown.timeout"),
        scale_down_force=_choice(scale_down, "policy", ("Safe", "Force"), "scaleDown.policy") == "Force",
        service_type=str(service.pop("type", "ClusterIP")),
        service_hosts=tuple(str(host) for host in service.pop("hosts", ())),
        service=service,
        resources=_mapping(spec, "resources"),
        affinity=_mapping(spec, "affinity"),
        topology_spread_constraints=spec.get("topologySpreadConstraints"),
        tolerations=_sequence(spec, "tolerations"),
        node_selector=_mapping(spec, "nodeSelector"),
        pod_disruption_budget=bool(spec.get("podDisruptionBudget", True)),
        network_policy=bool(spec.get("networkPolicy", True)),
        paused=bool(spec.get("paused", False)),
    )
    if not found.image:
        raise SpecError("image", "no image is named, and the operator knows none; set spec.image")
    if found.replicas < 1:
        raise SpecError("replicas", "a ring has at least one node; delete the Ring if you want none")
    if not 1 <= found.replication_factor <= found.replicas:
        raise SpecError(
            "replicationFactor",
            f"{found.replication_factor} copies need as many nodes; use 1 to {found.replicas}, or raise replicas",
        )
    if found.slots < 1 or found.slots & (found.slots - 1):
        raise SpecError("slots", f"{found.slots} is no power of two; use 1024")
    if tls.get("mode", "Off") != "Off":
        raise SpecError("tls.mode", "TLS comes with a later release; use Off")
    return found


def duration(text: str, field: str) -> float:
    """Return a duration such as 10m, 90s or 1h30m in seconds. Raises SpecError."""
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        raise SpecError(field, f"{text!r} is no duration; write it as 10m, 90s or 1h30m")
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(hours * 3600 + minutes * 60 + seconds)


def _mapping(of: Mapping[str, Any], key: str, field: str | None = None) -> Mapping[str, Any]:
    found = of.get(key) or {}
    if not isinstance(found, Mapping):
        raise SpecError(field or key, "must be an object")
    return found


def _sequence(of: Mapping[str, Any], key: str) -> Sequence[Mapping[str, Any]]:
    found = of.get(key) or ()
    if not isinstance(found, Sequence) or isinstance(found, str):
        raise SpecError(key, "must be a list")
    return tuple(found)


def _whole(of: Mapping[str, Any], key: str, default: int, field: str) -> int:
    found = of.get(key, default)
    if not isinstance(found, int) or isinstance(found, bool):
        raise SpecError(field, f"{found!r} is no whole number")
    return found


def _number(of: Mapping[str, Any], key: str, default: float, field: str) -> float:
    found = of.get(key, default)
    if not isinstance(found, int | float) or isinstance(found, bool) or found < 1:
        raise SpecError(field, f"{found!r} is no number of at least 1")
    return float(found)


def _choice(of: Mapping[str, Any], key: str, choices: Sequence[str], field: str) -> str:
    found = of.get(key, choices[0])
    if found not in choices:
        raise SpecError(field, f"{found!r} is none of {', '.join(choices)}")
    return str(found)
