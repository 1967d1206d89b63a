"""What the toy is made of: nodes, pods and a StatefulSet; and how long things take in it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from coterie_protocol.admin import RecordCounts

SLOTS = 64
START = datetime(2026, 1, 1, tzinfo=UTC)
TICK = timedelta(seconds=2)
BOOT, STOP, HAND_OVER, LEAVE, REPLACE_AFTER = 3, 2, 3, 4, 30
"""In ticks: until a node answers, until a pod is gone, hand-over, a leave, until a dead node is replaced."""
NOTHING = RecordCounts(0, 0, 0)


@dataclass
class Node:
    """What lies on a claim."""

    uid: str
    member: bool = False
    position: int = -1
    leaving: bool = False
    to_go: int = LEAVE
    dead: int = 0


@dataclass
class Pod:
    """A pod; it works once it is old enough, unless its template is bad."""

    uid: str
    template: str
    age: int = 0
    stopping: int = 0

    @property
    def up(self) -> bool:
        return self.age >= BOOT and not self.stopping and not self.template.startswith("bad")


@dataclass
class Set:
    """The StatefulSet."""

    replicas: int
    partition: int
    template: str
    current: str
    update: str
    seen: bool = False
