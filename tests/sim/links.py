"""A client's connection to a node in virtual time: requests there, replies and events back, each way in order.

It breaks when the process dies, and a node that is frozen takes and says nothing until it thaws; a client notices that
by its pings (`SILENCE_NOTICED`). Between people and nodes nothing is partitioned: a client reaches every node.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from tests.sim.loop import sim_loop
from tests.sim.network import SILENCE_NOTICED, SimNetwork
from tests.sim.world import Process

from coterie_node.chat.service import Chat
from coterie_protocol.client_api import ClientFrame, Drained, Error, Event, Mail, Reply, Request
from coterie_protocol.frames import exception_of

DELAY = (0.0001, 0.002)
"""Seconds one way between a client and a node."""
REPLY_TIMEOUT = 8.0
"""Seconds that a client waits for one answer; the library's, see coterie_client.connection."""


class Lost(Exception):
    """The link has broken, or did not answer in time: the outcome of what was asked is unknown."""


class SimLink:
    """Both ends of the connection; the node's end is `chat.gateway.conversation.Client`."""

    address = "192.0.2.1"

    def __init__(self, network: SimNetwork, process: Process, chat: Chat) -> None:
        self._network = network
        self._process = process
        self._loop = sim_loop()
        self._replies: dict[int, asyncio.Future[Reply]] = {}
        self._number = 0
        self._there = 0.0
        self._back = 0.0
        self.uid = process.uid
        self.over = False
        self.on_event: Callable[[Event], None] = lambda _: None
        self.on_over: Callable[[], None] = lambda: None
        self._conversation = process.context.copy().run(chat.gateway.converse, self)
        self._look = self._loop.call_later(SILENCE_NOTICED, self._looked)

    # --- the client's end ---

    def post(self, requests: Sequence[Request]) -> list[asyncio.Future[Reply]]:
        """Send requests in one message; each future gets its reply, a CoterieError, or Lost."""
        futures = []
        frames = []
        for request in requests:
            self._number += 1
            future: asyncio.Future[Reply] = self._loop.create_future()
            future.add_done_callback(_retrieved)
            futures.append(future)
            if self.over:
                future.set_exception(Lost())
                continue
            self._replies[self._number] = future
            frames.append(ClientFrame(self._number, request))
        if frames:
            self._loop.call_later(REPLY_TIMEOUT, _expire, futures[-1])
            self._there = self._send(self._there, lambda: self._take(frames))
        return futures

    def close(self) -> None:
        """Leave: nothing more is heard, and the node learns of it."""
        if not self.over:
            self._there = self._send(self._there, self._left)
            self._end()

    def broken(self) -> None:
        """Notice that the connection has broken."""
        if not self.over:
            self._end()
            self.on_over()

    def _end(self) -> None:
        self.over = True
        self._look.cancel()
        replies, self._replies = self._replies, {}
        for future in replies.values():
            if not future.done():
                future.set_exception(Lost())

    def _looked(self) -> None:
        """Give a node up that has said nothing for so long; one that waits for work answers pings."""
        if self._network.frozen(self.uid):
            self._there = self._send(self._there, self._left)
            self.broken()
        else:
            self._look = self._loop.call_later(SILENCE_NOTICED, self._looked)

    # --- the wire ---

    def _send(self, last: float, action: Callable[[], None]) -> float:
        due = max(self._loop.time() + self._loop.rng.uniform(*DELAY), last + 1e-7)
        self._network.later(due - self._loop.time(), action)
        return due

    def _take(self, frames: list[ClientFrame]) -> None:
        def take() -> None:
            for frame in frames:
                self._process.context.copy().run(self._conversation.take, frame)

        if not self._process.dead:
            self._network.when_awake(self.uid, take)

    def _left(self) -> None:
        if not self._process.dead:
            left = self._conversation.left
            self._network.when_awake(self.uid, lambda: self._process.context.copy().run(left))

    def _tell(self, action: Callable[[], None]) -> None:
        def tell() -> None:
            self._back = self._send(self._back, lambda: None if self.over else action())

        if not self._process.dead:
            self._network.when_awake(self.uid, tell)

    # --- the node's end: chat.gateway.Client ---

    def reply(self, number: int, body: Reply) -> None:
        """Answer a request."""

        def arrive() -> None:
            future = self._replies.pop(number, None)
            if future is None or future.done():
                return
            if isinstance(body, Error):
                future.set_exception(exception_of(body))
            else:
                future.set_result(body)

        self._tell(arrive)

    def push(self, event: Event) -> None:
        """Tell an event."""
        self._tell(lambda: self.on_event(event))

    def push_mail(self, event: Mail | Drained) -> bool:
        """Bring mail; these clients keep up."""
        self.push(event)
        return True

    def end(self) -> None:
        """Close the connection once what was said before has arrived."""

        def end() -> None:
            self._left()
            self.broken()

        self._tell(end)


def _expire(future: asyncio.Future[Reply]) -> None:
    if not future.done():
        future.set_exception(Lost())


def _retrieved(future: asyncio.Future[Reply]) -> None:
    if not future.cancelled():
        future.exception()
