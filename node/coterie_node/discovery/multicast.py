"""Discovery by UDP multicast: nodes announce themselves on a group, sealed with the ring's secret.

For networks without a DNS that knows the nodes: an office, or pods on their hosts' network. Datagrams go no further
than one network (TTL 1). What they say is in `packet`, what is believed of it in `hearing`; here are the sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import random
import secrets
import socket
import time
from collections.abc import Callable, Sequence

import structlog

from coterie_protocol.nodes import PeerHello

from ..config.settings import Address
from ..http.listening import ListenError
from ..logs.ration import Ration
from .hearing import Hearing
from .interfaces import Interface, interfaces
from .packet import MAX_BYTES, NONCE_BYTES, Announcement, seal

log = structlog.get_logger()

ANNOUNCE = 5.0
"""Seconds between two announcements when nobody asks."""
ASK = 0.5
"""Seconds between two questions of a node that has heard nobody."""
GAP = 0.1
"""Seconds between two answers: one serves everybody who asked in the meantime."""
MAX_NAME = 64
LOOPBACK = ("127.0.0.1", "::1", "localhost")
_IP_MULTICAST_ALL = 49
_BATCH = 64
"""Datagrams read in one turn of the event loop."""


class MulticastDiscovery:
    """Announces this node and hears the others (`base.Discovery`).

    `hello` is asked for each datagram what this node is. `expected` is the uid of the only ring that it may belong to,
    empty if any will do; `interface` the only interface to use, empty for all.
    """

    def __init__(
        self, group: Address, interface: str, secret: Callable[[], bytes], expected: str, hello: Callable[[], PeerHello]
    ) -> None:
        self._group = group
        self._interface = interface
        self._secret = secret
        self._hello = hello
        self._expected = expected
        self._random = random.Random(secrets.randbits(64))  # noqa: S311  # spreads load, guards nothing
        self._hearing: Hearing
        self._socket: socket.socket | None = None
        self._announcing: asyncio.Task[None] | None = None
        self._answer: asyncio.TimerHandle | None = None
        self._sent = self._asked = float("-inf")
        self._fault = ""
        # Anybody on the network can send, from as many addresses as they like.
        self._useless = Ration(log.warning, "multicast discovery", time.monotonic)
        self._beyond = Ration(log.error, "a datagram was not understood", time.monotonic)

    async def start(self) -> None:
        """Join the group and ask who is there. Raises ListenError when the port cannot be opened."""
        hello = self._hello()
        self._hearing = Hearing(
            self._secret,
            hello.node.uid,
            hello.boot,
            lambda: self._hello().ring_uid or self._expected,
            only_this=bool(self._expected),
        )
        if hello.node.host in LOOPBACK:
            log.warning(
                "multicast discovery",
                what=f"announces {hello.node.host}, which only nodes of this machine can reach; "
                "for others set --listen-peer 0.0.0.0:7401",
            )
        self._socket = _open(self._group)
        asyncio.get_running_loop().add_reader(self._socket, self._read)
        self._ask()
        self._announcing = asyncio.create_task(self._announce(), name="multicast announcements")

    async def close(self) -> None:
        """Leave the group."""
        if self._answer is not None:
            self._answer.cancel()
        if self._announcing is not None:
            self._announcing.cancel()
            await asyncio.gather(self._announcing, return_exceptions=True)
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None
        self._useless.tell()
        self._beyond.tell()

    async def addresses(self) -> Sequence[Address]:
        """Return the nodes that were heard, and ask the network if none of the ring was."""
        now = time.monotonic()
        if self._hearing.lonely(now) and now - self._asked >= ASK:
            self._ask()
        return self._hearing.addresses(now)

    def describe(self) -> str:
        """Say where it listens, and what it heard that does not help."""
        where = f"the multicast group {self._group}"
        remarks = self._hearing.remarks(time.monotonic()) if self._socket is not None else []
        return "; ".join(filter(None, (where, self._fault, *remarks)))

    # --- Out ---

    async def _announce(self) -> None:
        while True:
            await asyncio.sleep(ANNOUNCE * self._random.uniform(0.8, 1.2))
            try:
                self._send(asks=False)
            except Exception:
                log.exception("an announcement failed; the next goes out all the same")

    def _ask(self) -> None:
        self._asked = time.monotonic()
        self._send(asks=True)

    def _answer_soon(self) -> None:
        """Announce this node shortly: not in step with all others that were asked, and once for many questions."""
        if self._answer is None:
            wait = max(0.0, self._sent + GAP - time.monotonic()) + self._random.uniform(0.0, GAP / 4)
            self._answer = asyncio.get_running_loop().call_later(wait, self._answer_now)

    def _answer_now(self) -> None:
        self._answer = None
        self._send(asks=False)

    def _send(self, *, asks: bool) -> None:
        """Send on every interface. They are looked up each time: some come later, or come back."""
        assert self._socket is not None
        self._sent = time.monotonic()
        failures = []
        used = 0
        try:
            known = interfaces(self._interface)
        except OSError as error:
            self._say(f"cannot look for interfaces ({error.strerror or error})")
            return
        for one in known:
            try:
                self._join(one)
                self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, one.request())
                self._socket.sendto(self._datagram(asks), (self._group.host, self._group.port))
                used += 1
            except OSError as error:
                failures.append(f"{one.name}: {error.strerror or error}")
        if used:
            self._say("")
        elif failures:
            self._say(f"cannot send there ({'; '.join(failures)})")
        elif self._interface:
            self._say(f"there is no interface {self._interface} that is up and has an IPv4 address")
        else:
            self._say("there is no interface that is up and has an IPv4 address")

    def _join(self, one: Interface) -> None:
        assert self._socket is not None
        try:
            self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, one.request(self._group.host))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return  # joined before
            if error.errno == errno.ENOBUFS:
                raise OSError(errno.ENOBUFS, "too many interfaces; name one with --multicast-interface") from None
            raise

    def _datagram(self, asks: bool) -> bytes:
        hello = self._hello()
        return seal(
            self._secret(),
            Announcement(
                asks,
                time.time_ns() // 1_000_000,
                secrets.token_bytes(NONCE_BYTES),
                hello.node.uid,
                hello.boot,
                hello.ring_uid,
                hello.node.host,
                hello.node.peer_port,
                hello.node.name[:MAX_NAME],
            ),
        )

    def _say(self, fault: str) -> None:
        if fault and fault != self._fault:
            log.warning("multicast discovery", group=str(self._group), what=fault)
        self._fault = fault

    # --- In ---

    def _read(self) -> None:
        for _ in range(_BATCH):
            if self._socket is None:
                return
            try:
                data, source = self._socket.recvfrom(MAX_BYTES + 1)
            except OSError:
                return  # nothing more, or an error that an interface left behind
            try:
                heard = self._hearing.hear(time.monotonic(), time.time_ns() // 1_000_000, source[0], data)
            except Exception as error:
                self._beyond(source[0], error=repr(error))
                continue
            if heard.answer:
                self._answer_soon()
            if heard.warning:
                self._useless(source[0], group=str(self._group), what=heard.warning)


def _open(group: Address) -> socket.socket:
    """Open the group's port, beside other nodes of this machine. Bound to the group, it takes nothing else."""
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError, AttributeError):
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
        made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
        with contextlib.suppress(OSError):
            made.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
        made.bind((group.host, group.port))
    except OSError as error:
        made.close()
        raise ListenError(
            f"cannot listen for announcements on {group}: {error.strerror or error}; "
            "stop what uses the port, or choose another with --multicast-group"
        ) from None
    return made
