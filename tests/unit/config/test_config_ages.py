"""How long things are kept: what is read, what is shown, what is refused."""

from __future__ import annotations

import pytest

from coterie_node.cli.arguments import add_run, effective, make_parser
from coterie_node.config.settings import ConfigError, NodeConfig, Sourced
from coterie_node.config.values import Duration, duration


def run(*flags: str, **environment: str) -> tuple[NodeConfig, dict[str, Sourced]]:
    parser = make_parser()
    add_run(parser.add_subparsers(dest="command", required=True))
    config, settings = effective(parser.parse_args(["run", "--data-dir", "/data/n1", *flags]), environment)
    return config, {one.name: one for one in settings}


def test_a_month_and_half_as_long_again_by_default() -> None:
    config, settings = run()
    assert [config.message_ttl, config.tombstone_ttl] == [duration("30d"), duration("45d")]
    assert (settings["message_ttl"].shown, settings["tombstone_ttl"].shown) == ("30d", "45d")


def test_flag_and_variable_take_units() -> None:
    config, settings = run("--message-ttl", "36h", COTERIE_NODE_TOMBSTONE_TTL="3d")
    assert [config.message_ttl, config.tombstone_ttl] == [129_600.0, 259_200.0]
    assert settings["message_ttl"].shown == "36h"


@pytest.mark.parametrize("tombstones", ["30d", "1h"])
def test_tombstones_must_outlive_messages(tombstones: str) -> None:
    with pytest.raises(ConfigError, match=r"--tombstone-ttl .* must be above --message-ttl 30d"):
        run("--tombstone-ttl", tombstones)


@pytest.mark.parametrize("text", ["", "0", "-1d", "1w", "d", "1e9", "nan"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="such as 30d"):
        duration(text)


@pytest.mark.parametrize(("text", "shown"), [("90", "90s"), ("60", "1m"), ("1.5d", "36h"), ("0.5s", "0.5s")])
def test_a_time_is_shown_as_one_would_write_it(text: str, shown: str) -> None:
    assert str(duration(text)) == shown
    assert isinstance(duration(text), Duration)
    assert duration(shown) == duration(text)
