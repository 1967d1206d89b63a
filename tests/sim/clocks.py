"""Clocks that are wrong: wall clocks that are off, drift and jump, monotonic ones that run a little fast or slow."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.sim.loop import sim_loop

from coterie_protocol.identifiers import Uid

if TYPE_CHECKING:
    from tests.sim.network import SimNetwork

EPOCH_MS = 1_800_000_000_000
"""The true Unix time at which every simulation begins."""


@dataclass
class Clockwork:
    """A machine's clocks. They outlive its processes, as a machine's do."""

    offset_ms: int = 0
    """How far the wall clock is off; a jump changes it at once."""
    drift: float = 0.0
    """By which part of the time that passes the wall clock goes off further: 0.01 gains 10 ms a second."""
    rate: float = 1.0
    """Seconds of the monotonic clock in a true second. A sleep is measured by it, too."""


class SimClock:
    """`ports.Clock` of one process: the machine's clocks, and a sleep that ends late while the process is frozen."""

    def __init__(self, network: SimNetwork, me: Uid, clockwork: Clockwork | None = None, skew_ms: int = 0) -> None:
        self._network = network
        self._me = me
        self._loop = sim_loop()
        self._clockwork = clockwork or Clockwork()
        self.skew_ms = skew_ms
        """How far the wall clock is off, beside what the machine's is; a script may change it."""

    def now(self) -> float:
        """Return monotonic seconds."""
        return self._loop.time() * self._clockwork.rate

    def wall_ms(self) -> int:
        """Return Unix milliseconds."""
        passed_ms = self._loop.time() * 1000 * (1.0 + self._clockwork.drift)
        return EPOCH_MS + self._clockwork.offset_ms + self.skew_ms + int(passed_ms)

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds / self._clockwork.rate)
        await self._network.while_frozen(self._me)
