"""Keeps the links that are wanted: dials again, less and less often, until they stand."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING

import structlog

from coterie_protocol.errors import CoterieError, Unavailable
from coterie_protocol.identifiers import Uid

from ..runtime.ports import Tasks
from .settings import PeerSettings

if TYPE_CHECKING:
    from .links import Links

log = structlog.get_logger()

GONE = 60.0
"""Seconds without a link after which a node is dialled only now and then."""

TELLING = 8
"""Dials in vain after which the log says so, once until there is a link."""


def pause(base: float) -> float:
    """Return a jittered pause: between half and one and a half of it, so that nodes do not dial in step."""
    return base * random.uniform(0.5, 1.5)  # noqa: S311  # spreads load, guards nothing


class Redial:
    """One background task for each wanted node without a link."""

    def __init__(self, links: Links, tasks: Tasks, settings: PeerSettings) -> None:
        self._links = links
        self._tasks = tasks
        self._settings = settings
        self._wanted: set[Uid] = set()
        self._hurry: dict[Uid, asyncio.Event] = {}
        self._closed = False

    def want(self, uid: Uid) -> None:
        """Keep a link to this node from now on; the first dial is made at once."""
        if uid not in self._wanted:
            self._wanted.add(uid)
            self._begin(uid, 0.0)

    def lost(self, uid: Uid) -> None:
        """Begin anew: the link is gone."""
        if uid in self._wanted:
            self._begin(uid, self._settings.redial_first)

    def hurry(self, uid: Uid) -> None:
        """Dial now: there is a new address."""
        if (event := self._hurry.get(uid)) is not None:
            event.set()

    def close(self) -> None:
        """Dial no more."""
        self._closed = True

    def _begin(self, uid: Uid, first: float) -> None:
        if uid not in self._hurry and not self._closed and not self._links.alive(uid):
            self._hurry[uid] = asyncio.Event()
            self._tasks.start(self._keep(uid, first), f"redial {uid}")

    async def _keep(self, uid: Uid, delay: float) -> None:
        loop = asyncio.get_running_loop()
        begun, failed = loop.time(), 0
        event = self._hurry[uid]
        try:
            while not self._closed and not self._links.alive(uid):
                if delay:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(event.wait(), pause(delay))
                        begun, delay = loop.time(), 0.0
                event.clear()
                try:
                    await self._links.open(uid, self._settings.dial_timeout)
                except Unavailable as error:
                    failed += 1
                    if failed == TELLING:
                        log.warning("a node is wanted and cannot be reached", peer=uid, why=error.detail)
                    most = self._settings.redial_most if loop.time() - begun < GONE else self._settings.redial_gone
                    delay = min(max(2 * delay, self._settings.redial_first), most)
                except CoterieError:
                    delay = self._settings.redial_most  # refused: the other must be changed first
                except Exception:
                    log.exception("a dial failed in a way that was not foreseen", peer=uid)
                    delay = self._settings.redial_most
        finally:
            del self._hurry[uid]
        # A link that stood and fell while we were leaving found us still there, and began nothing.
        self._begin(uid, self._settings.redial_first)
