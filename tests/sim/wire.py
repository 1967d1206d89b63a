"""Messages on their way, and how a script takes hold of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coterie_protocol.identifiers import Uid

if TYPE_CHECKING:
    from tests.sim.network import SimNetwork


@dataclass
class Weather:
    """How bad the network is. Seconds and probabilities."""

    delay: tuple[float, float] = (0.0001, 0.002)
    loss: float = 0.0
    duplication: float = 0.0
    late: float = 0.0
    """The probability that a message is held up for up to a second: a duplicate or an event of long ago."""
    fifo: bool = True
    """Keep the order between two nodes, as one connection does; False stands for lost and remade connections."""
    streams: bool = False
    """Connections as they are: nothing is lost, doubled or overtaken on one, but it can break, and then what is on its
    way in either direction is gone and both ends hear of it. `loss` is then the probability that it breaks, for each
    message; a cut holds messages up until it heals, or until silence has been noticed and the connection given up.

    Without it, messages travel alone, which is harder than life: replication bears it, chat need not.
    """
    backlog: float = 0.0
    """Up to so many seconds each offer of records waits its turn at who makes it: others' slots hold thousands."""


@dataclass(frozen=True)
class Envelope:
    """A message on its way. `body` is for predicates; the receiver decodes a copy of its own."""

    number: int
    sender: Uid
    to: Uid
    frame: int
    """As in PeerFrame: above 0 a request, below 0 the answer to one, 0 an event."""
    body: Any
    asked: Any
    """An answer's request, otherwise None."""
    data: bytes
    link: int = 0
    """Which connection between the two it travels on, with `streams`."""


Predicate = Callable[[Envelope], bool]


class Tap:
    """Takes matching messages off the wire until it is removed; they can be delivered later, or never."""

    def __init__(self, network: SimNetwork, matches: Predicate, keep: bool) -> None:
        self._network = network
        self._matches = matches
        self._keep = keep
        self.held: list[Envelope] = []
        self.taken = 0
        self._changed = asyncio.Event()

    def takes(self, envelope: Envelope) -> bool:
        """Take a message that matches."""
        if not self._matches(envelope):
            return False
        self.taken += 1
        if self._keep:
            self.held.append(envelope)
        self._changed.set()
        return True

    async def caught(self, count: int = 1) -> None:
        """Wait until so many messages have been taken."""
        while self.taken < count:
            self._changed.clear()
            await self._changed.wait()

    def remove(self) -> None:
        """Let further messages pass; what is held stays held."""
        if self in self._network.taps:
            self._network.taps.remove(self)

    def release(self) -> None:
        """Remove the tap and deliver what it held, in order."""
        self.remove()
        held, self.held = self.held, []
        for envelope in held:
            self._network.arrive(envelope)


def message(
    *kinds: type, sender: Uid | None = None, to: Iterable[Uid] | Uid | None = None, answers: bool = False
) -> Predicate:
    """Match requests and events of some kinds (or, with `answers`, the answers to such requests)."""
    targets = None if to is None else {to} if isinstance(to, str) else set(to)

    def matches(envelope: Envelope) -> bool:
        body = envelope.asked if answers else envelope.body
        return (
            (envelope.frame < 0) is answers
            and (not kinds or isinstance(body, kinds))
            and (sender is None or envelope.sender == sender)
            and (targets is None or envelope.to in targets)
        )

    return matches
