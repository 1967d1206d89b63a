"""A bounded run of each target; `python -m tests.fuzz --minutes N` goes on for longer, from other seeds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.fuzz.engine import explore
from tests.fuzz.targets import TARGETS

CASES = {
    "client-frames": 80,
    "peer-frames": 120,
    "admin-http": 60,
    "multicast": 200,
    "bodies": 100,
    "sessions": 80,
    "stores": 20,
    "chart-values": 80,
    "mailboxes": 8,
}
"""So many take some seconds."""


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_hostile_does_harm(name: str) -> None:
    finding = explore(TARGETS[name](), 1, CASES[name])
    assert finding is None, str(finding)


def test_its_help_has_an_example() -> None:
    root = Path(__file__).parents[2]
    shown = subprocess.run([sys.executable, "-m", "tests.fuzz", "--help"], cwd=root, capture_output=True, text=True)
    assert shown.returncode == 0
    assert "python -m tests.fuzz --minutes 10" in shown.stdout
