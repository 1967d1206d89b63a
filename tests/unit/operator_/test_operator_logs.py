"""What the operator's log looks like: set up in a process of its own, as the operator does."""

from __future__ import annotations

import json
import subprocess
import sys

SCRIPT = """
import logging, sys
import structlog
from coterie_operator import logs

logs.set_up("info", sys.argv[1])
log = structlog.get_logger()
log.debug("not said")
log.info("scaled", ring="main", why="as asked\\nby the Ring")
try:
    raise ValueError("odd")
except ValueError:
    logging.getLogger("kopf.objects").exception("Handler failed: %s", "it")
"""


def logged(form: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", SCRIPT, form], capture_output=True, text=True, check=True)
    assert not done.stdout
    return done.stderr.splitlines()


def test_json_is_one_object_a_line_whoever_logs() -> None:
    ours, kopf = [json.loads(line) for line in logged("json")]
    assert (ours["level"], ours["event"], ours["ring"]) == ("info", "scaled", "main")
    assert (kopf["level"], kopf["event"], kopf["logger"]) == ("error", "Handler failed: it", "kopf.objects")
    assert "ValueError: odd" in kopf["exception"]


def test_on_a_console_only_a_traceback_has_lines_of_its_own() -> None:
    lines = logged("console")
    assert r"as asked\nby the Ring" in lines[0]
    assert "Handler failed: it" in lines[1]
    assert lines[2].startswith("Traceback")
