"""What a node's log looks like: set up in a process of its own, as a node does."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

SCRIPT = """
import asyncio, logging, sys
import structlog
from coterie_node.logs import output as logs

logs.set_up("info", sys.argv[1], sys.stderr)
log = structlog.get_logger()
log.debug("not said")
log.info("link down", why="it said: bye\\n2026-01-01T00:00:00Z [info] granted", what="\\x1b[2J", peers=3)
try:
    raise ValueError("odd\\nvalue")
except ValueError:
    log.exception("it failed")
log.info("long", why="x" * 5000)
logging.getLogger("asyncio").error("Task was destroyed\\nbut it is pending: %s", "task")
logging.getLogger("aiohttp").info("not said either")
"""


def logged(form: str) -> str:
    done = subprocess.run([sys.executable, "-c", SCRIPT, form], capture_output=True, text=True, check=True)
    assert not done.stdout
    return done.stderr


def test_json_is_one_object_a_line_whoever_logs() -> None:
    lines = [json.loads(line) for line in logged("json").splitlines()]
    assert [(line["level"], line["event"]) for line in lines] == [
        ("info", "link down"),
        ("error", "it failed"),
        ("info", "long"),
        ("error", "Task was destroyed\nbut it is pending: task"),
    ]
    assert all(line["timestamp"].endswith("Z") for line in lines)
    assert lines[0]["peers"] == 3
    assert "ValueError: odd" in lines[1]["exception"]
    assert lines[2]["why"] == "x" * 1000 + "… (5000 characters)"
    assert lines[3]["logger"] == "asyncio"


def test_on_a_console_no_text_from_elsewhere_makes_a_line_or_moves_the_cursor() -> None:
    text = logged("console")
    assert "\x1b" not in text
    lines = text.splitlines()
    assert lines[0].count("granted") == 1
    assert r"bye\n2026" in lines[0]
    assert "it failed" in lines[1]
    assert r"what=\x1b[2J" in lines[0]
    assert lines[2].startswith("Traceback")
    assert r"Task was destroyed\nbut it is pending: task" in lines[-1]


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_log_on_a_full_disk_is_dropped_and_kills_nobody(form: str) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", SCRIPT, form], stderr=full, timeout=30, check=False)
    assert done.returncode == 0
