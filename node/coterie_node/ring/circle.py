"""The mark by which circles of one ring are told apart: the smallest uid that lives in it."""

from __future__ import annotations


class Circle:
    """The smallest live uid of this node's circle, as far as it has heard.

    The node of that uid says from time to time that it lives: a *beat*, a number that only grows, handed on from
    neighbour to neighbour. A mark of which no newer beat came for `ttl` seconds is dropped in favour of the node's own
    uid, so every part of a divided circle soon has a mark of its own. A dropped mark is not taken again from those who
    drop it a little later.
    """

    def __init__(self, own: str, first: int, ttl: float, beat: float) -> None:
        self._own = own
        self._first = first
        self._ttl = ttl
        self._period = beat
        self._started: float | None = None
        self._uid = own
        self._beat = first
        self._heard_at = 0.0
        self._passed_on = ("", 0)
        self._dropped = ("", 0)

    def reset(self) -> None:
        """Forget what was heard: the node is in another circle now, or alone."""
        self._uid = self._own
        self._dropped = ("", 0)

    def mark(self, now: float) -> tuple[str, int]:
        """Return the mark and its newest beat."""
        if self._uid != self._own and now - self._heard_at > self._ttl:
            self._dropped = (self._uid, self._beat)
            self._uid = self._own
        if self._uid == self._own:
            if self._started is None:
                self._started = now
            self._beat = self._first + int((now - self._started) / self._period)
        return self._uid, self._beat

    def hear(self, now: float, uid: str, beat: int) -> None:
        """Take the mark of another node of the same circle."""
        mine, newest = self.mark(now)
        if uid > mine or uid == self._own or (uid == self._dropped[0] and beat <= self._dropped[1]):
            return
        if uid < mine or beat > newest:
            self._uid, self._beat, self._heard_at = uid, beat, now

    def due(self, now: float) -> bool:
        """Say whether the mark is news that the neighbours should have now; if so, it counts as passed on."""
        mark = self.mark(now)
        if mark == self._passed_on:
            return False
        self._passed_on = mark
        return True
