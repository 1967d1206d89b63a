"""Variables that look like settings and are none."""

from __future__ import annotations

import pytest

from coterie_node.cli.main import main
from coterie_node.config.settings import ENVIRONMENT, unknown_variables


@pytest.mark.parametrize(
    ("name", "meant"),
    [("SEEDS", "SEED"), ("LISTEN_CLIENTS", "LISTEN_CLIENT"), ("REPLICATIONFACTOR", "REPLICATION_FACTOR")],
)
def test_a_misspelt_setting_names_the_nearest_one(name: str, meant: str) -> None:
    (said,) = unknown_variables({f"{ENVIRONMENT}{name}": "x"})
    assert said.startswith(f"'{ENVIRONMENT}{name}' is no setting of this release and does nothing; ")
    assert said.endswith(f"did you mean {ENVIRONMENT}{meant}?")


def test_what_resembles_nothing_is_told_where_to_look() -> None:
    (said,) = unknown_variables({f"{ENVIRONMENT}XYZZY_42": "x"})
    assert said.endswith("coterie-node run --help names them all")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "tcp://10.96.0.1:7400"),
        ("SERVICE_HOST", "10.96.0.1"),
        ("SERVICE_PORT", "7400"),
        ("SERVICE_PORT_CLIENT", "7400"),
        ("PORT_7400_TCP", "tcp://10.96.0.1:7400"),
        ("PORT_7400_TCP_PROTO", "tcp"),
        ("PORT_7400_TCP_PORT", "7400"),
        ("PORT_7400_TCP_ADDR", "10.96.0.1"),
        ("PEERS_SERVICE_HOST", "10.96.0.1"),
        ("PEERS_PORT", "tcp://10.96.0.1:7401"),
        ("SEED", "10.0.0.1:7401"),
        ("CONFIG", "node.toml"),
    ],
)
def test_settings_and_the_links_of_kubernetes_services_are_none(name: str, value: str) -> None:
    assert unknown_variables({f"{ENVIRONMENT}{name}": value, "COTERIE_SERVERS": "", "PATH": ""}) == []


def test_config_shows_them(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(f"{ENVIRONMENT}LISTEN_PEAR", "0.0.0.0:7401")
    assert main(["config", "--data-dir", "here"]) == 0
    assert f"did you mean {ENVIRONMENT}LISTEN_PEER?" in capsys.readouterr().err


def test_many_are_told_in_few_lines() -> None:
    said = unknown_variables({f"{ENVIRONMENT}UNHEARD_OF_{number}": "" for number in range(1000)})
    assert len(said) == 21
