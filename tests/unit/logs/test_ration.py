"""Log lines that strangers can cause come at a rate that they cannot set."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

import coterie_node
from coterie_node.logs.ration import BURST, MOST_SOURCES, PAUSE, REFILL, Ration


class Log:
    def __init__(self) -> None:
        self.now = 100.0
        self.lines: list[dict[str, Any]] = []
        self.ration = Ration(lambda _, **values: self.lines.append(values), "knocked", lambda: self.now)


async def test_one_source_is_told_once_a_minute_and_the_rest_is_counted() -> None:
    log = Log()
    for _ in range(100):
        log.ration("a", why="x")
    assert log.lines == [{"source": "a", "why": "x"}]
    log.now += PAUSE
    log.ration("a", why="y")
    assert log.lines[1:] == [{"source": "a", "why": "y"}]
    log.ration.tell()
    assert log.lines[2:] == [{"source": "several, or one again", "suppressed": 99}]
    log.ration.tell()
    assert len(log.lines) == 3


async def test_many_sources_together_are_bounded_too() -> None:
    log = Log()
    for number in range(10_000):
        log.ration(f"source {number}")
        log.now += 0.001
    assert len(log.lines) <= BURST + 10.0 / REFILL + 1
    assert len(log.ration._sources) <= MOST_SOURCES
    log.ration.tell()
    assert log.lines[-1]["suppressed"] == 10_000 - len(log.lines) + 1


async def test_what_is_remembered_is_bounded() -> None:
    log = Log()
    for number in range(2 * MOST_SOURCES):
        log.ration(f"source {number}")
        log.now += REFILL
    assert len(log.lines) == 2 * MOST_SOURCES
    assert len(log.ration._sources) == MOST_SOURCES


STRANGERS_REACH = [
    "http/guard", "http/listening", "bootstrap/other_rings", "api/admin", "api/client",
    "api/connection", "chat/gateway/conversation", "chat/gateway/logins",
    "peer/link", "peer/links", "peer/listener",
]  # fmt: skip
NOT_BY_STRANGERS = {
    "fewer connections than are allowed": "once, at the start",
    "clients did not close in time": "once, at the end",
    "gives its empty ring up to join another": "once: the node starts anew",
    "link up": "by nodes of the ring, see docs/security.md",
    "link down": "by nodes of the ring",
    "an event cannot be sent": "to nodes of the ring",
    "writing to a peer failed": "a fault of the node itself",
    "a watcher of links failed": "a fault of the node itself",
}
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}


@pytest.mark.parametrize("module", STRANGERS_REACH)
def test_what_strangers_reach_logs_by_ration_only(module: str) -> None:
    path = Path(coterie_node.__file__).parent / f"{module}.py"
    for call in ast.walk(ast.parse(path.read_text())):
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute) or call.func.attr not in LEVELS:
            continue
        if isinstance(call.func.value, ast.Name) and call.func.value.id == "log":
            event = call.args[0]
            assert isinstance(event, ast.Constant)
            assert event.value in NOT_BY_STRANGERS, f"{module}, line {call.lineno}: use a Ration"
