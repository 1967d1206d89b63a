"""Every story in scenarios/ ends as it is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.sim.ring.scenario import Story

STORIES = sorted((Path(__file__).parent / "scenarios").glob("*.txt"))


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_story(path: Path) -> None:
    written, told = Story(path).play()
    assert told == written, f"{path.name} went otherwise; if that is right, write down what came out:\n{told}"
