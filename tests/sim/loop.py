"""An asyncio event loop on virtual time: seeded, without sockets or threads, and never waiting.

Whatever is due runs; when nothing is, the clock jumps to the next timer. When there is no timer either, everybody waits
for somebody who will never come, and `Deadlock` says so. The same coroutine with the same seed takes the same steps.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")

OWNER: ContextVar[object | None] = ContextVar("owner", default=None)
"""Whose work the running task is: a crash of that owner stops all of it."""


class Deadlock(Exception):
    """Something is awaited, nothing is due, and no timer is set: it would wait forever."""


class Livelock(Exception):
    """Something goes round and round, and no time passes."""


MOST_STEPS = 100_000
"""Steps of the loop within one moment after which it counts as a livelock; a busy moment takes some dozen."""


class _Selector:
    """What the loop sleeps on: instead of waiting for sockets it moves the clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self._steps = 0

    def select(self, timeout: float | None) -> list[Any]:
        """Let `timeout` seconds pass at once."""
        if timeout is None:
            raise Deadlock(f"at {self.now:.6f} s nothing is due and no timer is set")
        if timeout > 0.0:
            self.now += timeout
            self._steps = 0
        else:
            self._steps += 1
            if self._steps > MOST_STEPS:
                raise Livelock(f"at {self.now:.6f} s: {self._steps} steps, and no time passes")
        return []


class SimLoop(asyncio.BaseEventLoop):
    """A deterministic loop. `rng` is the one source of chance of whatever runs on it."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self.rng = random.Random(seed)
        self._selector = _Selector()
        self._clock_resolution = 1e-9
        self._owned: dict[asyncio.Task[Any], object] = {}
        self.after_step: list[Callable[[], None]] = []
        """Called after each step of the loop; what they raise ends the run."""
        self.over = False
        """The run has ended: what is left is only cancelled, and checked no more."""
        self.set_task_factory(self._make_task)

    def time(self) -> float:
        """Return virtual seconds since the start."""
        return self._selector.now

    def _make_task(self, loop: Any, coro: Any, **kwargs: Any) -> asyncio.Task[Any]:
        context = kwargs.get("context")
        owner = OWNER.get() if context is None else context.get(OWNER)
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=loop, **kwargs)
        if owner is not None:
            self._owned[task] = owner
            task.add_done_callback(lambda done: self._owned.pop(done, None))
        return task

    def owned_by(self, owner: object) -> list[asyncio.Task[Any]]:
        """Return the unfinished tasks of an owner, oldest first."""
        return [task for task, whose in self._owned.items() if whose is owner]

    def _run_once(self) -> None:
        super()._run_once()  # type: ignore[misc]
        if not self.over:
            for check in self.after_step:
                check()

    def _process_events(self, event_list: list[Any]) -> None:
        """Nothing comes from outside."""

    def _write_to_self(self) -> None:
        """Nobody sleeps, so nobody needs waking."""

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        """Refuse: a thread would bring real time in."""
        raise RuntimeError("a simulation has no threads")


def sim_loop() -> SimLoop:
    """Return the running simulation loop."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimLoop)
    return loop


def run(main: Coroutine[Any, Any, T], seed: int = 0) -> T:
    """Run a coroutine on a loop of its own in virtual time. Raises Deadlock, and what the coroutine raises."""
    loop = SimLoop(seed)
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        try:
            return runner.run(main)
        finally:
            # A check that has failed once would fail again in the steps that cancel what is left, and leave it undone.
            loop.over = True


async def within(seconds: float, work: Awaitable[T]) -> T:
    """Await with a limit in virtual seconds, so that a hang shows as a TimeoutError with its place."""
    return await asyncio.wait_for(work, seconds)
