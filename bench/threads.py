"""Where the ring's core goes: CPU time of the nodes' event loops and of their other threads (the stores), by Linux."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Spent:
    """CPU seconds so far: of main threads (event loops) and of all others."""

    loops: float
    others: float

    def since(self, before: Spent) -> Spent:
        """Return what was spent in between."""
        return Spent(self.loops - before.loops, self.others - before.others)


def spent(pids: Sequence[int]) -> Spent:
    """Return the CPU time that processes have used so far."""
    loops = others = 0.0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            seconds = int((task / "schedstat").read_text().split()[0]) / 1e9  # `stat` counts in steps of 10 ms.
            if int(task.name) == pid:
                loops += seconds
            else:
                others += seconds
    return Spent(loops, others)
