"""Stories about nodes and people: scenario files, which are plans with drawings to compare.

The options and steps are those of `plan` and `stage`. A line `ring` is followed, up to an empty line, by the drawing of
the world at that moment (`drawing`). A change in behaviour shows as a difference between two drawings:

    python -m tests.sim --tell tests/sim/scenarios/*.txt      plays them, and writes them as they went
"""

from __future__ import annotations

from pathlib import Path

from tests.sim.drawing import drawing
from tests.sim.loop import run
from tests.sim.plan import OPTIONS, Plan
from tests.sim.stage import Stage, world_of


class Story:
    """Plays one file. `told` is the file with each drawing as it really is."""

    def __init__(self, path: Path) -> None:
        self._lines = path.read_text().splitlines()
        self.told: list[str] = []

    def play(self) -> tuple[str, str]:
        """Play it; return what is written and what came out."""
        plan = Plan()
        for line in self._lines:
            if (words := line.split("#")[0].split()) and words[0] in OPTIONS:
                plan = plan.with_option(words)
        run(self._played(plan), plan.seed)
        return "\n".join(self._lines), "\n".join(self.told)

    async def _played(self, plan: Plan) -> None:
        world, people = world_of(plan)
        async with world:
            stage = Stage(world, people() if people else None)
            try:
                await self._steps(stage)
            finally:
                if stage.people is not None:
                    stage.people.stop()

    async def _steps(self, stage: Stage) -> None:
        lines = iter(self._lines)
        for line in lines:
            self.told.append(line)
            step = line.split("#")[0].strip()
            if step == "ring":
                self.told += drawing(stage.world, stage.people)
                for expected in lines:
                    if not expected.strip():
                        self.told.append(expected)
                        break
            elif step and step.split()[0] not in OPTIONS:
                await stage.perform(step)
