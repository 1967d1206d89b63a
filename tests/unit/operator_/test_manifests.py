"""What a ring is made of: names, owners, what follows from the spec, and what leaves the pods alone."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from coterie_operator import names
from coterie_operator.manifests import build, secret, template_hash
from coterie_operator.manifests_pod import pod_template
from coterie_operator.model import Observed, Plan, RingSpec

SPEC = RingSpec(image="coterie:1")
PLAN = Plan(replicas=3, partition=0, founder="main-0", ring_uid="")
KINDS = ["ConfigMap", "Service", "Service", "PodDisruptionBudget", "NetworkPolicy", "StatefulSet"]


def observed(spec: RingSpec = SPEC) -> Observed:
    return Observed(
        now=datetime(2026, 11, 24, tzinfo=UTC),
        name="main",
        namespace="chat",
        uid="11111111-2222-3333-4444-555555555555",
        generation=1,
        deleting=False,
        spec=spec,
        status={},
        template_hash=template_hash("main", spec),
        ring_uid="",
        statefulset=None,
    )


def made(plan: Plan = PLAN, **spec: Any) -> dict[str, Any]:
    """Return the manifests by kind; services by name."""
    found = build(observed(dataclasses.replace(SPEC, **spec)), plan)
    return {one["metadata"]["name"] if one["kind"] == "Service" else one["kind"]: one for one in found}


def pod(**spec: Any) -> Any:
    return made(**spec)["StatefulSet"]["spec"]["template"]["spec"]


def environment(**spec: Any) -> dict[str, Any]:
    (node,) = pod(**spec)["containers"]
    assert len({one["name"] for one in node["env"]}) == len(node["env"])
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in node["env"]}


def test_all_parts_belong_to_the_ring() -> None:
    found = build(observed(), PLAN)
    assert [one["kind"] for one in found] == KINDS
    for one in found:
        meta = one["metadata"]
        assert meta["namespace"] == "chat"
        assert meta["labels"][names.RING_LABEL] == "main"
        assert meta["labels"]["app.kubernetes.io/component"] == "node"
        (owner,) = meta["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["uid"]) == ("Ring", "main", observed().uid)
        assert owner["controller"] is owner["blockOwnerDeletion"] is True


def test_manifests_are_plain_json_and_the_same_each_time() -> None:
    first, second = (json.dumps(build(observed(), PLAN)) for _ in range(2))
    assert first == second


def test_the_plan_is_what_is_applied() -> None:
    found = made(Plan(replicas=4, partition=2, founder="", ring_uid="ab" * 16))
    spec = found["StatefulSet"]["spec"]
    assert spec["replicas"] == 4
    assert spec["updateStrategy"]["rollingUpdate"] == {"partition": 2}
    assert found["ConfigMap"]["data"] == {"founder": "", "ring-uid": "ab" * 16}


def test_optional_parts() -> None:
    assert "PodDisruptionBudget" not in made(pod_disruption_budget=False)
    assert "NetworkPolicy" not in made(network_policy=False)


@pytest.mark.parametrize(("retain", "policy"), [(True, "Retain"), (False, "Delete")])
def test_claims(retain: bool, policy: str) -> None:
    spec = made(retain=retain, storage_size="5Gi", storage_class="fast")["StatefulSet"]["spec"]
    assert spec["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": policy, "whenScaled": policy}
    (claim,) = spec["volumeClaimTemplates"]
    assert claim["metadata"]["name"] == "data"
    assert claim["metadata"]["labels"][names.RING_LABEL] == "main"
    assert claim["spec"]["resources"]["requests"]["storage"] == "5Gi"
    assert claim["spec"]["storageClassName"] == "fast"


def test_the_clusters_own_storage_class_is_not_named() -> None:
    (claim,) = made()["StatefulSet"]["spec"]["volumeClaimTemplates"]
    assert "storageClassName" not in claim["spec"]


def test_the_hash_is_the_same_on_every_machine() -> None:
    """A change of this value rolls every ring of everybody who upgrades the operator. So be it, but knowingly."""
    assert template_hash("main", SPEC) == "a44b8c8e1d5d8666"


@pytest.mark.parametrize(
    "change",
    [
        {"replicas": 7},
        {"storage_size": "9Gi"},
        {"paused": True},
        {"rebalance": False},
        {"max_skew": 2.0},
        {"scale_down_timeout": 1.0},
        {"service_type": "NodePort"},
        {"service": {"nodePort": 30400}},
        {"retain": False},
        {"pod_disruption_budget": False},
        {"network_policy": False},
        {"scrape_from": ()},
    ],
    ids=str,
)
def test_what_leaves_the_pods_alone(change: dict[str, Any]) -> None:
    assert template_hash("main", dataclasses.replace(SPEC, **change)) == template_hash("main", SPEC)


@pytest.mark.parametrize(
    "change",
    [
        {"image": "coterie:2"},
        {"image_pull_policy": "Always"},
        {"image_pull_secrets": ("mine",)},
        {"resources": {"limits": {"memory": "1Gi"}}},
        {"discovery": "multicast"},
        {"host_network": True},
        {"affinity": {"nodeAffinity": {}}},
        {"topology_spread_constraints": ({"topologyKey": "zone"},)},
        {"tolerations": ({"key": "chat"},)},
        {"node_selector": {"disk": "ssd"}},
        {"scrape_annotations": False},
    ],
    ids=str,
)
def test_what_makes_other_pods(change: dict[str, Any]) -> None:
    assert template_hash("main", dataclasses.replace(SPEC, **change)) != template_hash("main", SPEC)


def test_the_annotation_is_the_hash_that_was_observed() -> None:
    assert made()["StatefulSet"]["metadata"]["annotations"] == {names.TEMPLATE_HASH: template_hash("main", SPEC)}


def test_pods_say_where_they_can_be_scraped() -> None:
    """The port is one of the container's, and the path the node's own."""
    metrics = pytest.importorskip("coterie_node.api.metrics.exposition")
    template = made()["StatefulSet"]["spec"]["template"]
    said = template["metadata"]["annotations"]
    assert said == {"prometheus.io/scrape": "true", "prometheus.io/port": "7402", "prometheus.io/path": "/metrics"}
    ports = {one["name"]: one["containerPort"] for one in template["spec"]["containers"][0]["ports"]}
    assert said["prometheus.io/port"] == str(ports["admin"])
    assert said["prometheus.io/path"] == metrics.METRICS_PATH
    assert "annotations" not in made(scrape_annotations=False)["StatefulSet"]["spec"]["template"]["metadata"]


def test_scrapers_reach_the_admin_port_and_no_other() -> None:
    def peers(**spec: Any) -> dict[int, Any]:
        return {rule["ports"][0]["port"]: rule.get("from") for rule in made(**spec)["NetworkPolicy"]["spec"]["ingress"]}

    scraper = {"ipBlock": {"cidr": "10.0.0.0/8"}}
    assert {"namespaceSelector": {}} in peers()[names.ADMIN_PORT]
    closed, opened = peers(scrape_from=()), peers(scrape_from=(scraper,))
    assert {"namespaceSelector": {}} not in closed[names.ADMIN_PORT]
    assert opened == {**closed, names.ADMIN_PORT: [*closed[names.ADMIN_PORT], scraper]}


def test_the_nodes_settings() -> None:
    found = environment(replication_factor=2, slots=64)
    assert found["COTERIE_NODE_REPLICATION_FACTOR"] == "2"
    assert found["COTERIE_NODE_SLOTS"] == "64"
    assert found["COTERIE_NODE_DISCOVERY"] == "dns"
    assert found["COTERIE_NODE_PEERS_SERVICE"] == "main-peers.$(POD_NAMESPACE).svc"
    assert found["COTERIE_NODE_FOUNDER"] == {"configMapKeyRef": {"name": "main-ring", "key": "founder"}}
    assert found["COTERIE_NODE_RING_UID"] == {"configMapKeyRef": {"name": "main-ring", "key": "ring-uid"}}


def test_references_are_to_variables_that_stand_before() -> None:
    (node,) = pod()["containers"]
    known: set[str] = set()
    for one in node["env"]:
        for reference in one.get("value", "").split("$(")[1:]:
            assert reference.partition(")")[0] in known
        known.add(one["name"])


def test_multicast_asks_no_dns() -> None:
    found = environment(discovery="multicast")
    assert found["COTERIE_NODE_DISCOVERY"] == "multicast"
    assert "COTERIE_NODE_PEERS_SERVICE" not in found
    ports = [rule["ports"][0] for rule in made(discovery="multicast")["NetworkPolicy"]["spec"]["ingress"]]
    assert {"protocol": "UDP", "port": 7403} in ports


def test_the_settings_are_settings_of_the_node() -> None:
    """The operator may not import the node; the tests may."""
    config = pytest.importorskip("coterie_node.config.settings")
    known = {one.name for one in dataclasses.fields(config.NodeConfig)}
    for spec in ({}, {"discovery": "multicast"}):
        for name in environment(**spec):
            if name.startswith(config.ENVIRONMENT):
                assert name.removeprefix(config.ENVIRONMENT).lower() in known


def test_pods_prefer_hosts_of_their_own() -> None:
    (wish,) = pod()["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert wish["podAffinityTerm"]["topologyKey"] == "kubernetes.io/hostname"


def test_an_affinity_of_ones_own_leaves_the_wish_unless_it_says_otherwise() -> None:
    assert set(pod(affinity={"nodeAffinity": {}})["affinity"]) == {"nodeAffinity", "podAntiAffinity"}
    assert pod(affinity={"podAntiAffinity": {}})["affinity"] == {"podAntiAffinity": {}}


def test_a_spread_constraint_counts_the_rings_pods() -> None:
    own = {"topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}
    chosen = {**own, "labelSelector": {"matchLabels": {"a": "b"}}}
    first, second = pod(topology_spread_constraints=(own, chosen))["topologySpreadConstraints"]
    assert first["labelSelector"] == {"matchLabels": {names.RING_LABEL: "main"}}
    assert second == chosen


def test_host_network() -> None:
    found = pod(host_network=True)
    assert found["hostNetwork"] is True
    assert found["dnsPolicy"] == "ClusterFirstWithHostNet"
    assert "requiredDuringSchedulingIgnoredDuringExecution" in found["affinity"]["podAntiAffinity"]
    (node,) = found["containers"]
    assert all(port["hostPort"] == port["containerPort"] for port in node["ports"])


def test_the_pod_is_restricted_and_knows_no_api() -> None:
    found = pod()
    assert found["automountServiceAccountToken"] is False
    assert found["securityContext"]["runAsNonRoot"] is True
    assert found["securityContext"]["fsGroupChangePolicy"] == "OnRootMismatch"
    (node,) = found["containers"]
    assert node["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }


def test_the_spec_may_say_what_the_pods_need() -> None:
    found = pod(
        resources={"requests": {"cpu": "1"}},
        tolerations=({"key": "chat"},),
        node_selector={"disk": "ssd"},
        image_pull_secrets=("mine",),
    )
    assert found["containers"][0]["resources"] == {"requests": {"cpu": "1"}}
    assert found["tolerations"] == [{"key": "chat"}]
    assert found["nodeSelector"] == {"disk": "ssd"}
    assert found["imagePullSecrets"] == [{"name": "mine"}]
    assert pod()["containers"][0]["resources"]["requests"]


def test_the_service_for_clients() -> None:
    found = made(
        service_type="LoadBalancer",
        service={"annotations": {"a": "b"}, "nodePort": 30400, "externalTrafficPolicy": "Local"},
    )["main"]
    assert found["metadata"]["annotations"] == {"a": "b"}
    assert found["spec"]["type"] == "LoadBalancer"
    assert found["spec"]["externalTrafficPolicy"] == "Local"
    (port,) = found["spec"]["ports"]
    assert (port["port"], port["nodePort"]) == (7400, 30400)


def test_the_peers_service_names_pods_that_are_not_ready() -> None:
    spec = made()["main-peers"]["spec"]
    assert spec["clusterIP"] == "None"
    assert spec["publishNotReadyAddresses"] is True
    assert spec["ports"][0]["name"] == "peer"


def test_who_may_speak_to_a_node() -> None:
    client, peer, admin = made()["NetworkPolicy"]["spec"]["ingress"]
    assert "from" not in client
    assert peer["from"] == [{"podSelector": {"matchLabels": {names.RING_LABEL: "main"}}}]
    assert [one["ports"][0]["port"] for one in (client, peer, admin)] == [7400, 7401, 7402]
    assert len(admin["from"]) == 3


def test_the_secret() -> None:
    ring = {"metadata": {"name": "main", "namespace": "chat", "uid": observed().uid}}
    found = secret(ring, "token", "shared")
    assert found["metadata"]["name"] == "main-ring"
    assert found["metadata"]["labels"][names.RING_LABEL] == "main"
    assert found["stringData"] == {"admin-token": "token", "secret": "shared"}


def test_nothing_given_is_changed() -> None:
    spec = dataclasses.replace(SPEC, service={"annotations": {"a": "b"}, "nodePort": 30400}, affinity={"x": {}})
    before = repr(spec)
    build(observed(spec), PLAN)
    pod_template("main", spec)
    assert repr(spec) == before
