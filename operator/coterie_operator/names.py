"""The names of things on Kubernetes, in one place: what a Ring called `main` is made of."""

from __future__ import annotations

GROUP = "coterie.chat"
VERSION = "v1alpha1"
PLURAL = "rings"
KIND = "Ring"
FIELD_MANAGER = "coterie-operator"

CLIENT_PORT = 7400
PEER_PORT = 7401
ADMIN_PORT = 7402

TEMPLATE_HASH = f"{GROUP}/template-hash"
"""Annotation of the StatefulSet: the hash of the pod template that was applied last."""
RING_LABEL = f"{GROUP}/ring"
"""Label of everything that belongs to a ring; its value is the ring's name."""

ADMIN_TOKEN_KEY = "admin-token"  # noqa: S105  (a key's name)
SECRET_KEY = "secret"  # noqa: S105
"""Key of the secret by which nodes know each other's multicast packets."""
FOUNDER_KEY = "founder"
RING_UID_KEY = "ring-uid"


def statefulset(ring: str) -> str:
    """Return the StatefulSet's name; its pods are `<ring>-0` and so on."""
    return ring


def pod(ring: str, ordinal: int) -> str:
    """Return a pod's name."""
    return f"{ring}-{ordinal}"


def claim(ring: str, ordinal: int) -> str:
    """Return the name of a pod's claim."""
    return f"data-{ring}-{ordinal}"


def ordinal(ring: str, pod_name: str) -> int | None:
    """Return a pod's ordinal, or None for a name that is none of this ring's."""
    head, _, tail = pod_name.rpartition("-")
    return int(tail) if head == ring and tail.isdecimal() else None


def peers_service(ring: str) -> str:
    """Return the headless service's name."""
    return f"{ring}-peers"


def client_service(ring: str) -> str:
    """Return the name of the service for clients."""
    return ring


def ring_config(ring: str) -> str:
    """Return the name of the ConfigMap that says who founds the ring and which ring it is."""
    return f"{ring}-ring"


def ring_secret(ring: str) -> str:
    """Return the name of the Secret with the admin token and the multicast secret."""
    return f"{ring}-ring"
