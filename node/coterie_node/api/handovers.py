"""Which slots are on their way from whom to whom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from coterie_protocol.admin import HandOver

if TYPE_CHECKING:
    from coterie_protocol.identifiers import Uid
    from coterie_protocol.registers import Config

MOST = 64
"""Pairs of nodes that a member's line names: its line stays short however the ring is torn."""


def handovers(acting: Uid, configs: Iterable[Config]) -> list[HandOver]:
    """Return how many slots each pair of nodes hands over, the most first.

    A joint configuration names the old members and the new. Who is new takes the place of one that goes; where nobody
    goes, the acting owner gives a further copy.
    """
    moving: Counter[tuple[Uid, Uid]] = Counter()
    for config in configs:
        if not config.joint:
            continue
        takers = [uid for uid in config.new if uid not in config.old]
        givers = [uid for uid in config.old if uid not in config.new] or [acting]
        for number, taker in enumerate(takers):
            moving[givers[number % len(givers)], taker] += 1
    return [HandOver(giver, taker, slots) for (giver, taker), slots in moving.most_common(MOST)]
