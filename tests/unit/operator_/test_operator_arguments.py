"""The command line of the operator and its environment twins."""

from __future__ import annotations

import pytest

from coterie_operator.arguments import CrdConfig, RunConfig, UsageError, parse
from coterie_operator.entry import main
from coterie_operator.permits import Permits


def run(*arguments: str, **environment: str) -> RunConfig:
    config = parse(["run", *arguments], "1.0", environment)
    assert isinstance(config, RunConfig)
    return config


def test_defaults() -> None:
    config = run()
    assert (config.namespace, config.all_namespaces, config.metrics_port) == (None, False, 8080)
    assert (config.lease_name, config.lease_duration) == ("coterie-operator", 6)
    assert config.identity


def test_a_flag_comes_before_its_twin() -> None:
    config = run(
        "--namespace", "chat", COTERIE_OPERATOR_NAMESPACE="other", COTERIE_OPERATOR_METRICS_PORT="9090",
        COTERIE_OPERATOR_NODE_IMAGE="coterie:1", COTERIE_OPERATOR_POD_NAME="operator-1",
    )  # fmt: skip
    assert (config.namespace, config.metrics_port, config.node_image) == ("chat", 9090, "coterie:1")
    assert config.identity == "operator-1"
    assert run(COTERIE_OPERATOR_ALL_NAMESPACES="true").all_namespaces


def test_nothing_but_the_own_image_is_allowed_unless_somebody_says_so() -> None:
    own = run("--node-image", "registry.example/coterie:1").permits
    assert own == Permits(images=("registry.example/coterie",))
    assert run().permits == Permits()
    allowed = run(
        "--allow-images", "a/b, c/*", "--allow-pull-secrets", "one", "--allow-host-network",
        "--allow-service-annotations", "x.example/*", "--allow-service-types", "ClusterIP",
        COTERIE_OPERATOR_ALLOW_CONTROL_PLANE="true",
    ).permits  # fmt: skip
    assert allowed == Permits(("a/b", "c/*"), ("one",), True, True, ("x.example/*",), ("ClusterIP",))


def test_a_ring_that_the_operator_is_given() -> None:
    given = run("--own-ring", '{"metadata":{"name":"main"},"spec":{"hostNetwork":true}}', "--node-image", "a:1")
    assert given.own_ring is not None
    assert given.own_ring[0] == "main"
    assert given.own_ring[1].host_network


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--lease-duration", "soon"], "'soon' is no number"),
        (["--lease-duration", "0.1"], "the least is 1"),
        (["--metrics-port", "70000"], "70000 is no port"),
        (["--log-level", "loud"], "none of debug, info, warning, error"),
        (["--namespace", "chat", "--all-namespaces"], "not both"),
        (["--own-ring", "[]"], "is no Ring as JSON"),
        (["--own-ring", '{"metadata":{"name":"main"},"spec":{"hostNetwork":"so"}}'], "is no Ring as JSON"),
    ],
)
def test_impossible_values(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match=said):
        run(*arguments)
    assert main(["run", *arguments]) == 2
    printed = capsys.readouterr().err
    assert said in printed
    assert printed.count("\n") == 1


def test_an_unknown_flag_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(["run", "--namespaces", "x"], "1.0", {})
    assert ended.value.code == 2
    assert "coterie-operator" in capsys.readouterr().err


def test_help_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(["run", "--help"], "1.0", {})
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "coterie-operator run --kubeconfig" in shown
    assert "COTERIE_OPERATOR_LEASE_DURATION" in shown


def test_apply_crd() -> None:
    config = parse(["apply-crd", "rings.yaml"], "1.0", {"COTERIE_OPERATOR_KUBECONFIG": "/k"})
    assert isinstance(config, CrdConfig)
    assert (str(config.file), config.kubeconfig, config.timeout) == ("rings.yaml", "/k", 60)
