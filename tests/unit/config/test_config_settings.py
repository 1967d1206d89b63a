"""Where settings come from, which one wins, and what is said of those that cannot be."""

from __future__ import annotations

import argparse
import ast
import inspect
import itertools
from dataclasses import fields
from pathlib import Path

import pytest

from coterie_node.cli.arguments import add_config, add_run, effective, make_parser, table
from coterie_node.config import settings as config_module
from coterie_node.config.settings import PRESETS, Address, ConfigError, NodeConfig, Sourced, read_config

Environment = dict[str, str]


def parser() -> argparse.ArgumentParser:
    made = make_parser()
    commands = made.add_subparsers(dest="command", required=True)
    add_run(commands)
    add_config(commands)
    return made


def run(*flags: str, environment: Environment | None = None) -> tuple[NodeConfig, dict[str, Sourced]]:
    arguments = parser().parse_args(["run", "--data-dir", "/data/n1", *flags])
    config, settings = effective(arguments, environment or {})
    return config, {one.name: one for one in settings}


def test_defaults() -> None:
    config, sources = run()
    assert config.name == "n1"
    assert config.listen_client == Address("127.0.0.1", 7400)
    assert (config.listen_peer.port, config.listen_admin.port) == (7401, 7402)
    assert (config.replication_factor, config.slots, config.ring_uid, config.found) == (None, None, "", False)
    assert (config.replace_after, config.repair_interval, config.bcrypt_cost) == (60.0, 30.0, 12)
    assert sources["slots"].source == "default"
    assert sources["data_dir"].source == "--data-dir"


def test_flag_before_environment_before_file_before_preset_before_default(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text('preset = "wan"\nheartbeat = 2\nsilence = 11.0\nname = "from the file"\n')
    environment = {"COTERIE_NODE_CONFIG": str(file), "COTERIE_NODE_SILENCE": "12", "COTERIE_NODE_NAME": "from there"}
    config, sources = run("--name", "from the flag", environment=environment)
    found = {name: (getattr(config, name), sources[name].source) for name in sources}
    assert found["name"] == ("from the flag", "--name")
    assert found["silence"] == (12.0, "COTERIE_NODE_SILENCE")
    assert found["heartbeat"] == (2.0, str(file))
    assert found["dial_timeout"] == (PRESETS["wan"]["dial_timeout"], "preset wan")
    assert found["repair_interval"] == (30.0, "default")


def test_the_preset_itself_may_come_from_anywhere() -> None:
    config, _ = run("--preset", "cluster", environment={"COTERIE_NODE_PRESET": "wan"})
    assert config.dial_timeout == PRESETS["cluster"]["dial_timeout"]
    config, _ = run(environment={"COTERIE_NODE_PRESET": "wan"})
    assert config.silence == PRESETS["wan"]["silence"]


def test_values_of_a_file_have_their_own_types(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text(
        'found = true\nslots = 64\nseed = ["a:1", "[::1]:2"]\nlisten-peer = "0.0.0.0:9"\nadmin-token-file = "/t"\n'
    )
    config, _ = run("--config", str(file))
    assert config.found is True
    assert config.slots == 64
    assert config.seed == (Address("a", 1), Address("::1", 2))
    assert config.listen_peer == Address("0.0.0.0", 9)
    assert config.admin_token_file == Path("/t")


def test_seeds_may_be_given_again_or_with_commas() -> None:
    config, _ = run("--seed", "a:1", "--seed", "b:2")
    assert config.seed == (Address("a", 1), Address("b", 2))
    config, _ = run(environment={"COTERIE_NODE_SEED": "a:1, b:2"})
    assert config.seed == (Address("a", 1), Address("b", 2))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--slots", "1000"], "--slots '1000': must be a power of two"),
        (["--slots", "many"], "must be a whole number"),
        (["--replication-factor", "0"], "must be at least 1"),
        (["--replication-factor", "256"], "must be at most 255"),
        (["--connections", str(1 << 53)], "must be at most"),
        (["--connections", "9" * 5000], "must be a whole number"),
        (["--pending-bytes", "-1"], "must be at least 1"),
        (["--silence", "1e400"], "must be a number of seconds"),
        (["--silence", "nan"], "must be a number of seconds"),
        (["--message-ttl", "9" * 400 + "d"], "must be a time above 0"),
        (["--listen-peer", "127.0.0.1:" + "9" * 5000], "must be HOST:PORT"),
        (["--listen-peer", "127.0.0.1:\u0661"], "must be HOST:PORT"),
        (["--listen-peer", "a" * 256 + ":1"], "must be HOST:PORT"),
        (["--name", "n" * 256], "at most 255 characters"),
        (["--name", "n\x1b[2J"], "must be printable"),
        (["--name", "n\udcff"], "must be printable"),
        (["--advertise", "h" * 256], "at most 255 characters"),
        (["--replication-factor", "0"], "at least 1"),
        (["--seed", "nowhere"], "--seed 'nowhere': must be HOST:PORT"),
        (["--seed", "a:1,.example:7401"], "a part of its name is empty"),
        (["--seed", "256.1.1.1:7401"], "256.1.1.1 is no IPv4 address"),
        (["--seed", "0.0.0.0:7401"], "0.0.0.0 is where one listens"),
        (["--seed", "[::]:7401"], ":: is where one listens"),
        (["--listen-peer", "a..b:7401"], "a part of its name is empty"),
        (["--listen-client", "::1:7400"], "must be HOST:PORT"),
        (["--listen-peer", "127.0.0.1:70000"], "must be HOST:PORT"),
        (["--listen-peer", "127.0.0.1:7400"], "is given for two"),
        (["--discovery", "dns"], "needs --peers-service"),
        (["--discovery", "multicast"], "needs --secret-file"),
        (["--peers-service", "main peers"], "must be a DNS name"),
        (["--peers-service", "main-peers.chat.svc:7401"], "must be a DNS name without a port"),
        (["--peers-service", "10.0.0.1"], "name it with --seed"),
        (["--multicast-group", "10.0.0.1:7403"], "must be an IPv4 multicast group and a port"),
        (["--multicast-group", "239.1.2.3"], "must be an IPv4 multicast group and a port"),
        (["--multicast-group", "239.1.2.3:0"], "must be an IPv4 multicast group and a port"),
        (["--discovery", "carrier pigeons"], "must be one of static"),
        (["--preset", "moon"], "must be one of local, cluster, wan"),
        (["--replace-after", "soon"], "number of seconds"),
        (["--replace-after", "-1"], "above 0"),
        (["--heartbeat", "0.6"], "at least twice as long"),
        (["--bcrypt-cost", "31"], "between 4 and 20"),
        (["--admin-host", "http://node"], "must be a host name without a port"),
        (["--admin-host", "node:7402"], "must be a host name without a port"),
        (["--admin-host", "a.*.b"], "must be a host name without a port"),
        (["--allowed-origin", "chat.example.org"], "must be an origin"),
        (["--allowed-origin", "https://chat.example.org/page"], "must be an origin"),
        (["--allowed-origin", "*"], "must be an origin"),
        (["--ring-uid", "main"], "32 hexadecimal digits"),
        (["--config", "/nowhere/node.toml"], "cannot read /nowhere/node.toml: No such file"),
        (["--data-dir", ""], "--data-dir is missing"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(flags: list[str], words: str) -> None:
    with pytest.raises(ConfigError) as error:
        run(*flags)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_who_may_ask_at_the_ports() -> None:
    config, sources = run(
        "--admin-host", "Ring.example.org", "--admin-host", "*.inner.example.org", "--admin-host", "*"
    )
    assert config.admin_host == ("ring.example.org", "*.inner.example.org", "*")
    assert sources["admin_host"].shown == "ring.example.org,*.inner.example.org,*"
    config, _ = run(environment={"COTERIE_NODE_ALLOWED_ORIGIN": "https://chat.example.org/, http://[::1]:8000"})
    assert config.allowed_origin == ("https://chat.example.org", "http://[::1]:8000")
    assert run()[0].allowed_origin == run()[0].admin_host == ()


def test_how_a_node_finds_the_others() -> None:
    config, _ = run("--discovery", "dns", "--peers-service", "main-peers.chat.svc")
    assert (config.discovery, config.peers_service) == ("dns", "main-peers.chat.svc")
    config, sources = run("--discovery", "multicast", "--secret-file", "/s", "--multicast-group", "239.1.2.3:99")
    assert (config.secret_file, config.multicast_group) == (Path("/s"), Address("239.1.2.3", 99))
    assert sources["multicast_group"].shown == "239.1.2.3:99"
    assert NodeConfig().multicast_group == Address("239.255.74.1", 7403)


@pytest.mark.parametrize(
    ("settings", "founds"),
    [
        ({}, False),
        ({"FOUND": "true"}, True),
        ({"FOUNDER": "n1"}, True),
        ({"FOUNDER": ""}, False),
        ({"FOUNDER": "n2"}, False),
        ({"FOUNDER": "n1", "NAME": "main-0"}, False),
        ({"FOUNDER": "main-0", "NAME": "main-0"}, True),
        ({"FOUNDER": "n1", "RING_UID": "5" * 32}, False),
        ({"FOUND": "true", "RING_UID": "5" * 32}, True),
    ],
)
def test_who_founds_the_ring(settings: Environment, founds: bool) -> None:
    config, _ = run(environment={f"COTERIE_NODE_{name}": value for name, value in settings.items()})
    assert config.founds is founds


def test_an_empty_variable_is_no_setting_where_there_may_be_none() -> None:
    names = ("RING_UID", "FOUNDER", "SEED", "PEERS_SERVICE", "SECRET_FILE", "ADMIN_TOKEN_FILE", "ADVERTISE")
    config, sources = run(environment={f"COTERIE_NODE_{name}": "" for name in names})
    assert config == run()[0]
    assert {sources[name.lower()].shown for name in names} == {""}


def test_a_variable_that_cannot_be_is_named() -> None:
    with pytest.raises(ConfigError, match=r"COTERIE_NODE_FOUND 'perhaps': must be true or false"):
        run(environment={"COTERIE_NODE_FOUND": "perhaps"})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("slotz = 1", "no setting is called 'slotz'"),
        ("slots = ", "is not TOML"),
        ("[slots]\nx = 1", "slots is a table"),
        ("slots = 3", "slots '3': must be a power of two"),
        ("\udc80", "is not TOML"),
        pytest.param("slots = " + "9" * 5000, "too long a number", id="a number of 5000 digits"),
        pytest.param("slots = " + "[" * 5000, "too deep a nesting", id="arrays in arrays"),
    ],
)
def test_a_file_that_cannot_be(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "node.toml"
    file.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ConfigError) as error:
        run("--config", str(file))
    assert words in str(error.value)
    assert str(file) in str(error.value)


def test_a_wrong_flag_is_one_line_and_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    for line in (["run", "--nonsense"], ["run", "--seed"], ["rum"], []):
        with pytest.raises(SystemExit) as ended:
            parser().parse_args(line)
        assert ended.value.code == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "--help" in error


@pytest.mark.parametrize("command", ["run", "config"])
def test_help_names_every_flag_and_variable_and_has_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parser().parse_args([command, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for one in fields(NodeConfig):
        assert "--" + one.name.replace("_", "-") in text
        assert f"COTERIE_NODE_{one.name.upper()}" in text
    assert f"coterie-node {command}" in text.split("examples:")[1]


def test_the_table_shows_where_each_setting_comes_from() -> None:
    settings = read_config({"data_dir": "/d"}, {"COTERIE_NODE_PRESET": "wan", "COTERIE_NODE_SEED": "a:1,b:2"})
    lines = {line.split()[0]: line.split()[1:] for line in table(settings).splitlines()}
    assert lines["data-dir"] == ["/d", "--data-dir"]
    assert lines["seed"] == ["a:1,b:2", "COTERIE_NODE_SEED"]
    assert lines["silence"] == ["5", "preset", "wan"]
    assert lines["slots"] == ["-", "default"]


def test_every_setting_says_why_it_is_what_it_is() -> None:
    tree = ast.parse(inspect.getsource(config_module))
    (body,) = [node.body for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == "NodeConfig"]
    for setting, why in itertools.pairwise(body):
        if isinstance(setting, ast.AnnAssign):
            assert isinstance(why, ast.Expr)
            assert isinstance(why.value, ast.Constant)


def test_the_ring_page_is_on_until_somebody_closes_it() -> None:
    assert run()[0].page == "on"
    config, settings = run("--page", "off")
    assert (config.page, settings["page"].shown, settings["page"].source) == ("off", "off", "--page")
    config, settings = run(environment={"COTERIE_NODE_PAGE": "off"})
    assert (config.page, settings["page"].source) == ("off", "COTERIE_NODE_PAGE")
    with pytest.raises(ConfigError, match="--page 'maybe'"):
        run("--page", "maybe")
