"""Reading a Ring's spec: the definition's defaults, and sentences about what cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from coterie_operator.model import RingSpec
from coterie_operator.spec import SpecError, duration, read_spec

CRD = Path(__file__).parents[3] / "chart" / "crds" / "rings.yaml"
IMAGE = "coterie:1"


def read(**spec: Any) -> RingSpec:
    return read_spec({"metadata": {"name": "main"}, "spec": spec}, IMAGE)


def filled(schema: dict[str, Any], value: Any) -> Any:
    """Fill in defaults as the API server does."""
    if not isinstance(value, dict):
        return value
    properties = schema.get("properties", {})
    defaults = {name: one["default"] for name, one in properties.items() if "default" in one}
    return {name: filled(properties.get(name, {}), one) for name, one in {**defaults, **value}.items()}


def test_an_empty_spec_is_all_defaults() -> None:
    assert read() == RingSpec(image=IMAGE)
    assert read_spec({"metadata": {}}, IMAGE) == RingSpec(image=IMAGE)


def test_the_defaults_are_those_of_the_definition() -> None:
    (version,) = yaml.safe_load(CRD.read_text())["spec"]["versions"]
    schema = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    complete = filled(schema, {})
    assert complete["storage"]["size"] == "1Gi"
    assert read(**complete) == read()


def test_every_field_is_read() -> None:
    everything = {
        "replicas": 5,
        "replicationFactor": 2,
        "slots": 64,
        "image": "elsewhere/coterie:2",
        "imagePullPolicy": "Always",
        "imagePullSecrets": [{"name": "one"}, {"name": "two"}],
        "storage": {"size": "10Gi", "className": "fast", "retain": False},
        "discovery": "multicast",
        "hostNetwork": True,
        "rebalance": {"mode": "Off", "maxSkew": 2},
        "scaleDown": {"timeout": "1h30m", "policy": "Force"},
        "tls": {"mode": "Off"},
        "update": {"maxUnavailable": 1},
        "service": {"type": "NodePort", "hosts": ["chat.example"], "nodePort": 30400, "annotations": {"a": "b"}},
        "resources": {"limits": {"memory": "1Gi"}},
        "affinity": {"nodeAffinity": {}},
        "topologySpreadConstraints": [{"topologyKey": "zone"}],
        "tolerations": [{"key": "chat"}],
        "nodeSelector": {"disk": "ssd"},
        "podDisruptionBudget": False,
        "networkPolicy": False,
        "monitoring": {"annotations": False, "from": [{"podSelector": {}}]},
        "paused": True,
    }
    assert read(**everything) == RingSpec(
        replicas=5,
        replication_factor=2,
        slots=64,
        image="elsewhere/coterie:2",
        image_pull_policy="Always",
        image_pull_secrets=("one", "two"),
        storage_size="10Gi",
        storage_class="fast",
        retain=False,
        discovery="multicast",
        host_network=True,
        rebalance=False,
        max_skew=2.0,
        scale_down_timeout=5400.0,
        scale_down_force=True,
        service_type="NodePort",
        service_hosts=("chat.example",),
        service={"nodePort": 30400, "annotations": {"a": "b"}},
        resources={"limits": {"memory": "1Gi"}},
        affinity={"nodeAffinity": {}},
        topology_spread_constraints=({"topologyKey": "zone"},),
        tolerations=({"key": "chat"},),
        node_selector={"disk": "ssd"},
        pod_disruption_budget=False,
        network_policy=False,
        scrape_annotations=False,
        scrape_from=({"podSelector": {}},),
        paused=True,
    )


@pytest.mark.parametrize(
    ("spec", "field", "said"),
    [
        ({"replicas": 0, "replicationFactor": 1}, "replicas", "at least one"),
        ({"replicas": "3"}, "replicas", "no whole number"),
        ({"replicas": True}, "replicas", "no whole number"),
        ({"replicas": 2}, "replicationFactor", "use 1 to 2, or raise replicas"),
        ({"replicationFactor": 0}, "replicationFactor", "use 1 to 3"),
        ({"slots": 1000}, "slots", "power of two"),
        ({"slots": 1 << 21}, "slots", "up to 1048576"),
        ({"imagePullPolicy": "Sometimes"}, "imagePullPolicy", "IfNotPresent, Always, Never"),
        ({"imagePullSecrets": ["one"]}, "imagePullSecrets", "list of objects"),
        ({"storage": "10Gi"}, "storage", "no object"),
        ({"storage": {"size": "big"}}, "storage.size", "write it as 10Gi"),
        ({"storage": {"size": "0"}}, "storage.size", "write it as 10Gi"),
        ({"storage": {"retain": "no"}}, "storage.retain", "neither true nor false"),
        ({"discovery": "gossip"}, "discovery", "dns, multicast"),
        ({"rebalance": {"mode": "Never"}}, "rebalance.mode", "Auto, Off"),
        ({"rebalance": {"maxSkew": 1}}, "rebalance.maxSkew", "at least 1.05"),
        ({"rebalance": {"maxSkew": float("nan")}}, "rebalance.maxSkew", "at least 1.05"),
        ({"scaleDown": {"timeout": "soon"}}, "scaleDown.timeout", "10m, 90s or 1h30m"),
        ({"scaleDown": {"policy": "Now"}}, "scaleDown.policy", "Safe, Force"),
        ({"tls": {"mode": "Managed"}}, "tls.mode", "use Off"),
        ({"update": {"maxUnavailable": 2}}, "update.maxUnavailable", "use 1"),
        ({"tolerations": "all"}, "tolerations", "list of objects"),
        ({"monitoring": {"from": "all"}}, "from", "list of objects"),
        ({"monitoring": {"annotations": "yes"}}, "monitoring.annotations", "neither true nor false"),
        ({"paused": "yes"}, "paused", "neither true nor false"),
    ],
)
def test_what_cannot_be_is_a_sentence_about_its_field(spec: dict[str, Any], field: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        read(**spec)
    assert caught.value.field == field
    assert str(caught.value).startswith(f"spec.{field}: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_image_must_come_from_somewhere() -> None:
    with pytest.raises(SpecError, match=r"spec\.image: no image is named"):
        read_spec({"spec": {}})


@pytest.mark.parametrize(
    ("text", "seconds"), [("10m", 600), ("90s", 90), ("1h30m", 5400), ("1h0m5s", 3605), ("0s", 0), ("007s", 7)]
)
def test_durations(text: str, seconds: float) -> None:
    assert duration(text, "x") == seconds


@pytest.mark.parametrize("text", ["", "m", "10", "1.5h", "-5s", "5s1m", "10 m", "1d", "٣s", "9" * 99 + "s"])
def test_no_durations(text: str) -> None:
    with pytest.raises(SpecError, match=r"spec\.x: "):
        duration(text, "x")
