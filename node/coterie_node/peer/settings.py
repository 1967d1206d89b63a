"""The timings and bounds of the links between nodes. Seconds and bytes."""

from __future__ import annotations

from dataclasses import dataclass

from ..config.settings import NodeConfig


@dataclass(frozen=True)
class PeerSettings:
    """The defaults are the preset `local`; `peer_settings` takes what differs by preset from the configuration."""

    heartbeat: float = 0.25
    """How often a link that has nothing to say says that its node lives."""
    silence: float = 1.0
    """A peer not heard of for this long is not alive: the link is cut and dialled anew."""
    dial_timeout: float = 1.0
    """How long one attempt to open a link may take, from the first packet to the peer's hello."""
    redial_first: float = 0.05
    """The mean pause before the first new attempt for a wanted link; it doubles with each that fails ..."""
    redial_most: float = 2.0
    """... up to this, so that a node that returns is linked within two seconds."""
    redial_gone: float = 15.0
    """The longest pause for a node that has been away for more than a minute. It dials too when it returns."""
    close_timeout: float = 0.5
    """How long a link that is closed in good order may take to write what is queued and to say goodbye."""
    urgent_bytes: int = 64 * 1024 * 1024
    """What may wait for one peer. Above it the peer is too slow to keep: the link is cut rather than memory filled."""
    urgent_frames: int = 500_000
    """The same for frames, each of which costs memory beside its bytes."""
    bulk_bytes: int = 8 * 1024 * 1024
    """Bulk that may wait for one peer; further bulk requests wait for space, further bulk events are refused."""
    connections: int = 4096
    """Connections to the peer port, in all and from one address: all nodes of a ring may be on one machine."""
    answering: int = 4096
    """Requests of one peer that are answered at the same time; further ones are answered BUSY."""
    bulk_answers: int = 64
    """Large answers that wait for space in the bulk of one peer, who does not read; further ones become BUSY."""
    bulk_chunk: int = 64 * 1024
    """A bulk message closes at this size (a larger frame travels alone), so that urgent frames wait for one at most."""


def peer_settings(config: NodeConfig) -> PeerSettings:
    """Return the settings that a configuration asks for."""
    return PeerSettings(heartbeat=config.heartbeat, silence=config.silence, dial_timeout=config.dial_timeout)
