"""What a Ring is made of on Kubernetes, as plain objects for server-side apply. Pure: no I/O, no chance, no clock.

Every field that is set here is the operator's; whatever is left out is whoever's sets it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import names
from .manifests_pod import Manifest, labels, pod_template, template_hash
from .model import Observed, Plan

__all__ = ["build", "secret", "template_hash"]

MULTICAST_PORT = 7403
"""Where nodes hear each other's announcements (UDP)."""


def build(observed: Observed, plan: Plan) -> list[Manifest]:
    """Return the manifests of a ring, in the order in which they are applied; optional ones only if wanted."""
    spec = observed.spec
    found = [_config(observed, plan), _peers(observed), _clients(observed)]
    if spec.pod_disruption_budget:
        found.append(_budget(observed))
    if spec.network_policy:
        found.append(_policy(observed))
    return [*found, _statefulset(observed, plan)]


def secret(ring: Mapping[str, Any], token: str, shared: str) -> Manifest:
    """Return the Secret with the admin token and the secret of multicast, for a Ring resource. Made once, never again.

    `token` and `shared` are random texts.
    """
    meta = ring["metadata"]
    name, namespace = str(meta["name"]), str(meta["namespace"])
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": _meta(names.ring_secret(name), name, namespace, str(meta["uid"])),
        "type": "Opaque",
        "stringData": {names.ADMIN_TOKEN_KEY: token, names.SECRET_KEY: shared},
    }


def _meta(own: str, ring: str, namespace: str, uid: str) -> Manifest:
    owner = {
        "apiVersion": f"{names.GROUP}/{names.VERSION}",
        "kind": names.KIND,
        "name": ring,
        "uid": uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return {"name": own, "namespace": namespace, "labels": labels(ring), "ownerReferences": [owner]}


def _of(observed: Observed, own: str) -> Manifest:
    return _meta(own, observed.name, observed.namespace, observed.uid)


def _selector(ring: str) -> dict[str, str]:
    return {names.RING_LABEL: ring}


def _config(observed: Observed, plan: Plan) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _of(observed, names.ring_config(observed.name)),
        "data": {names.FOUNDER_KEY: plan.founder, names.RING_UID_KEY: plan.ring_uid},
    }


def _port(name: str, port: int) -> Manifest:
    return {"name": name, "port": port, "protocol": "TCP", "targetPort": name}


def _peers(observed: Observed) -> Manifest:
    """Return the headless service. It names pods that are not ready too: a node finds its ring before it is ready."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _of(observed, names.peers_service(observed.name)),
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": _selector(observed.name),
            "ports": [
                _port("peer", names.PEER_PORT),
                _port("admin", names.ADMIN_PORT),
                _port("client", names.CLIENT_PORT),
            ],
        },
    }


def _clients(observed: Observed) -> Manifest:
    extra = dict(observed.spec.service)
    meta = _of(observed, names.client_service(observed.name))
    if annotations := extra.pop("annotations", None):
        meta["annotations"] = dict(annotations)
    port = _port("client", names.CLIENT_PORT)
    if node_port := extra.pop("nodePort", None):
        port["nodePort"] = node_port
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta,
        "spec": {
            **extra,
            "type": observed.spec.service_type,
            "selector": _selector(observed.name),
            "ports": [port],
        },
    }


def _budget(observed: Observed) -> Manifest:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": _of(observed, names.statefulset(observed.name)),
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": _selector(observed.name)},
            # A node that is down may hold the only other copy of something: it is not for an eviction to decide.
            "unhealthyPodEvictionPolicy": "IfHealthyBudget",
        },
    }


def _policy(observed: Observed) -> Manifest:
    """Return who may speak to a node: anyone as a client, the ring as a peer, ring, operator and scrapers as admins."""
    ring = {"podSelector": {"matchLabels": _selector(observed.name)}}
    operator = {
        "namespaceSelector": {},
        "podSelector": {
            "matchLabels": {"app.kubernetes.io/name": "coterie", "app.kubernetes.io/component": "operator"}
        },
    }
    admins = [ring, operator, *observed.spec.scrape_from]
    ingress: list[Manifest] = [
        {"ports": [{"protocol": "TCP", "port": names.CLIENT_PORT}]},
        {"ports": [{"protocol": "TCP", "port": names.PEER_PORT}], "from": [ring]},
        {"ports": [{"protocol": "TCP", "port": names.ADMIN_PORT}], "from": admins},
    ]
    if observed.spec.discovery == "multicast":
        ingress.append({"ports": [{"protocol": "UDP", "port": MULTICAST_PORT}], "from": [ring]})
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _of(observed, names.statefulset(observed.name)),
        "spec": {
            "podSelector": {"matchLabels": _selector(observed.name)},
            "policyTypes": ["Ingress"],
            "ingress": ingress,
        },
    }


def _statefulset(observed: Observed, plan: Plan) -> Manifest:
    spec = observed.spec
    meta = _of(observed, names.statefulset(observed.name))
    meta["annotations"] = {names.TEMPLATE_HASH: observed.template_hash}
    retention = "Retain" if spec.retain else "Delete"
    claim: Manifest = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": spec.storage_size}},
        "volumeMode": "Filesystem",
    }
    if spec.storage_class is not None:
        claim["storageClassName"] = spec.storage_class
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": meta,
        "spec": {
            "replicas": plan.replicas,
            "serviceName": names.peers_service(observed.name),
            "podManagementPolicy": "Parallel",
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": plan.partition}},
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": retention, "whenScaled": retention},
            "selector": {"matchLabels": _selector(observed.name)},
            "template": pod_template(observed.name, spec),
            "volumeClaimTemplates": [
                {
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "metadata": {"name": "data", "labels": labels(observed.name)},
                    "spec": claim,
                }
            ],
        },
    }
