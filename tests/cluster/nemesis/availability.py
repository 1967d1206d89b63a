"""How well the ring served while something was broken: counted as sends are acknowledged, fault kind by fault kind."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from statistics import median
from typing import Any

PROMPT = 1.0
"""Seconds within which a send should be acknowledged."""
CALM = "none"
"""The kind under which sends are counted that began while nothing was broken."""
MOST_WAITED_FOR = 90.0
"""Seconds after which nobody looks any longer for the acknowledgement that follows a fault."""


@dataclass(eq=False)
class Episode:
    """One fault from its beginning to its end."""

    kinds: tuple[str, ...]
    began: float
    waiting: set[int]
    """Conversations of which no send that began later has been acknowledged yet."""
    first: float | None = None
    """Seconds until the first acknowledgement of anybody's send that began after it."""
    last: float | None = None
    """Seconds until every conversation had one."""


@dataclass
class _Tally:
    faults: int = 0
    sends: int = 0
    prompt: int = 0
    worst: float = 0.0
    first: list[float] = field(default_factory=list)
    last: list[float] = field(default_factory=list)


class Availability:
    """Told when faults begin and end and when sends begin and are acknowledged. Times are time.monotonic()'s."""

    def __init__(self) -> None:
        self.conversations = 0
        self._active: Counter[str] = Counter()
        self._now: tuple[str, ...] = ()
        self._open: list[Episode] = []
        self._tallies: dict[str, _Tally] = {}

    def conversation(self) -> int:
        """Return a number for somebody who sends to somebody."""
        self.conversations += 1
        return self.conversations - 1

    def begin(self, *kinds: str) -> Episode:
        """Note that a fault begins; of several kinds if it is one that has a more general name too."""
        episode = Episode(kinds, time.monotonic(), set(range(self.conversations)))
        self._active.update(kinds)
        self._now = tuple(self._active)
        self._open.append(episode)
        for kind in kinds:
            self._tally(kind).faults += 1
        return episode

    def end(self, episode: Episode) -> None:
        """Note that it ends."""
        self._active.subtract(episode.kinds)
        self._active = +self._active
        self._now = tuple(self._active)

    def sending(self) -> tuple[str, ...]:
        """Return what is broken now; to be handed to `acknowledged` for a send that begins now."""
        return self._now

    def acknowledged(self, conversation: int, began: float, kinds: tuple[str, ...]) -> None:
        """Note that a send has been acknowledged just now."""
        now = time.monotonic()
        took = now - began
        for kind in kinds or (CALM,):
            tally = self._tally(kind)
            tally.sends += 1
            tally.prompt += took <= PROMPT
            tally.worst = max(tally.worst, took)
        for episode in self._open:
            if began >= episode.began and conversation in episode.waiting:
                episode.waiting.discard(conversation)
                if episode.first is None:
                    episode.first = now - episode.began
                if not episode.waiting:
                    episode.last = now - episode.began
        if self._open and (self._open[0].last is not None or now - self._open[0].began > MOST_WAITED_FOR):
            self._close(self._open.pop(0))

    def _close(self, episode: Episode) -> None:
        for kind in episode.kinds:
            tally = self._tally(kind)
            if episode.first is not None:
                tally.first.append(episode.first)
            if episode.last is not None:
                tally.last.append(episode.last)

    def _tally(self, kind: str) -> _Tally:
        return self._tallies.setdefault(kind, _Tally())

    def rows(self) -> list[dict[str, Any]]:
        """Return one object a kind, the calm time first."""
        while self._open:
            self._close(self._open.pop(0))
        names = sorted(self._tallies, key=lambda kind: (kind != CALM, kind))
        return [_row(kind, self._tallies[kind]) for kind in names]


def _row(kind: str, tally: _Tally) -> dict[str, Any]:
    return {
        "fault": kind,
        "faults": tally.faults,
        "sends": tally.sends,
        "within_1s": round(tally.prompt / tally.sends, 5) if tally.sends else None,
        "slowest_s": round(tally.worst, 3),
        "next_median_s": _rounded(median(tally.first)) if tally.first else None,
        "next_worst_s": _rounded(max(tally.first)) if tally.first else None,
        "everybody_median_s": _rounded(median(tally.last)) if tally.last else None,
        "everybody_worst_s": _rounded(max(tally.last)) if tally.last else None,
    }


def _rounded(seconds: float) -> float:
    return round(seconds, 3)


COLUMNS = (
    ("fault", "fault while sending began", "{}"),
    ("faults", "faults", "{:,}"),
    ("sends", "sends", "{:,}"),
    ("within_1s", "in 1 s", "{:.2%}"),
    ("slowest_s", "slowest", "{:.2f} s"),
    ("next_median_s", "next: median", "{:.3f} s"),
    ("next_worst_s", "worst", "{:.3f} s"),
    ("everybody_median_s", "everybody: median", "{:.2f} s"),
    ("everybody_worst_s", "worst", "{:.2f} s"),
)


def table(rows: list[dict[str, Any]]) -> str:
    """Write the rows for people. `next`: from the fault to the first acknowledgement of a send that began after it;
    `everybody`: until each conversation has had one."""
    cells = [[title for _, title, _ in COLUMNS]]
    cells += [["-" if row[key] is None else form.format(row[key]) for key, _, form in COLUMNS] for row in rows]
    widths = [max(len(line[at]) for line in cells) for at in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(
            text.ljust(width) if at == 0 else text.rjust(width)
            for at, (text, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in cells
    )
