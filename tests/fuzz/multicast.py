"""Datagrams of the multicast group: sealed rightly with hostile contents, and others."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import strategies as st
from tests.fuzz import shapes
from tests.fuzz.engine import Found, Target
from tests.fuzz.place import RING, Complaints, listening
from tests.fuzz.wire import pack

from coterie_node.config.settings import Address
from coterie_node.discovery.hearing import MAX_NODES, Hearing
from coterie_node.discovery.multicast import MulticastDiscovery
from coterie_node.discovery.packet import MAX_BYTES, NONCE_BYTES, Announcement, _mac, seal

SECRET = b"s" * 32


class MulticastPackets(Target):
    """Somebody who knows the secret, and somebody who does not, beside a node of the ring."""

    name = "multicast"
    about = "datagrams, sealed and not -> what a node believes of its network"
    shrinks = False

    def cases(self) -> st.SearchStrategy[bytes]:
        bodies = shapes.bytes_of(pack, shapes.of(Announcement).map(_now))
        sealed = bodies.map(_sealed)
        return st.one_of(sealed, sealed, shapes.damaged(sealed), st.binary(max_size=80))

    def begin(self, directory: Path) -> None:
        self.complaints = Complaints()
        self._stack = contextlib.ExitStack()
        self._stack.enter_context(listening(self.complaints))
        self._loop = self._stack.enter_context(asyncio.Runner())
        hello: Any = None
        self._discovery = MulticastDiscovery(Address("239.1.1.1", 7403), "", lambda: SECRET, RING, lambda: hello)
        self._discovery._hearing = Hearing(lambda: SECRET, "0" * 32, "own", lambda: RING, only_this=True)
        self._fed = 0

    def end(self) -> None:
        self._stack.close()

    def feed(self, case: bytes) -> None:
        self._fed += 1
        port = 1024 + self._fed % 60_000
        one: Any = _Datagrams([case, seal(SECRET, _friend(port))])
        self._discovery._socket = one
        self._discovery._answer = self  # type: ignore[assignment]  # an answer is on its way: none is asked for again
        self._loop.run(self._read())
        found = self._discovery._hearing.addresses(time.monotonic())
        if Address("192.0.2.1", port) not in found:
            raise Found("a good datagram behind it was not heard")
        if len(found) > MAX_NODES:
            raise Found(f"{len(found)} nodes are remembered")
        self._discovery._hearing.remarks(time.monotonic())
        if self.complaints.told:
            raise Found(f"in the log: {self.complaints.told[0]}")

    async def _read(self) -> None:
        self._discovery._read()


class _Datagrams:
    def __init__(self, datagrams: list[bytes]) -> None:
        self._datagrams = datagrams

    def recvfrom(self, _: int) -> tuple[bytes, tuple[str, int]]:
        if not self._datagrams:
            raise BlockingIOError
        return self._datagrams.pop(0)[: MAX_BYTES + 1], ("192.0.2.9", 1)


def _now(value: list[Any]) -> list[Any]:
    """Stamp an announcement with the present time, or it would be refused for that alone."""
    at = Announcement.__struct_fields__.index("sent_ms")
    return [*value[:at], time.time_ns() // 1_000_000, *value[at + 1 :]]


def _friend(port: int) -> Announcement:
    now = time.time_ns()
    return Announcement(
        False, now // 1_000_000, now.to_bytes(NONCE_BYTES, "big"), f"{port:032x}", "b", RING, "192.0.2.1", port, "n"
    )


def _sealed(body: bytes) -> bytes:
    good = seal(SECRET, _friend(1))
    head = good[: len(good) - len(msgspec.msgpack.encode(_friend(1))) - 32]
    return head + _mac(SECRET, head, body) + body
