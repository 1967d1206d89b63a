"""A poisoned datagram among good ones, and an announcement that fails: discovery goes on."""

from __future__ import annotations

import os
import time
from typing import Any

import msgspec
from structlog.testing import capture_logs

from coterie_node.config.settings import Address
from coterie_node.discovery.hearing import Hearing
from coterie_node.discovery.multicast import MulticastDiscovery
from coterie_node.discovery.packet import MAX_BYTES, NONCE_BYTES, Announcement, NotOurs, _mac, seal, unseal

SECRET = b"s" * 32
RING = "ab" * 16


def _announcement(number: int, **changes: Any) -> Announcement:
    now = time.time_ns() // 1_000_000
    nonce = os.urandom(NONCE_BYTES)
    one = Announcement(False, now, nonce, f"{number:032x}", "boot", RING, "192.0.2.1", 7000 + number, "n")
    return msgspec.structs.replace(one, **changes)


def _sealed(body: bytes) -> bytes:
    """Seal any bytes, as somebody does who knows the secret."""
    whole = seal(SECRET, _announcement(1))
    head = whole[: len(whole) - len(msgspec.msgpack.encode(_announcement(1))) - 32]
    return head + _mac(SECRET, head, body) + body


def test_whatever_is_sealed_is_an_announcement_or_not_ours() -> None:
    good = msgspec.msgpack.encode(_announcement(1))
    assert unseal(SECRET, _sealed(good), time.time_ns() // 1_000_000).port == 7001
    poisons = [
        b"",
        b"\xc1",
        good[:-1],
        b"\x91" * 500,
        good.replace(b"boot", b"\xff\xfe\xfd\xfc"),
        good.replace(b"boot", b"\xed\xa0\x80x"),
        msgspec.msgpack.encode(None),
    ]
    for poison in poisons:
        try:
            unseal(SECRET, _sealed(poison), 0)
        except NotOurs:
            continue
        raise AssertionError(poison)


class _Socket:
    """A socket that has received these."""

    def __init__(self, datagrams: list[bytes]) -> None:
        self.datagrams = datagrams

    def recvfrom(self, size: int) -> tuple[bytes, tuple[str, int]]:
        assert size == MAX_BYTES + 1
        if not self.datagrams:
            raise BlockingIOError
        return self.datagrams.pop(0), ("192.0.2.9", 1)


def test_a_datagram_that_fails_unforeseen_hides_no_other() -> None:
    hello: Any = None
    discovery = MulticastDiscovery(Address("239.1.1.1", 7403), "", lambda: SECRET, RING, lambda: hello)
    discovery._hearing = hearing = Hearing(lambda: SECRET, "0" * 32, "own", lambda: RING, only_this=True)
    hear = hearing.hear

    def odd(now: float, wall_ms: int, source: str, data: bytes) -> Any:
        if data == b"poison":
            raise ZeroDivisionError
        return hear(now, wall_ms, source, data)

    hearing.hear = odd  # type: ignore[method-assign]
    one: Any = _Socket([seal(SECRET, _announcement(1)), b"poison", seal(SECRET, _announcement(2))])
    discovery._socket = one
    with capture_logs() as logs:
        discovery._read()
    assert {at.port for at in hearing.addresses(time.monotonic())} == {7001, 7002}
    assert [entry["source"] for entry in logs] == ["192.0.2.9"]
