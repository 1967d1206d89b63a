"""Is nothing acknowledged lost, nothing shown twice, nothing made up, nothing out of its sender's order?

`Mailboxes` is told as things happen and keeps some ten bytes a message, so it follows a run of millions; a recorded
history goes through the same code.
"""

from __future__ import annotations

import heapq
from array import array
from dataclasses import dataclass, field

from tests.history.events import End, History, Kind, Value

SENT, ACKNOWLEDGED, REFUSED, SHOWN, MISSED = 1, 2, 4, 8, 16
COMPLAINTS = 1000
"""So many are kept in words; the others are only counted."""


@dataclass
class _Pair:
    """What one sender sent to one recipient; the number is the index."""

    flags: bytearray = field(default_factory=bytearray)
    ids: array[int] = field(default_factory=lambda: array("q"))
    """A hash of each message's id."""
    last: int = -1
    """The number of the message that was shown last."""
    compared: int = 0
    """All below this have been looked for in a mailbox that was drained."""

    def reach(self, number: int) -> None:
        """Make room up to a number."""
        lacking = number + 1 - len(self.flags)
        if lacking > 0:
            self.flags.extend(bytes(lacking))
            self.ids.extend([0] * lacking)


class Mailboxes:
    """Watches the mailboxes of a run.

    A message is known by sender, recipient and number, which rises by one for each pair; calls must come in the order
    in which things happened: `sent` before the message leaves, `acknowledged` or `refused` at once when it is known.
    Nothing is called for a send whose end is unknown: it may be shown, in its place, or not.
    """

    def __init__(self) -> None:
        self._pairs: dict[tuple[str, str], _Pair] = {}
        self._senders: dict[str, set[str]] = {}
        self._complaints: list[str] = []
        self.sent_count = 0
        self.acknowledged_count = 0
        self.shown_count = 0
        self.lost_count = 0
        self.twice_count = 0
        self.disorder_count = 0
        self.invented_count = 0
        self.drained_names: set[str] = set()

    def sent(self, sender: str, recipient: str, message: str, number: int) -> None:
        """Note that a sender's application has given a message away. Numbers are not negative."""
        pair = self._pairs.get((sender, recipient))
        if pair is None:
            pair = self._pairs[sender, recipient] = _Pair()
            self._senders.setdefault(recipient, set()).add(sender)
        pair.reach(number)
        if pair.flags[number]:
            raise ValueError(f"number {number} from {sender!r} to {recipient!r} was sent before: a fault of the test")
        pair.flags[number] = SENT
        pair.ids[number] = hash(message)
        self.sent_count += 1

    def acknowledged(self, sender: str, recipient: str, number: int) -> None:
        """Note that a message was acknowledged as stored."""
        self._pairs[sender, recipient].flags[number] |= ACKNOWLEDGED
        self.acknowledged_count += 1

    def refused(self, sender: str, recipient: str, number: int) -> None:
        """Note that a message was refused: nobody may ever see it."""
        self._pairs[sender, recipient].flags[number] |= REFUSED

    def shown(self, recipient: str, sender: str, message: str, number: int) -> None:
        """Note that a recipient's application showed a message."""
        self.shown_count += 1
        what = f"message {message} (number {number} from {sender!r} to {recipient!r})"
        pair = self._pairs.get((sender, recipient))
        flags = pair.flags[number] if pair is not None and 0 <= number < len(pair.flags) else 0
        if pair is None or not flags & SENT or pair.ids[number] != hash(message):
            self.invented_count += 1
            self._complain(f"{what} was shown, but never sent")
            return
        if flags & REFUSED:
            self.invented_count += 1
            self._complain(f"{what} was shown, though its sender was told that it is refused")
        if flags & SHOWN:
            self.twice_count += 1
            self._complain(f"{what} was shown twice")
            return
        pair.flags[number] |= SHOWN
        if number < pair.last:
            self.disorder_count += 1
            self._complain(f"{what} was shown after number {pair.last}")
        pair.last = max(pair.last, number)

    def drained(self, recipient: str) -> None:
        """Note that a recipient has been shown all that waits for it: whatever is acknowledged must be among it."""
        self.drained_names.add(recipient)
        for sender in sorted(self._senders.get(recipient, ())):
            pair = self._pairs[sender, recipient]
            open_still = len(pair.flags)
            for number in range(pair.compared, len(pair.flags)):
                flags = pair.flags[number]
                if not flags & (ACKNOWLEDGED | REFUSED | SHOWN):
                    open_still = min(open_still, number)  # It may be acknowledged yet.
                elif flags & ACKNOWLEDGED and not flags & (SHOWN | MISSED):
                    self.lost_count += 1
                    self._complain(
                        f"number {number} from {sender!r} to {recipient!r} was acknowledged, "
                        f"but not shown when the mailbox was drained"
                    )
                    pair.flags[number] |= MISSED
            pair.compared = open_still

    def _complain(self, text: str) -> None:
        if len(self._complaints) < COMPLAINTS:
            self._complaints.append(text)

    def complaints(self) -> list[str]:
        """Return what is wrong, in lines for people; the last line counts what was left out."""
        total = self.lost_count + self.twice_count + self.disorder_count + self.invented_count
        more = total - len(self._complaints)
        return [*self._complaints, *([f"and {more} more"] if more > 0 else [])]


def follow(history: History) -> Mailboxes:
    """Tell a recorded history as if it happened now."""
    boxes = Mailboxes()
    acknowledgements: list[tuple[float, int, str, str, int]] = []
    for one in history.of(Kind.SEND, Kind.SHOWN, Kind.DRAINED):
        while acknowledgements and acknowledgements[0][0] <= one.began:
            _, _, sender, recipient, number = heapq.heappop(acknowledgements)
            boxes.acknowledged(sender, recipient, number)
        if one.kind is Kind.DRAINED:
            boxes.drained(one.key)
        elif one.kind is Kind.SEND:
            message, number = _send(one.value)
            boxes.sent(one.actor, one.key, message, number)
            if one.end is End.REFUSED:
                boxes.refused(one.actor, one.key, number)
            elif one.end is End.DONE and one.ended is not None:
                heapq.heappush(acknowledgements, (one.ended, one.number, one.actor, one.key, number))
        else:
            sender, message, number = _shown(one.value)
            boxes.shown(one.key, sender, message, number)
    for _, _, sender, recipient, number in acknowledgements:
        boxes.acknowledged(sender, recipient, number)
    return boxes


def _send(value: Value) -> tuple[str, int]:
    match value:
        case [str(message), int(number)]:
            return message, number
    raise ValueError(f"a SEND has [message id, number], not {value!r}")


def _shown(value: Value) -> tuple[str, str, int]:
    match value:
        case [str(sender), str(message), int(number)]:
            return sender, message, number
    raise ValueError(f"a SHOWN has [sender, message id, number], not {value!r}")


def check_mailboxes(history: History) -> list[str]:
    """Return what is wrong with what was shown, in lines for people; nothing if all is well.

    That all was shown is asked only of recipients of whom the history says that they have drained.
    """
    return follow(history).complaints()
