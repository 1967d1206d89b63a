"""Many walks in many processes, with progress: what the command line and long runs are made of."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tests.sim.draw import draw_people, draw_replication
from tests.sim.estranged import draw_estranged
from tests.sim.loop import run
from tests.sim.plan import Plan
from tests.sim.shrink import failure
from tests.sim.siege import siege
from tests.sim.storm import storm

SCHEDULES: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {"storm": storm, "siege": siege}
"""Walks that are no plans: they can be taken again, but not cut down."""
KINDS = ("replication", "people", "estranged", *SCHEDULES)
TELL_EVERY = 10.0
"""Seconds between two lines of progress."""


@dataclass(frozen=True)
class Task:
    """One walk."""

    kind: str
    seed: int
    steps: int
    nodes: int

    def plan(self) -> Plan | None:
        """Return its plan, if it is one."""
        if self.kind == "replication":
            return draw_replication(self.seed, self.steps, self.nodes)
        if self.kind == "people":
            return draw_people(self.seed, self.steps, self.nodes)
        if self.kind == "estranged":
            return draw_estranged(self.seed)
        return None


@dataclass
class Outcome:
    """What came of a campaign."""

    done: int = 0
    failed: list[tuple[Task, str]] = field(default_factory=list)
    seconds: float = 0.0


def take(task: Task) -> tuple[Task, str]:
    """Take a walk; return why it failed, or nothing."""
    plan = task.plan()
    return task, failure(plan) if plan is not None else failed(partial(SCHEDULES[task.kind]), task.seed)


def failed(schedule: Callable[[], Coroutine[Any, Any, Any]], seed: int) -> str:
    """Take a walk that is no plan; return why it failed, or nothing."""
    try:
        run(schedule(), seed)
    except Exception as error:
        text = str(error).splitlines()
        return f"{type(error).__name__}: {text[0] if text else ''}"
    return ""


def tasks(kinds: tuple[str, ...], first: int, seeds: int, steps: int, nodes: int) -> Iterator[Task]:
    """Return the walks of a campaign: all kinds of a seed, then the next seed."""
    for seed in range(first, first + seeds):
        for kind in kinds:
            yield Task(kind, seed, steps, nodes)


def campaign(
    walks: Iterator[Task],
    total: int,
    *,
    jobs: int,
    minutes: float = 0.0,
    tell: Callable[[str], None] = print,
    note: Callable[[Task, str], None] = lambda task, why: None,
) -> Outcome:
    """Take walks until there are no more, or the time is over. `note` hears of each that fails."""
    outcome = Outcome()
    began = told = time.monotonic()
    with multiprocessing.get_context("fork").Pool(jobs, maxtasksperchild=2000) as pool:
        for task, why in pool.imap_unordered(take, walks, chunksize=4):
            outcome.done += 1
            if why:
                outcome.failed.append((task, why))
                tell(f"{task.kind} seed {task.seed}: {why}")
                note(task, why)
            now = time.monotonic()
            outcome.seconds = now - began
            if now - told >= TELL_EVERY:
                told = now
                tell(progress(outcome, total, minutes * 60))
            if minutes and outcome.seconds >= minutes * 60:
                pool.terminate()
                break
    return outcome


def progress(outcome: Outcome, total: int, limit: float) -> str:
    """Say how far a campaign is."""
    rate = outcome.done / max(outcome.seconds, 0.001)
    left = (total - outcome.done) / rate if rate else 0.0
    if limit:
        left = min(left, max(limit - outcome.seconds, 0.0))
    return (
        f"{outcome.done} of {total} walks, {rate:.1f} a second, {len(outcome.failed)} failed, some {_span(left)} left"
    )


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def keep(directory: Path) -> Callable[[Task, str], None]:
    """Return what writes the plans of walks that fail into a directory, to be shrunk or replayed."""

    def note(task: Task, why: str) -> None:
        plan = task.plan()
        if plan is not None:
            directory.mkdir(parents=True, exist_ok=True)
            (directory / f"{task.kind}-{task.seed}.txt").write_text(f"# {why}\n{plan.text()}")

    return note


def as_json(outcome: Outcome) -> str:
    """Write the outcome for programs."""
    failures = [{"kind": task.kind, "seed": task.seed, "why": why} for task, why in outcome.failed]
    return json.dumps({"walks": outcome.done, "seconds": round(outcome.seconds, 1), "failed": failures})
