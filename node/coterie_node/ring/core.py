"""What the parts of the ring share: the pointers, the circle's mark, and the way out for effects."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from coterie_protocol.nodes import NodeRef
from coterie_protocol.ring import Standing

from .circle import Circle
from .effects import Ask, Effect, Send, StartTimer, Timer
from .settings import RingSettings
from .state import Pointers

if TYPE_CHECKING:
    import random

Then = Callable[[float, Any], None]
"""Called with the time and the answer, or None when there was none."""


class Core:
    """One node's state, and the effects that wait to be taken."""

    def __init__(self, me: NodeRef, settings: RingSettings, length: int, slots: int, rng: random.Random) -> None:
        self.settings = settings
        self.rng = rng
        self.pointers = Pointers(me, slots, length)
        self.circle = Circle(me.uid, me.incarnation, settings.circle_ttl, settings.beat)
        self.alone_since = 0.0
        self._effects: list[Effect] = []
        self._asked: dict[int, Then] = {}
        self._tokens = 0

    def standing(self, now: float) -> Standing:
        """Return who this node is just now, and in which circle."""
        pointers = self.pointers
        mark, beat = self.circle.mark(now)
        return Standing(pointers.me, pointers.member, pointers.alone, mark, beat, pointers.since)

    def emit(self, effect: Effect) -> None:
        """Add an effect."""
        self._effects.append(effect)

    def take(self) -> list[Effect]:
        """Return the effects since the last time."""
        effects, self._effects = self._effects, []
        return effects

    def token(self) -> int:
        """Return a number that was never used before."""
        self._tokens += 1
        return self._tokens

    def ask(self, to: NodeRef, message: Any, then: Then) -> None:
        """Ask a node; `then` is called with the answer, or with None."""
        token = self.token()
        self._asked[token] = then
        self.emit(Ask(to, message, token, self.settings.ask_timeout))

    def answered(self, now: float, token: int, answer: Any) -> None:
        """Hand an answer to whoever waits for it."""
        then = self._asked.pop(token, None)
        if then is not None:
            then(now, answer)

    def send(self, to: NodeRef, message: Any) -> None:
        """Send an event."""
        self.emit(Send(to, message))

    def timer(self, timer: Timer, period: float) -> None:
        """Start a timer, a tenth earlier or later so that the nodes do not keep step."""
        self.emit(StartTimer(timer, period * self.rng.uniform(0.9, 1.1)))
