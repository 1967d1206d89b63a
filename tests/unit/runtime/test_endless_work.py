"""Work that has no end must not end with its first failure: all of it, and what is added to it."""

from __future__ import annotations

import ast
import asyncio
from pathlib import Path

from structlog.testing import capture_logs

import coterie_node
from coterie_node.runtime import dispatch
from coterie_node.runtime.dispatch import TaskGroup

SOURCE = Path(coterie_node.__file__).parent


def _started() -> list[tuple[str, str]]:
    """Return where some object's endless work is begun: (place, the method that begins it)."""
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or not node.args:
                continue
            if node.func.attr not in ("start", "keep", "create_task", "ensure_future"):
                continue
            work = node.args[0].func if isinstance(node.args[0], ast.Call) else node.args[0]
            if isinstance(work, ast.Attribute) and work.attr == "run":
                found.append((f"{path.relative_to(SOURCE)}: {ast.unparse(work)}", node.func.attr))
    return found


def test_all_work_without_an_end_begins_anew_when_it_fails() -> None:
    started = _started()
    # A link's work ends with the link, which is dialled again.
    not_kept = {place for place, how in started if how != "keep"} - {"peer/links.py: link.run"}
    assert not not_kept
    assert len([how for _, how in started if how == "keep"]) >= 12, "the search finds what it looks for"


async def test_work_that_fails_is_named_and_begins_anew() -> None:
    tasks = TaskGroup()
    begun = 0
    again = asyncio.Event()

    async def work() -> None:
        nonlocal begun
        begun += 1
        if begun < 3:
            raise ZeroDivisionError
        again.set()
        await asyncio.Event().wait()

    first, dispatch.FIRST_PAUSE = dispatch.FIRST_PAUSE, 0.01
    try:
        with capture_logs() as logs:
            tasks.keep(work, "the work")
            await asyncio.wait_for(again.wait(), 5)
    finally:
        dispatch.FIRST_PAUSE = first
        await tasks.close()
    assert [(entry["task"], entry["log_level"]) for entry in logs] == [("the work", "error")] * 2
