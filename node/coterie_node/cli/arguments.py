"""The command line of `coterie-node run` and `coterie-node config`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields

from ..config import values
from ..config.settings import ENVIRONMENT, ConfigError, NodeConfig, Sourced, flag_of, node_config, read_config

RUN_EXAMPLES = """\
examples:
  coterie-node run --data-dir ./n1 --found
      found a ring with this node (three nodes make it complete)
  coterie-node run --data-dir ./n2 --seed 127.0.0.1:7401 --listen-client 127.0.0.1:7410 \\
      --listen-peer 127.0.0.1:7411 --listen-admin 127.0.0.1:7412
      join it from a second terminal
  coterie-node run --data-dir ./n3 --discovery multicast --secret-file ring.secret --listen-peer 0.0.0.0:7401
      find the others of an office network by themselves; one of them was started with --found
  COTERIE_NODE_DATA_DIR=/var/lib/coterie coterie-node run --config /etc/coterie/node.toml

A flag comes before its environment twin (in brackets), that before the file, that before the preset.
Nodes speak plain text until TLS comes: listen on loopback (the default) or on a network of your own.
SIGTERM drains the node and ends it within 10 seconds.
"""
CONFIG_EXAMPLES = """\
examples:
  coterie-node config
      every setting, its value and where it came from
  coterie-node config --preset wan --config node.toml
"""


def add_run(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add `run`."""
    return _add(commands, "run", "run a node of a ring until it is told to stop", RUN_EXAMPLES)


def add_config(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add `config`."""
    return _add(commands, "config", "show the settings that `run` would use", CONFIG_EXAMPLES)


def effective(
    arguments: argparse.Namespace, environment: Mapping[str, str] = os.environ
) -> tuple[NodeConfig, list[Sourced]]:
    """Return the settings of `run`, and each with its source. Raises ConfigError: print it and exit with 2."""
    settings = read_config(vars(arguments), environment)
    return node_config(settings), settings


def table(settings: Sequence[Sourced]) -> str:
    """Write settings as `coterie-node config` prints them: name, value, source."""
    width = max(len(one.name) for one in settings)
    value = min(40, max(len(one.shown) for one in settings))
    return "\n".join(
        f"{one.name.replace('_', '-'):{width}}  {one.shown or '-':{value}}  {one.source}" for one in settings
    )


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add a flag for every setting, and --config. Values stay texts: `read_config` reads them all alike."""
    parser.add_argument("--config", metavar="FILE", help=f"a TOML file of settings [{ENVIRONMENT}CONFIG]")
    for one in fields(NodeConfig):
        default = "" if one.default is None else values.shown(one.default)
        text = one.metadata["help"] + (f" (default: {default})" if default not in ("", "false") else "")
        text = f"{text} [{ENVIRONMENT}{one.name.upper()}]".replace("%", "%%")
        if one.metadata["read"] is values.boolean:
            parser.add_argument(flag_of(one.name), action="store_const", const="true", help=text)
        elif one.metadata["read"] in values.SEVERAL:
            parser.add_argument(flag_of(one.name), action="append", metavar=one.metadata["metavar"], help=text)
        else:
            parser.add_argument(flag_of(one.name), metavar=one.metadata["metavar"], help=text)


class _OneLineParser(argparse.ArgumentParser):
    """Says what is wrong in one line, where argparse would print the whole usage first."""

    def error(self, message: str) -> None:  # type: ignore[override]
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def make_parser(prog: str = "coterie-node") -> argparse.ArgumentParser:
    """Return a parser that takes subcommands: `add_run`, `add_config`, and others that main adds."""
    return _OneLineParser(prog=prog, description="One node of a coterie ring.", allow_abbrev=False)


def bare_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, help_: str, examples: str
) -> argparse.ArgumentParser:
    """Add a command that takes none of the settings of `run`."""
    return commands.add_parser(
        name,
        help=help_,
        description=help_[0].upper() + help_[1:] + ".",
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, help_: str, examples: str
) -> argparse.ArgumentParser:
    parser = bare_command(commands, name, help_, examples)
    add_flags(parser)
    return parser


__all__ = ["ConfigError", "add_config", "add_flags", "add_run", "bare_command", "effective", "make_parser", "table"]
