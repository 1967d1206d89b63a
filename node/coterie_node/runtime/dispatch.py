"""The table of who takes which message of a peer, and the background tasks of a node."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from coterie_protocol.errors import CoterieError, ErrorCode
from coterie_protocol.identifiers import Uid

from .ports import EventHandler, RequestHandler, StoreError

log = structlog.get_logger()

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds until work without an end that has failed begins anew."""


class Dispatcher:
    """Hands a peer's messages to the rooms that registered for them (`ports.Handlers`)."""

    def __init__(self, *, complete: bool = True) -> None:
        self.complete = complete
        """All rooms have registered. Until then an event that nobody takes is dropped without a word: it came early."""
        self._requests: dict[type, RequestHandler] = {}
        self._events: dict[type, EventHandler] = {}

    def on_request(self, kind: type, handler: RequestHandler) -> None:
        """Answer requests of this kind with the handler's result."""
        self._requests[kind] = handler

    def on_event(self, kind: type, handler: EventHandler) -> None:
        """Take events of this kind."""
        self._events[kind] = handler

    async def request(self, sender: Uid, message: Any) -> Any:
        """Answer a request. Raises CoterieError only: what a handler did not foresee is logged and INTERNAL."""
        handler = self._requests.get(type(message))
        if handler is None:
            raise CoterieError(f"no request: {type(message).__name__}", code=ErrorCode.BAD_REQUEST)
        try:
            return await handler(sender, message)
        except CoterieError:
            raise
        except Exception as error:
            log.exception("request failed", kind=type(message).__name__, sender=sender)
            raise CoterieError(f"the node failed: {error}") from error

    def event(self, sender: Uid, message: Any) -> None:
        """Take an event; what a handler did not foresee is logged."""
        handler = self._events.get(type(message))
        if handler is None:
            if self.complete:
                log.warning("unknown event", kind=type(message).__name__, sender=sender)
            return
        try:
            handler(sender, message)
        except Exception:
            log.exception("event failed", kind=type(message).__name__, sender=sender)


class TaskGroup:
    """Background tasks of one node (`ports.Tasks`)."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    def start(self, work: Awaitable[Any], name: str) -> None:
        """Run it; a failure is logged."""
        if self._closed:
            if asyncio.iscoroutine(work):
                work.close()
            return
        task = asyncio.ensure_future(work)
        if isinstance(task, asyncio.Task):
            task.set_name(name)
            self._tasks.add(task)
            task.add_done_callback(self._done)

    def keep(self, work: Callable[[], Awaitable[Any]], name: str) -> None:
        """Run work that has no end: should it fail, that is logged, and it begins anew after a pause that grows."""
        self.start(self._keep(work, name), name)

    async def _keep(self, work: Callable[[], Awaitable[Any]], name: str) -> None:
        pause = 0.0
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            try:
                await work()
                return
            except Exception as error:
                pause = (
                    FIRST_PAUSE if loop.time() - begun > LONGEST_PAUSE else min(2 * pause or FIRST_PAUSE, LONGEST_PAUSE)
                )
                _complain(name, error, "background work failed; it begins anew")
            await asyncio.sleep(pause)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        _complain(task.get_name(), error, "background work failed")

    async def close(self) -> None:
        """Cancel everything and wait for it."""
        self._closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _complain(task: str, error: BaseException, what: str) -> None:
    if isinstance(error, StoreError):
        # It is said once what is wrong with the disk; what was to be written is tried again when there is news.
        log.warning(what, task=task, reason=str(error))
    else:
        log.error(what, task=task, exc_info=error)
