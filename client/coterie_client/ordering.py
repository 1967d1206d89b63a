"""In which order received messages are shown: each sender's own, (session epoch, counter). Pure: time is a parameter.

Records travel independently, so a later message can arrive first. One that has a gap before it is held back until the
gap closes. A client sends a message only once the one before it to the same person is stored (`sender`), so what is
missing is on its way, or was never for this session. Which of the two it is, a drain of the mailbox tells that was
asked for after the message had waited for `patience` seconds: what has not come by its end is not awaited any longer.

A message has no gap before it if its sender's last shown one is the one before it by counter, or is the one that it
names as its `prev` (which bridges session epochs and withdrawn messages), or if it names none.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from .history import Message

PATIENCE = 2.0
"""Seconds that a message waits for the one before it until the mailbox is asked anew."""
LAST_RESORT = 300.0
"""Seconds after which a message is shown without the one before it though no drain has ended: the mailbox has lost its
majority, and a message out of order is better than one that is never seen."""


@dataclass(slots=True)
class _Held:
    last: tuple[int, int]
    last_id: bytes = b""
    waiting: list[tuple[int, int, int, float, Message]] = field(default_factory=list)
    """(epoch, counter, seq, since, message), sorted."""


class HoldBack:
    """Puts messages into their sender's order."""

    def __init__(
        self,
        *,
        last_shown: Callable[[str], tuple[int, int]],
        was_shown: Callable[[str, bytes], bool],
        patience: float = PATIENCE,
    ) -> None:
        self._last_shown = last_shown
        self._was_shown = was_shown
        self._patience = patience
        self._senders: dict[str, _Held] = {}

    def offer(self, messages: Iterable[Message], now: float) -> None:
        """Take messages in; none may be offered twice. `now` in seconds of any steady clock."""
        for message in messages:
            held = self._senders.get(message.sender)
            if held is None:
                held = self._senders[message.sender] = _Held(self._last_shown(message.sender))
            insort(held.waiting, (message.epoch, message.counter, message.seq, now, message), key=lambda w: w[:3])

    def take(self, now: float, *, drain_asked_at: float | None = None) -> list[Message]:
        """Hand out what may be shown now; `drain_asked_at`: a drain that was asked for then has just ended."""
        late = now - LAST_RESORT
        if drain_asked_at is not None:
            late = max(late, drain_asked_at - self._patience)
        taken: list[tuple[int, int, Message]] = []
        for sender, held in self._senders.items():
            forced = 0
            for index, entry in enumerate(held.waiting):
                if entry[3] <= late:
                    forced = index + 1
            count = time = 0
            for epoch, counter, seq, _, message in held.waiting:
                if count >= forced and self._gap(sender, held, message):
                    break
                count += 1
                time = max(time, message.time)
                taken.append((time, seq, message))
                if (epoch, counter) >= held.last:
                    held.last, held.last_id = (epoch, counter), message.id
            del held.waiting[:count]
        # Senders are merged by the time of storing, which within one sender never goes back here.
        taken.sort(key=lambda entry: entry[0])
        return [message for _, _, message in taken]

    def impatient_at(self) -> float | None:
        """Return from when on a drain should be asked for, because a message has waited long; None if none waits."""
        since = [entry[3] for held in self._senders.values() for entry in held.waiting]
        return min(since) + self._patience if since else None

    def _gap(self, sender: str, held: _Held, message: Message) -> bool:
        epoch, counter = message.epoch, message.counter
        if (epoch, counter) <= held.last or not message.prev:
            return False
        if held.last == (epoch, counter - 1) or message.prev == held.last_id:
            return False
        return not self._was_shown(sender, message.prev)
