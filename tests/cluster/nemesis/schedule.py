"""Which faults come when: all of it follows from the seed, before anything runs."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass

WEIGHTS = {
    "kill": 150,
    "kill the owner": 90,
    "kill a gateway": 90,
    "freeze": 90,
    "freeze the owner": 50,
    "freeze a gateway": 50,
    "partition in two": 60,
    "partition one way": 60,
    "isolate": 50,
    "slow disk": 70,
    "full disk": 60,
    "clock jump": 60,
    "power cut": 60,
    "power cut of all": 14,
    "kill all": 12,
    "rolling restart": 6,
    "freeze for a minute": 3,
    "disk deleted": 14,
    "record corrupted": 12,
    "log truncated": 10,
    "leave": 12,
    "leave in a crash": 10,
    "join": 10,
}
"""How many of about a thousand. What needs the whole ring to mend before the next one is rarer."""
NEEDS_SHIM = frozenset({"slow disk", "full disk", "clock jump", "power cut", "power cut of all"})
NEEDS_NETWORK = frozenset({"partition in two", "partition one way", "isolate"})
LONG = frozenset({"freeze for a minute"})
"""Not in a run of a few minutes."""
PAIRS = 0.3
"""Share of faults that begin together with the one before."""


@dataclass(frozen=True)
class Event:
    """A fault that is to be."""

    number: int
    kind: str
    pause: float
    """Seconds after the beginning of the one before."""
    seed: int
    """Of whatever else is decided about it."""

    def dice(self) -> random.Random:
        return random.Random(self.seed)


def schedule(seed: int, count: int, mean_pause: float, *, without: Collection[str] = ()) -> list[Event]:
    """Return `count` faults, on average `mean_pause` seconds apart, none of the kinds in `without`.

    Every kind comes once before any kind comes twice, if there are so many.
    """
    dice = random.Random(seed)
    kinds = [kind for kind in WEIGHTS if kind not in without]
    first = dice.sample(kinds, len(kinds))[:count]
    rest = dice.choices(kinds, [WEIGHTS[kind] for kind in kinds], k=count - len(first))
    events = []
    for number, kind in enumerate([*first, *rest]):
        together = number > 0 and dice.random() < PAIRS
        pause = 0.0 if together else dice.expovariate((1 - PAIRS) / mean_pause)
        events.append(Event(number, kind, pause, dice.getrandbits(63)))
    return events
