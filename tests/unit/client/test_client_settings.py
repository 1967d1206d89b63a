from __future__ import annotations

import stat
from pathlib import Path

import pytest

from coterie_client.errors import UsageError
from coterie_client.settings import DEFAULT_SERVERS, MAX_CONFIG_BYTES, load_settings


def test_a_flag_beats_the_environment_which_beats_the_file(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('servers = ["ws://127.0.0.1:1", "ws://127.0.0.1:2"]\nca = "file.pem"\n')
    environ = {"COTERIE_HOME": str(tmp_path)}
    assert load_settings({}, environ).servers == ("ws://127.0.0.1:1", "ws://127.0.0.1:2")
    environ["COTERIE_SERVERS"] = "ws://127.0.0.1:3, ws://[::1]:4"
    assert load_settings({}, environ).servers == ("ws://127.0.0.1:3", "ws://[::1]:4")
    assert load_settings({"servers": "ws://localhost:5"}, environ).servers == ("ws://localhost:5",)
    assert load_settings({}, environ).ca == Path("file.pem")
    assert load_settings({}, environ | {"COTERIE_CA": "other.pem"}).ca == Path("other.pem")


def test_the_default_is_the_local_ring(tmp_path: Path) -> None:
    settings = load_settings({"home": str(tmp_path)}, {})
    assert settings.servers == DEFAULT_SERVERS
    assert settings.tls() is None


def test_plain_text_is_for_loopback_only(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="in the clear"):
        load_settings({"home": str(tmp_path), "servers": "ws://192.0.2.1:7400"}, {})
    settings = load_settings({"home": str(tmp_path), "servers": "ws://192.0.2.1:7400", "insecure": True}, {})
    assert settings.servers == ("ws://192.0.2.1:7400",)
    load_settings({"home": str(tmp_path), "servers": "wss://chat.example:7400"}, {})


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:7400", "127.0.0.1:7400", "ws://", "ws://127.0.0.1:port", "ws://127.0.0.1/x", "ws://[::1"]
)
def test_an_address_that_makes_no_sense_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(UsageError, match="not a server's address"):
        load_settings({"home": str(tmp_path), "servers": url}, {})


@pytest.mark.parametrize("url", ["ws://.example:1", "wss://" + "x" * 64 + ".example", "ws://0:7400", "ws://[::]:7400"])
def test_an_address_that_makes_no_sense_is_told_with_its_source(tmp_path: Path, url: str) -> None:
    config = tmp_path / "config.toml"
    for flags, environ, source in (
        ({"servers": url}, {"COTERIE_SERVERS": "ws://127.0.0.1:1"}, "--servers"),
        ({}, {"COTERIE_SERVERS": url}, "COTERIE_SERVERS"),
        ({}, {}, f"servers in {config}"),
    ):
        config.write_text(f'servers = ["{url}"]\n')
        with pytest.raises(UsageError) as raised:
            load_settings({"home": str(tmp_path), **flags}, environ)
        assert str(raised.value).startswith(f"{source}: {url!r} is not a server's address: ")
        assert "write it as wss://host:port" in str(raised.value)


@pytest.mark.parametrize("text", ["servers = []", "servers = ''", "servers = [' ', '']", "servers = ','"])
def test_an_empty_list_of_servers_is_not_the_local_ring(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(UsageError, match=r"servers in .*config\.toml: no server is named; .* leave it out"):
        load_settings({"home": str(tmp_path)}, {})


def test_an_empty_flag_names_no_server(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--servers: no server is named"):
        load_settings({"home": str(tmp_path), "servers": ""}, {"COTERIE_SERVERS": "ws://127.0.0.1:1"})
    assert load_settings({"home": str(tmp_path)}, {"COTERIE_SERVERS": ""}).servers == DEFAULT_SERVERS


def test_addresses_are_kept_in_their_plain_form(tmp_path: Path) -> None:
    """Whoever writes WSS:// has TLS with the CA file that is named, and the same server twice is one."""
    settings = load_settings({"home": str(tmp_path), "servers": " WSS://Chat.Example/ ,ws://127.1:,ws://[::1]"}, {})
    assert settings.servers == ("wss://chat.example:7400", "ws://127.1:7400", "ws://[::1]:7400")
    assert settings.tls() is not None


@pytest.mark.parametrize(
    "text",
    [
        "servers = 5",
        "servers = ",
        "sewers = 'x'",
        "insecure = 'yes'",
        "ca = 1",
        pytest.param("insecure = " + "9" * 5000, id="a number of 5000 digits"),
        pytest.param("servers = " + "[" * 5000, id="arrays in arrays"),
        pytest.param("#" * (MAX_CONFIG_BYTES + 1), id="too much"),
    ],
)
def test_a_config_file_that_makes_no_sense_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(UsageError, match=r"config\.toml"):
        load_settings({"home": str(tmp_path)}, {})


def test_home_is_made_for_its_owner_only(tmp_path: Path) -> None:
    settings = load_settings({"home": str(tmp_path / "a" / "b")}, {})
    settings.make_home()
    assert stat.S_IMODE(settings.home.stat().st_mode) == 0o700


def test_a_home_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="not a directory"):
        load_settings({"home": str(tmp_path / "file")}, {})


def test_a_ca_file_whose_name_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('ca = "a\\u0000b"\nservers = "wss://localhost"')
    with pytest.raises(UsageError, match="cannot read the CA file"):
        load_settings({"home": str(tmp_path)}, {}).tls()


def test_a_missing_ca_file_is_refused(tmp_path: Path) -> None:
    settings = load_settings({"home": str(tmp_path), "servers": "wss://chat.example", "ca": "/nowhere.pem"}, {})
    with pytest.raises(UsageError, match="CA file"):
        settings.tls()
