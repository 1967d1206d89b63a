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

UNMET_MOST = 512
"""So many nodes to which there never was a link are wanted at once, and ..."""
WANTED_MOST = 2048
"""... so many in all. A member that lies can name any number of nodes that never were. Beyond these bounds whoever was
wanted first makes room, at the cost of one step; an honest one is met by its first dial, and is wanted again by whoever
next has use for it."""

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
        self._unmet: dict[Uid, None] = {}
        """Wanted nodes to which there was no link when it was looked last; the first wanted comes first."""
        self._met: dict[Uid, None] = {}
        """Wanted nodes to which there was one."""
        self._hurry: dict[Uid, asyncio.Event] = {}
        self._closed = False

    def want(self, uid: Uid) -> None:
        """Keep a link to this node from now on; the first dial is made at once."""
        if not self._wants(uid):
            self._unmet[uid] = None
            self._make_room()
            self._begin(uid, 0.0)

    def lost(self, uid: Uid) -> None:
        """Begin anew: the link is gone."""
        if self._wants(uid):
            self._meet(uid)
            self._begin(uid, self._settings.redial_first)

    def hurry(self, uid: Uid) -> None:
        """Dial now: there is a new address."""
        if (event := self._hurry.get(uid)) is not None:
            event.set()

    def close(self) -> None:
        """Dial no more."""
        self._closed = True

    def _wants(self, uid: Uid) -> bool:
        return uid in self._met or uid in self._unmet

    def _meet(self, uid: Uid) -> None:
        self._unmet.pop(uid, None)
        self._met[uid] = None
        if len(self._met) > WANTED_MOST - UNMET_MOST:
            self._let_go(self._met)

    def _make_room(self) -> None:
        if len(self._unmet) > UNMET_MOST:
            first = next(iter(self._unmet))
            if self._links.alive(first):
                self._meet(first)
            else:
                self._let_go(self._unmet)

    def _let_go(self, some: dict[Uid, None]) -> None:
        first = next(iter(some))
        del some[first]
        self.hurry(first)  # its task sees that it is wanted no more

    def _lacking(self, uid: Uid) -> bool:
        return self._wants(uid) and not self._closed and not self._links.alive(uid)

    def _begin(self, uid: Uid, first: float) -> None:
        if uid not in self._hurry and self._lacking(uid):
            self._hurry[uid] = asyncio.Event()
            self._tasks.start(self._keep(uid, first), f"redial {uid}")

    async def _keep(self, uid: Uid, delay: float) -> None:
        loop = asyncio.get_running_loop()
        begun, failed = loop.time(), 0
        event = self._hurry[uid]
        try:
            while self._lacking(uid):
                if delay:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(event.wait(), pause(delay))
                        begun, delay = loop.time(), 0.0
                event.clear()
                if not self._lacking(uid):
                    continue
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
