"""An asyncio event loop on virtual time: seeded, without sockets or threads, and never waiting.

Whatever is due runs; when nothing is, the clock jumps to the next timer. When there is no timer either, everybody waits
for somebody who will never come, and `Deadlock` says so. The same coroutine with the same seed takes the same steps.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context, ContextVar
from heapq import heapify, heappop, heappush
from typing import Any, TypeVar

T = TypeVar("T")

OWNER: ContextVar[object | None] = ContextVar("owner", default=None)
"""Whose work the running task is: a crash of that owner stops all of it."""


class Deadlock(Exception):
    """Something is awaited, nothing is due, and no timer is set: it would wait forever."""


class Livelock(Exception):
    """Something goes round and round, and no time passes."""


RESOLUTION = 1e-9
"""Seconds by which timers may be apart and still be due together."""
MOST_CANCELLED = 64
MOST_STEPS = 100_000
"""Steps of the loop within one moment after which it counts as a livelock; a busy moment takes some dozen."""


class _Selector:
    """What a loop must have to sleep on. This one never sleeps: `SimLoop` moves its clock itself."""

    def select(self, timeout: float | None) -> list[Any]:
        """Find nothing."""
        return []


class SimLoop(asyncio.BaseEventLoop):
    """A deterministic loop. `rng` is the one source of chance of whatever runs on it."""

    _ready: deque[Any]
    _scheduled: list[Any]
    _timer_cancelled_count: int
    _stopping: bool

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self.rng = random.Random(seed)
        self._selector = _Selector()
        self._now = 0.0
        self._idle_steps = 0
        self._owned: dict[object, list[asyncio.Task[Any]]] = {}
        self._prune_at: dict[object, int] = {}
        self.after_step: list[Callable[[], None]] = []
        """Called after each step of the loop; what they raise ends the run."""
        self.over = False
        """The run has ended: what is left is only cancelled, and checked no more."""
        self.set_task_factory(self._make_task)

    def time(self) -> float:
        """Return virtual seconds since the start."""
        return self._now

    def _make_task(self, loop: Any, coro: Any, **kwargs: Any) -> asyncio.Task[Any]:
        context = kwargs.get("context")
        owner = OWNER.get() if context is None else context.get(OWNER)
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=loop, **kwargs)
        if owner is not None:
            owned = self._owned.setdefault(owner, [])
            owned.append(task)
            if len(owned) > self._prune_at.get(owner, 64):
                owned[:] = [one for one in owned if not one.done()]
                self._prune_at[owner] = 2 * len(owned) + 64
        return task

    def owned_by(self, owner: object) -> list[asyncio.Task[Any]]:
        """Return the unfinished tasks of an owner, oldest first."""
        return [task for task in self._owned.get(owner, ()) if not task.done()]

    def _run_once(self) -> None:
        """Take a step: what is due now, or else what is due next. A third of the time of asyncio's own."""
        ready, timers = self._ready, self._scheduled
        if self._timer_cancelled_count > MOST_CANCELLED and 2 * self._timer_cancelled_count > len(timers):
            self._forget_cancelled()
        while timers and timers[0]._cancelled:
            self._timer_cancelled_count -= 1
            heappop(timers)._scheduled = False
        if ready or self._stopping:
            self._idle_steps += 1
            if self._idle_steps > MOST_STEPS:
                raise Livelock(f"at {self._now:.6f} s: {self._idle_steps} steps, and no time passes")
        elif not timers:
            raise Deadlock(f"at {self._now:.6f} s nothing is due and no timer is set")
        elif timers[0]._when > self._now:
            self._now = timers[0]._when
            self._idle_steps = 0
        until = self._now + RESOLUTION
        while timers and timers[0]._when < until:
            timer = heappop(timers)
            timer._scheduled = False
            if timer._cancelled:
                self._timer_cancelled_count -= 1
            else:
                ready.append(timer)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()
        if not self.over:
            for check in self.after_step:
                check()

    def _forget_cancelled(self) -> None:
        kept = []
        for timer in self._scheduled:
            if timer._cancelled:
                timer._scheduled = False
            else:
                kept.append(timer)
        heapify(kept)
        self._scheduled = kept
        self._timer_cancelled_count = 0

    def call_soon(  # type: ignore[override]
        self, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Have something called in the next step."""
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Have something called at a virtual time."""
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heappush(self._scheduled, timer)
        timer._scheduled = True  # type: ignore[attr-defined]
        return timer

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Have something called after virtual seconds."""
        return self.call_at(self._now + delay, callback, *args, context=context)

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
