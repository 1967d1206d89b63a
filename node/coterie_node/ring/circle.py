"""The mark by which circles of one ring are told apart: the smallest uid that lives in it."""

from __future__ import annotations


class Circle:
    """The smallest live uid of this node's circle, as far as it has heard.

    The node of that uid says from time to time that it lives (a *beat*); everybody hands on how old the newest beat is
    that it has heard of. A mark older than `ttl` seconds is dropped in favour of the node's own uid, so every part of a
    divided circle soon has a mark of its own.
    """

    def __init__(self, own: str, ttl: float, beat: float) -> None:
        self._own = own
        self._ttl = ttl
        self._beat = beat
        self._uid = own
        self._born = 0.0
        self._passed_on = 0.0

    def reset(self) -> None:
        """Forget what was heard: the node is in another circle now, or alone."""
        self._uid = self._own
        self._passed_on = 0.0

    def mark(self, now: float) -> tuple[str, int]:
        """Return the mark and its age in milliseconds."""
        if self._uid != self._own and now - self._born > self._ttl:
            self.reset()
        if self._uid == self._own:
            self._born = now
        return self._uid, int((now - self._born) * 1000)

    def hear(self, now: float, uid: str, age_ms: int) -> None:
        """Take the mark of another node of the same circle."""
        born = now - max(age_ms, 0) / 1000
        mine, _ = self.mark(now)
        if now - born > self._ttl or uid > mine or uid == self._own:
            return
        if uid < mine:
            self._uid, self._born, self._passed_on = uid, born, 0.0
        else:
            self._born = max(self._born, born)

    def due(self, now: float) -> bool:
        """Say whether the mark is news that the neighbours should have now; if so, it counts as passed on."""
        self.mark(now)
        if self._passed_on and self._born - self._passed_on < self._beat:
            return False
        self._passed_on = self._born
        return True
