"""The ring's settings: times in seconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RingSettings:
    """How often the ring looks after itself. The defaults are the preset `cluster`."""

    successors: int = 4
    """r, the length of the successor list, never less than K: r - 1 neighbours may die between two rounds."""
    stabilize: float = 1.0
    """Period of stabilize. Lost links are noticed without it; this is how fast everything else heals."""
    nudge: float = 0.1
    """The shortest time between two rounds of stabilize: changes are passed on at once, but not more often."""
    ask_timeout: float = 1.0
    """How long to wait for an answer before its sender is suspected."""
    probe_timeout: float = 1.0
    """How long a suspected node has to answer over a fresh connection."""
    lookup_timeout: float = 5.0
    """How long a lookup may go on trying other ways round dead nodes."""
    fingers: float = 3.0
    """Period in which one finger is refreshed. Stale fingers cost hops, never correctness."""
    fingers_first: float = 0.1
    """The same right after a join, until every finger has been set once."""
    meet: float = 2.0
    """Period in which a remembered node out of sight is asked for its circle."""
    meet_alone: float = 0.2
    """The same for a node that is alone: it is the one that has to find the others."""
    grace: float = 0.6
    """How long a node that is alone looks for a circle before it makes one with another that is alone."""
    beat: float = 2.0
    """How often the smallest live uid of a circle says that it lives."""
    circle_ttl: float = 15.0
    """After so long without a beat that uid names the circle no more. Above `beat` and the time once round the ring."""
    busy: float = 0.2
    """How long a joining node waits when the arc is just being given to another."""
    reservation: float = 4.0
    """How long a granted position is kept for a node that does not appear. A node that comes back and is alone grants
    none for as long: its circle is probably somewhere else. Above `grace`."""
    join_retry: float = 0.3
    """How long a joining node waits before it tries the next contact."""
    dead_for: float = 30.0
    """How long a dead node, as others still name it, is left out of what they tell."""


PRESETS = {
    "local": RingSettings(
        stabilize=0.25,
        nudge=0.03,
        ask_timeout=0.5,
        probe_timeout=0.5,
        lookup_timeout=2.0,
        fingers=1.0,
        fingers_first=0.05,
        meet=1.0,
        meet_alone=0.1,
        grace=0.3,
        beat=0.5,
        circle_ttl=3.0,
        busy=0.1,
        reservation=2.0,
        join_retry=0.15,
        dead_for=10.0,
    ),
    "cluster": RingSettings(),
    "wan": RingSettings(
        stabilize=3.0,
        nudge=0.3,
        ask_timeout=3.0,
        probe_timeout=3.0,
        lookup_timeout=15.0,
        fingers=10.0,
        fingers_first=0.5,
        meet=5.0,
        meet_alone=1.0,
        grace=3.0,
        beat=5.0,
        circle_ttl=45.0,
        busy=1.0,
        reservation=15.0,
        join_retry=1.0,
        dead_for=120.0,
    ),
}
"""`local`: all nodes on one machine. `cluster`: one data centre. `wan`: round trips of some 100 ms."""
