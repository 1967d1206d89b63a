"""The pod of a node: what runs in it, with which settings, under which restrictions."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from . import names
from .model import RingSpec

Manifest = dict[str, Any]

USER = 65532
"""The user of the image; also the group that owns the data."""
DATA = "/data"
SECRETS = "/etc/coterie"
DEFAULT_RESOURCES: Manifest = {"requests": {"cpu": "50m", "memory": "128Mi"}}
HOSTNAME = "kubernetes.io/hostname"


def labels(ring: str) -> dict[str, str]:
    """Return the labels of everything that belongs to a ring."""
    return {
        names.RING_LABEL: ring,
        "app.kubernetes.io/name": "coterie",
        "app.kubernetes.io/instance": ring,
        "app.kubernetes.io/component": "node",
        "app.kubernetes.io/managed-by": "coterie-operator",
    }


def template_hash(ring: str, spec: RingSpec) -> str:
    """Return what tells one pod template from another; the same on every Python and for every replica count."""
    text = json.dumps(pod_template(ring, spec), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def pod_template(ring: str, spec: RingSpec) -> Manifest:
    """Return the template of the ring's pods. Who founds, and which ring it is, stands in the ConfigMap, not here."""
    pod: Manifest = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 30,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(ring, spec)],
        "volumes": [
            {"name": "tmp", "emptyDir": {}},
            {"name": "ring", "secret": {"secretName": names.ring_secret(ring), "defaultMode": 0o440}},
        ],
        # Who wishes for certain machines still wants the nodes apart; another podAntiAffinity replaces ours.
        "affinity": {**_affinity(ring, spec), **spec.affinity},
    }
    if spec.host_network:
        pod["hostNetwork"] = True
        # The cluster's DNS all the same: services are found by their names.
        pod["dnsPolicy"] = "ClusterFirstWithHostNet"
    if spec.image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in spec.image_pull_secrets]
    if spec.topology_spread_constraints:
        # Without a selector a constraint would count no pod at all.
        ours = {"labelSelector": {"matchLabels": {names.RING_LABEL: ring}}}
        pod["topologySpreadConstraints"] = [{**ours, **one} for one in spec.topology_spread_constraints]
    if spec.tolerations:
        pod["tolerations"] = [dict(one) for one in spec.tolerations]
    if spec.node_selector:
        pod["nodeSelector"] = dict(spec.node_selector)
    metadata: Manifest = {"labels": labels(ring)}
    if spec.scrape_annotations:
        metadata["annotations"] = {
            "prometheus.io/scrape": "true",
            "prometheus.io/port": str(names.ADMIN_PORT),
            "prometheus.io/path": "/metrics",
        }
    return {"metadata": metadata, "spec": pod}


def _container(ring: str, spec: RingSpec) -> Manifest:
    ports = {"client": names.CLIENT_PORT, "peer": names.PEER_PORT, "admin": names.ADMIN_PORT}
    return {
        "name": "node",
        "image": spec.image,
        "imagePullPolicy": spec.image_pull_policy,
        "args": ["coterie-node", "run"],
        "env": _environment(ring, spec),
        "ports": [
            {
                "name": name,
                "containerPort": port,
                "protocol": "TCP",
                **({"hostPort": port} if spec.host_network else {}),
            }
            for name, port in ports.items()
        ],
        "resources": dict(spec.resources) or DEFAULT_RESOURCES,
        # Starting may take a while (a large store); hanging shows within a minute, and one slow disk write is no hang.
        "startupProbe": _probe("/livez", period=1, failures=120),
        "livenessProbe": _probe("/livez", period=10, failures=6),
        "readinessProbe": _probe("/readyz", period=2, failures=2),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [
            {"name": "data", "mountPath": DATA},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108  (in the container)
            {"name": "ring", "mountPath": SECRETS, "readOnly": True},
        ],
    }


def _probe(path: str, *, period: int, failures: int) -> Manifest:
    return {
        "httpGet": {"path": path, "port": "admin"},
        "periodSeconds": period,
        "timeoutSeconds": 3,
        "failureThreshold": failures,
    }


def _environment(ring: str, spec: RingSpec) -> list[Manifest]:
    """Return the node's settings. References ($(…)) are to variables that stand before."""
    discovery = {"DISCOVERY": spec.discovery}
    if spec.discovery == "dns":
        discovery["PEERS_SERVICE"] = f"{names.peers_service(ring)}.$(POD_NAMESPACE).svc"
    settings = {
        "DATA_DIR": f"{DATA}/node",
        "NAME": "$(POD_NAME)",
        "ADVERTISE": "$(POD_IP)",
        "LISTEN_CLIENT": f"0.0.0.0:{names.CLIENT_PORT}",
        "LISTEN_PEER": f"0.0.0.0:{names.PEER_PORT}",
        "LISTEN_ADMIN": f"0.0.0.0:{names.ADMIN_PORT}",
        "PRESET": "cluster",
        "LOG_FORMAT": "json",
        "REPLICATION_FACTOR": str(spec.replication_factor),
        "SLOTS": str(spec.slots),
        "SECRET_FILE": f"{SECRETS}/{names.SECRET_KEY}",
        "ADMIN_TOKEN_FILE": f"{SECRETS}/{names.ADMIN_TOKEN_KEY}",
        **discovery,
    }
    return [
        _field("POD_NAME", "metadata.name"),
        _field("POD_NAMESPACE", "metadata.namespace"),
        _field("POD_IP", "status.podIP"),
        *({"name": f"COTERIE_NODE_{name}", "value": value} for name, value in settings.items()),
        _recorded("FOUNDER", ring, names.FOUNDER_KEY),
        _recorded("RING_UID", ring, names.RING_UID_KEY),
        # For people who run the client in the pod.
        {"name": "COTERIE_SERVERS", "value": f"ws://localhost:{names.CLIENT_PORT}"},
    ]


def _field(name: str, path: str) -> Manifest:
    return {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}


def _recorded(name: str, ring: str, key: str) -> Manifest:
    """Read at each start of the container: what is recorded meanwhile needs no new template."""
    source = {"name": names.ring_config(ring), "key": key}
    return {"name": f"COTERIE_NODE_{name}", "valueFrom": {"configMapKeyRef": source}}


def _affinity(ring: str, spec: RingSpec) -> Manifest:
    """Return anti-affinity to other nodes of the ring: a wish, or a must where two could not share the host's ports."""
    term = {"labelSelector": {"matchLabels": {names.RING_LABEL: ring}}, "topologyKey": HOSTNAME}
    if spec.host_network:
        return {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    wish = {"weight": 100, "podAffinityTerm": term}
    return {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [wish]}}
