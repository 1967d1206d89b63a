"""What the ring wants done. The driver carries effects out in order, and reports back what comes of them."""

from __future__ import annotations

from enum import Enum
from typing import Any, NamedTuple

from coterie_protocol.nodes import NodeRef


class Timer(Enum):
    """The ring's timers. Starting one that runs already replaces it."""

    STABILIZE = "stabilize"
    NUDGE = "nudge"
    FINGERS = "fingers"
    MEET = "meet"
    JOIN = "join"


class Owner(NamedTuple):
    """The result of a lookup: the slot's owner, the node before it, those after it, and how many nodes were asked."""

    owner: NodeRef
    predecessor: NodeRef | None
    successors: tuple[NodeRef, ...]
    hops: int


class Hop(NamedTuple):
    """One step of a lookup as it was taken: whom this node asked, when (in seconds), and whether it answered."""

    node: NodeRef
    asked: float
    ended: float
    answered: bool


class Send(NamedTuple):
    """Send an event. It may be lost."""

    to: NodeRef
    message: Any


class Ask(NamedTuple):
    """Send a request; report `on_answer(token, answer)`, or None for no answer in `timeout` seconds."""

    to: NodeRef
    message: Any
    token: int
    timeout: float


class Answer(NamedTuple):
    """The answer to the request that `on_message` was given."""

    message: Any


class StartTimer(NamedTuple):
    """Call `on_timer` after so many seconds."""

    timer: Timer
    after: float


class Confirm(NamedTuple):
    """A node is suspected: probe it over a fresh connection and report `on_confirmed(uid, alive)`."""

    ref: NodeRef
    timeout: float


class Persist(NamedTuple):
    """Keep this position with the data, then report `on_persisted`. Nobody is told of it before that."""

    position: int


class Joined(NamedTuple):
    """The node has entered the circle of `successor` (its uid), or formed one of its own (its own uid)."""

    successor: str


class Changed(NamedTuple):
    """This node's reference, its predecessor or its successors have changed."""


class Resolve(NamedTuple):
    """A lookup has ended; None: nobody could tell in time."""

    token: int
    owner: Owner | None


class Moved(NamedTuple):
    """A move has ended; `refusal` says why not, empty when it is done."""

    token: int
    refusal: str


Effect = Send | Ask | Answer | StartTimer | Confirm | Persist | Joined | Changed | Resolve | Moved
