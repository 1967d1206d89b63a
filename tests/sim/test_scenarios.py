"""Plays tests/sim/scenarios/*.txt: what happens must be what is drawn."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.sim.story import Story

SCENARIOS = sorted((Path(__file__).parent / "scenarios").glob("*.txt"))


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_it_goes_as_drawn(path: Path) -> None:
    written, told = Story(path).play()
    assert told == written
