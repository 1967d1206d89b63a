"""Makes the way of discovery that the settings name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from coterie_protocol.nodes import PeerHello
from coterie_protocol.words import counted

from ..config.settings import ConfigError, NodeConfig
from ..watched import WatchedFile
from .base import Discovery
from .dns import DnsDiscovery
from .multicast import MulticastDiscovery
from .static import StaticDiscovery

MIN_SECRET = 16
"""Bytes below which a secret could be guessed from a recorded datagram."""


def choose(config: NodeConfig, hello: Callable[[], PeerHello]) -> Discovery:
    """Return the discovery for these settings. Raises ConfigError when the ring's secret cannot be read."""
    if config.discovery == "dns":
        return DnsDiscovery(config.peers_service)
    if config.discovery == "multicast":
        assert config.secret_file is not None
        secret = watched_secret(config.secret_file)
        return MulticastDiscovery(config.multicast_group, config.multicast_interface, secret, config.ring_uid, hello)
    return StaticDiscovery(config.seed)


def read_secret(path: Path) -> bytes:
    """Read the ring's secret; white space around it does not count. Raises ConfigError."""
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"cannot read the ring's secret {path}: {error.strerror}; check --secret-file") from None
    if len(secret) < MIN_SECRET:
        raise ConfigError(
            f"the ring's secret in {path} has {counted(len(secret), 'byte')}; give it {MIN_SECRET} at least, "
            "such as what `openssl rand -hex 32` prints, the same for all nodes"
        )
    return secret


def watched_secret(path: Path) -> Callable[[], bytes]:
    """Return what tells the secret as the file has it now, should it be made anew. Raises ConfigError."""
    read_secret(path)
    try:
        return WatchedFile(path, good=lambda secret: len(secret) >= MIN_SECRET).current
    except OSError as error:
        raise ConfigError(f"cannot read the ring's secret {path}: {error.strerror}; check --secret-file") from None
