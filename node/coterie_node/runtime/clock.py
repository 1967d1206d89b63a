"""The machine's clock."""

from __future__ import annotations

import asyncio
import time


class SystemClock:
    """Time as the machine tells it (`runtime.ports.Clock`)."""

    def now(self) -> float:
        """Return monotonic seconds."""
        return time.monotonic()

    def wall_ms(self) -> int:
        """Return Unix milliseconds."""
        return time.time_ns() // 1_000_000

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)
