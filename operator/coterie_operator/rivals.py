"""Other operators that would look after the same Rings: two that do not share a lease would fight. Pure.

They are found by their pods, which an operator may list anyway. In one namespace the longest established goes on and
others stand aside; an operator of all namespaces leaves alone those that have one of their own. Two of all namespaces
are for the chart to refuse: a pod elsewhere says what its maker likes, and must not stop the operator of a cluster.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

LABELS = "app.kubernetes.io/name=coterie,app.kubernetes.io/component=operator"
"""Of the chart's operator pods."""
LEASE = "COTERIE_OPERATOR_LEASE_NAME"
EVERYWHERE = "COTERIE_OPERATOR_ALL_NAMESPACES"
LATEST = "9999"
"""Later than any time that Kubernetes writes."""


@dataclass(frozen=True)
class Rival:
    """Operators of another lease in a namespace."""

    namespace: str
    lease: str
    release: str
    """Helm's name for what they belong to; empty if they say nothing."""
    since: str
    """When the oldest of their pods was made."""


def rivals(pods: Iterable[Mapping[str, Any]], own_namespace: str, own_lease: str, *, everywhere: bool) -> list[Rival]:
    """Return who comes first: in the own namespace the one before us, elsewhere (if `everywhere`) all that are at home.

    `pods` are the operators' of the namespaces that are looked after.
    """
    since: dict[tuple[str, str], str] = {}
    release: dict[tuple[str, str], str] = {}
    for pod in pods:
        metadata = pod["metadata"]
        if "deletionTimestamp" in metadata or pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
            continue
        settings = _environment(pod)
        namespace = str(metadata["namespace"])
        if namespace != own_namespace and settings.get(EVERYWHERE, "").lower() == "true":
            continue
        key = namespace, settings.get(LEASE) or "coterie-operator"
        since[key] = min(since.get(key, LATEST), str(metadata.get("creationTimestamp") or LATEST))
        release[key] = str(metadata.get("labels", {}).get("app.kubernetes.io/instance", ""))
    mine = since.get((own_namespace, own_lease), LATEST), own_lease
    found = []
    for (namespace, lease), first in sorted(since.items()):
        here = namespace == own_namespace
        if (here and lease != own_lease and (first, lease) < mine) or (not here and everywhere):
            found.append(Rival(namespace, lease, release[namespace, lease], first))
    return found


def said(rival: Rival) -> str:
    """Say in one sentence who comes first, and what to do."""
    who = f"release {rival.release}" if rival.release else f"lease {rival.lease}"
    return (
        f"the operator of {who} looks after the Rings of namespace {rival.namespace} already, and two would fight:"
        " this one stands aside; uninstall one of the two (further Rings need no operator of their own)"
    )


def _environment(pod: Mapping[str, Any]) -> dict[str, str]:
    containers = pod.get("spec", {}).get("containers") or ()
    return {
        str(one["name"]): str(one.get("value") or "") for container in containers for one in container.get("env") or ()
    }
