"""Which of several servers answers first: attempts begin one after the other, and do not wait for each other's end.

After RFC 8305 ("happy eyeballs"): a server that refuses is passed by at once, one that says nothing after STAGGER
seconds, and whichever is ready first wins. So a frozen server costs a fraction of a second, not its time-out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from .problems import ServerProblem

STAGGER = 0.2
"""Seconds that one server has before the next is tried beside it: many round trips where servers are near, one or two
across the world; RFC 8305 asks for 0.1 to 2."""

T = TypeVar("T")


async def first_ready(
    urls: Sequence[str], attempt: Callable[[str], Coroutine[Any, Any, T]], lost: Callable[[asyncio.Task[T]], None]
) -> tuple[T | None, list[ServerProblem]]:
    """Return what the first attempt to succeed gave; None, and why, when none did.

    `lost` takes each attempt that was overtaken; it is being cancelled, and may have succeeded all the same. What an
    attempt raises but ServerProblem is raised at once.
    """
    problems: list[ServerProblem] = []
    running: set[asyncio.Task[T]] = set()
    waiting = list(urls)
    try:
        while waiting or running:
            if waiting:
                running.add(asyncio.create_task(attempt(waiting.pop(0))))
            timeout = STAGGER if waiting else None
            done, running = await asyncio.wait(running, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            while done:
                task = done.pop()
                try:
                    winner = task.result()
                except ServerProblem as problem:
                    problems.append(problem)
                else:
                    running |= done
                    return winner, problems
    finally:
        for task in running:
            task.cancel()
            lost(task)
    return None, problems
