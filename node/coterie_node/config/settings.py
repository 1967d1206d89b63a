"""A node's settings: flag, then environment, then file, then preset, then default. Read in this one place.

Every setting is a field of `NodeConfig`: the flag `--its-name`, the variable `COTERIE_NODE_ITS_NAME` and the key
`its-name` of a TOML file all mean the same.
"""

# ruff: noqa: RUF009  # `_setting` is dataclasses.field with named metadata
from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from . import values as read
from .environment import misspelt
from .values import Address, Duration, address

__all__ = [
    "ENVIRONMENT",
    "PRESETS",
    "Address",
    "ConfigError",
    "NodeConfig",
    "Sourced",
    "address",
    "flag_of",
    "node_config",
    "read_config",
    "unknown_variables",
]

ENVIRONMENT = "COTERIE_NODE_"


class ConfigError(Exception):
    """A setting that cannot be; one line that names it, says why and what to do."""


def _setting(default: Any, reader: read.Reader, help_: str, metavar: str = "") -> Any:
    return field(default=default, metadata={"read": reader, "help": help_, "metavar": metavar})


@dataclass(frozen=True)
class NodeConfig:
    """The effective settings of a node."""

    # --- Who it is ---
    data_dir: Path = _setting(Path(), Path, "the node's data; made if missing (required)", "DIR")
    """Everything that the node knows. Whoever empties it makes a new node of it."""
    name: str = _setting("", read.label, "what people call the node (default: the data directory's name)", "NAME")
    """For tables and logs only; nodes know each other by uid."""

    # --- Its ring ---
    found: bool = _setting(False, read.boolean, "found a ring; ignored when the data directory has one")
    """A ring is founded once, on purpose: a node without this waits until a ring answers."""
    ring_uid: str = _setting("", read.uid, "join only this ring (with --found: the uid of the new one)", "UID")
    """Protects a node from joining a stranger's ring by a wrong seed."""
    replication_factor: int | None = _setting(
        None, read.copies, "K, the disks that keep each message; fixed at the founding (there: 3)", "K"
    )
    """None: what the ring has, or 3 when this node founds it. Another K than the ring's is refused."""
    slots: int | None = _setting(
        None, read.slots, "S, parts of the ring, a power of two; fixed at the founding (there: 1024)", "S"
    )
    """None: what the ring has, or 1024. At least ten for each node that there will ever be."""
    seed: tuple[Address, ...] = _setting(
        (), read.addresses, "a node to find the ring by; may be given again", "HOST:PORT"
    )
    """Peer ports of other nodes. Peers that were met once are remembered; seeds matter for the first start."""
    founder: str = _setting("", read.text, "found a ring if this is the node's own name", "NAME")
    """For nodes that are started alike, by a StatefulSet for one. As `found`, but a no-op once `ring_uid` is given:
    whoever knows that uid has seen the ring, and a founder that has lost its disk must not begin a second one."""

    # --- How it finds the others ---
    discovery: str = _setting(
        "static", read.choice("static", "dns", "multicast"), "static (the seeds), dns or multicast", "HOW"
    )
    """`dns` asks for `peers_service`; `multicast` announces on `multicast_group`, sealed with the secret."""
    peers_service: str = _setting("", read.service, "the DNS name whose SRV records (_peer._tcp) are the nodes", "NAME")
    """For `dns`. On Kubernetes a headless Service that publishes addresses which are not ready."""
    secret_file: Path | None = _setting(
        None, read.file, "holds the ring's secret (multicast discovery needs it)", "FILE"
    )
    """16 bytes or more, the same for all nodes of a ring. It seals announcements, and is never sent or logged."""
    multicast_group: Address = _setting(
        Address("239.255.74.1", 7403), read.group, "where nodes announce themselves", "GROUP:PORT"
    )
    """Of the addresses that every organisation may use as it likes (RFC 2365). Give each ring of a network its own: a
    node warns of what it hears and has no part in."""
    multicast_interface: str = _setting("", read.text, "the only interface for it, by name or address", "NAME")
    """Empty: every interface that is up and has an IPv4 address, also those that come later."""

    # --- Where it listens ---
    listen_client: Address = _setting(Address("127.0.0.1", 7400), address, "for clients", "ADDR")
    """Loopback by default, as the others: without TLS, which comes later, nothing should be open to a network."""
    listen_peer: Address = _setting(Address("127.0.0.1", 7401), address, "for other nodes", "ADDR")
    """Nodes trust whoever speaks here. Open it to a network of yours only."""
    listen_admin: Address = _setting(
        Address("127.0.0.1", 7402), address, "for the admin API, health and metrics", "ADDR"
    )
    """Reading is open to who reaches it; changes need the token."""
    page: str = _setting("on", read.choice("on", "off"), "the ring page on the admin port, on or off", "on|off")
    """It shows names, addresses and numbers of nodes to whoever reaches the admin port, as the admin API does."""
    admin_host: tuple[str, ...] = _setting(
        (), read.hosts, "a name by which people reach the admin port; may be given again", "NAME"
    )
    """Against pages that point a name of theirs at this node (DNS rebinding): it answers to addresses, `localhost`,
    this machine's name, what it advertises and its peers' service, and to these. `*.NAME`: those below; `*`: every."""
    allowed_origin: tuple[str, ...] = _setting(
        (), read.origins, "an origin whose pages may connect as clients; may be given again", "ORIGIN"
    )
    """Browsers let every page open a WebSocket to anywhere, and say which one it was: no page may, but for these."""
    advertise: str = _setting("", read.label, "the host by which others reach this node", "HOST")
    """Default: where it listens for peers or, when that is every address (0.0.0.0, [::]), this machine's end of its
    connections with other nodes. To be named where addresses are translated on the way."""
    admin_token_file: Path | None = _setting(None, read.file, "holds the token that admin changes need", "FILE")
    """Without it nobody can change anything through the admin API."""

    # --- Timings ---
    preset: str = _setting("local", read.choice("local", "cluster", "wan"), "timings for this network", "PRESET")
    """`local`: all nodes on one machine. `cluster`: one data centre. `wan`: round trips of some 100 ms."""
    heartbeat: float = _setting(0.25, read.seconds, "how often a quiet link says that its node lives", "SECONDS")
    """Four within `silence`, so that a lost packet or a short stall condemns nobody."""
    silence: float = _setting(1.0, read.seconds, "a peer silent for so long counts as dead", "SECONDS")
    """What a frozen node costs those who wait for it. Shorter than a stall that is normal here, it costs links."""
    dial_timeout: float = _setting(1.0, read.seconds, "how long opening a link may take", "SECONDS")
    """A few round trips, and a loaded peer's patience."""
    replace_after: float = _setting(60.0, read.seconds, "how long a dead node keeps its slots", "SECONDS")
    """A restart that is shorter moves nothing; a loss that is not noticed for longer risks the second copy."""
    handover_round: float = _setting(0.25, read.seconds, "how often slots are compared with the ring", "SECONDS")
    """How fast joins and leaves move data; each round costs one lookup a node."""
    repair_interval: float = _setting(30.0, read.seconds, "how often members compare when all is quiet", "SECONDS")
    """Changes of members are compared at once; this finds what was lost without anyone noticing."""

    # --- How long things are kept ---
    message_ttl: Duration = _setting(
        Duration(30 * 86_400), read.duration, "how long a message waits before it expires", "TIME"
    )
    """Give all nodes the same. A majority of the clocks of those that hold a message must say that it is so old."""
    tombstone_ttl: Duration = _setting(
        Duration(45 * 86_400), read.duration, "how long is remembered what expired or was deleted", "TIME"
    )
    """Above `message_ttl`. A node that was away for longer than the difference checks first whether the ring went on
    without it, and brings only its waiting messages back if so."""

    # --- Limits ---
    bulk_bytes_per_second: int = _setting(
        64 * 1024 * 1024, read.positive, "bytes a second that repair and hand-over send", "N"
    )
    """Above what one node's Python moves, so it guards networks and disks that are slower; lower it for those."""
    sends_per_second: int = _setting(1000, read.positive, "messages a second of one session", "N")
    """Above what people and scripts need, below what would crowd others out; twice as many may come at once."""
    pending_records: int = _setting(100_000, read.positive, "messages that may wait for one user", "N")
    """Bounds what strangers can make a node keep for somebody who never collects it."""
    pending_bytes: int = _setting(512 * 1024 * 1024, read.positive, "bytes that may wait for one user", "N")
    """The same in bytes of bodies. The archive has a quota of its own, so that a full one never blocks mail."""
    archive_records: int = _setting(1_000_000, read.positive, "archived messages of one user", "N")
    """Beyond it messages are still delivered, but no copies are kept for the user's other devices."""
    archive_bytes: int = _setting(2 * 1024 * 1024 * 1024, read.positive, "archived bytes of one user", "N")
    """The same in bytes of bodies."""
    logins_per_account: int = _setting(
        10, read.positive, "wrong passwords for one account from one address at once", "N"
    )
    """Then one more after 6 s, 12 s, … 15 min: guessing is hopeless, mistyping is not punished, and nobody elsewhere
    waits. An IPv6 address counts as its /64, here and below."""
    logins_per_address: int = _setting(200, read.positive, "logins at once from one address", "N")
    """Each costs a bcrypt; a whole company may sit behind one address."""
    connections: int = _setting(8192, read.positive, "open connections of clients in all", "N")
    """Each costs a file descriptor and some 30 KB; clients above it are sent to other nodes."""
    connections_per_address: int = _setting(4096, read.positive, "open connections from one address", "N")
    """Bounds sockets and memory that one client can hold."""
    bcrypt_cost: int = _setting(12, read.bcrypt_cost, "cost of a password check, as a power of two", "N")
    """12 takes about 0.2 s: slow for who guesses, bearable for who logs in. Lower it for tests only."""

    # --- Logs ---
    log_level: str = _setting(
        "info", read.choice("debug", "info", "warning", "error"), "the least that is logged", "LEVEL"
    )
    """Messages and secrets are never logged, at any level."""
    log_format: str = _setting("console", read.choice("console", "json"), "how it is logged", "FORMAT")
    """`json`: one object a line, for collectors."""

    @property
    def founds(self) -> bool:
        """Say whether the node founds a ring if its data directory has none."""
        return self.found or (self.founder == self.name and not self.ring_uid)


PRESETS: dict[str, dict[str, Any]] = {
    "local": {},
    "cluster": {"dial_timeout": 2.0},
    "wan": {"heartbeat": 1.0, "silence": 5.0, "dial_timeout": 10.0, "handover_round": 1.0},
}
"""What each preset changes of the defaults. Ring timings are chosen by the same names in ring/settings.py."""


@dataclass(frozen=True)
class Sourced:
    """A setting, its value and where it came from: a flag, a variable, a file, a preset or "default"."""

    name: str
    value: Any
    source: str

    @property
    def shown(self) -> str:
        """Return the value as one would type it."""
        return read.shown(self.value)


def read_config(
    flags: Mapping[str, str | list[str] | None], environment: Mapping[str, str] = os.environ
) -> list[Sourced]:
    """Return every effective setting with its source. `flags` are the flags' texts by field, and `config`.

    Raises ConfigError.
    """
    path = flags.get("config") or environment.get(f"{ENVIRONMENT}CONFIG")
    assert path is None or isinstance(path, str)
    file = _read_file(path) if path else {}
    given = {one.name: _given(one.name, flags, environment, file, path or "") for one in fields(NodeConfig)}
    preset = given["preset"]
    name = "local" if preset is None else preset.value
    return [given[one.name] or _fallback(one.name, one.default, name) for one in fields(NodeConfig)]


def unknown_variables(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return a sentence for each variable that looks like a setting and is none."""
    known = ["config", *(one.name for one in fields(NodeConfig))]
    return misspelt(environment, ENVIRONMENT, [ENVIRONMENT + name.upper() for name in known])


def node_config(settings: Sequence[Sourced]) -> NodeConfig:
    """Make the settings one object, checked as a whole. Raises ConfigError."""
    values = {one.name: one.value for one in settings}
    if values["data_dir"] == Path():
        raise ConfigError("--data-dir is missing: name a directory for the node's data, such as --data-dir ./node1")
    try:
        values["name"] = values["name"] or read.label(values["data_dir"].absolute().name)
    except ValueError as error:
        raise ConfigError(
            f"the data directory's name cannot be the node's ({error}); give it one with --name"
        ) from None
    config = NodeConfig(**values)
    if config.discovery == "dns" and not config.peers_service:
        raise ConfigError(
            "--discovery dns needs --peers-service: name the service of the nodes, such as main-peers.chat.svc"
        )
    if config.discovery == "multicast" and config.secret_file is None:
        raise ConfigError(
            "--discovery multicast needs --secret-file: make one with `openssl rand -hex 32`, the same for all nodes"
        )
    if config.silence < 2 * config.heartbeat:
        raise ConfigError(
            f"--silence {config.silence:g} is too short for --heartbeat {config.heartbeat:g}: "
            "every peer would count as dead; make it at least twice as long"
        )
    if config.tombstone_ttl <= config.message_ttl:
        raise ConfigError(
            f"--tombstone-ttl {config.tombstone_ttl} must be above --message-ttl {config.message_ttl}: "
            "a node that was away could bring deleted messages back; make it half as long again"
        )
    listens = [config.listen_client, config.listen_peer, config.listen_admin]
    for one in listens:
        if one.port and listens.count(one) > 1:
            raise ConfigError(f"{one} is given for two of --listen-client, --listen-peer and --listen-admin")
    return config


def _given(
    name: str,
    flags: Mapping[str, str | list[str] | None],
    environment: Mapping[str, str],
    file: Mapping[str, str],
    path: str,
) -> Sourced | None:
    twin = ENVIRONMENT + name.upper()
    if (flag := flags.get(name)) is not None:
        text, source = (",".join(flag) if isinstance(flag, list) else flag), flag_of(name)
    elif twin in environment:
        text, source = environment[twin], twin
    elif name in file:
        text, source = file[name], path
    else:
        return None
    try:
        return Sourced(name, _reader(name)(text), source)
    except ValueError as error:
        where = f"{source}: {name.replace('_', '-')}" if source == path else source
        raise ConfigError(f"{where} {text!r}: {error}") from None


def _fallback(name: str, default: Any, preset: str) -> Sourced:
    if name in PRESETS[preset]:
        return Sourced(name, PRESETS[preset][name], f"preset {preset}")
    return Sourced(name, default, "default")


def flag_of(name: str) -> str:
    """Return the flag of a setting."""
    return "--" + name.replace("_", "-")


def _reader(name: str) -> read.Reader:
    reader: read.Reader = NodeConfig.__dataclass_fields__[name].metadata["read"]
    return reader


def _read_file(path: str) -> dict[str, str]:
    try:
        with Path(path).open("rb") as file:
            table = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; check --config") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None
    except (ValueError, RecursionError):  # tomllib's own, for numbers of 4,300 digits and tables in tables in tables
        raise ConfigError(f"{path} has too long a number, or too deep a nesting; no setting needs one") from None
    known = {one.name for one in fields(NodeConfig)}
    values = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in known:
            raise ConfigError(f"{path}: no setting is called {key!r}; coterie-node run --help lists them")
        if isinstance(value, dict):
            raise ConfigError(f"{path}: {key} is a table; give it a value")
        values[name] = read.written(value)
    return values
