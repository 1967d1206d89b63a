"""Multicast with real sockets on the loopback interface; what is heard and believed has its own tests."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import structlog.testing

from coterie_node.config.settings import Address, ConfigError, NodeConfig
from coterie_node.discovery.choose import choose, read_secret
from coterie_node.discovery.dns import DnsDiscovery
from coterie_node.discovery.interfaces import interfaces
from coterie_node.discovery.multicast import MulticastDiscovery
from coterie_node.discovery.packet import NONCE_BYTES, Announcement, seal
from coterie_node.discovery.static import StaticDiscovery
from coterie_node.http.listening import ListenError
from coterie_node.logs.ration import BURST
from coterie_protocol.identifiers import Uid
from coterie_protocol.nodes import NodeRef, PeerHello

LOOPBACK = "127.0.0.1"
SECRET, OTHER = b"s" * 32, b"o" * 32
RING = "5" * 32


class Node:
    """What a node says of itself; its ring may change."""

    def __init__(self, number: int, ring: str) -> None:
        self.ring = ring
        self.ref = NodeRef(Uid(f"{number:032x}"), f"n{number}", 0, f"10.0.0.{number}", 7401, 7400, 7402, 1)
        self.address = Address(self.ref.host, 7401)

    def hello(self) -> PeerHello:
        return PeerHello(1, 1, self.ring, 3, 1024, self.ref, f"boot of {self.ref.name}")


@pytest.fixture
def group() -> Address:
    """Return a group of this test alone."""
    return Address(f"239.255.{random.randrange(256)}.{random.randrange(1, 255)}", random.randrange(20000, 32000))


Begin = Callable[..., "asyncio.Future[MulticastDiscovery]"]


@pytest.fixture
async def begin(group: Address) -> AsyncIterator[Begin]:
    """Start discoveries that are ended after the test."""
    made: list[MulticastDiscovery] = []

    async def start(node: Node, secret: bytes = SECRET, interface: str = LOOPBACK) -> MulticastDiscovery:
        one = MulticastDiscovery(group, interface, lambda: secret, "", node.hello)
        made.append(one)
        await one.start()
        return one

    yield lambda *arguments, **more: asyncio.ensure_future(start(*arguments, **more))
    for one in made:
        await one.close()


async def until(condition: Callable[[], bool], *asked: MulticastDiscovery) -> None:
    """Wait for something, while nodes look for their ring as they do when they are alone."""
    async with asyncio.timeout(5.0):
        while not condition():
            await asyncio.gather(*(one.addresses() for one in asked), asyncio.sleep(0.01))


async def heard(by: MulticastDiscovery, node: Node) -> None:
    found: list[Address] = []
    async with asyncio.timeout(5.0):
        while node.address not in found:
            await asyncio.sleep(0.01)
            found = list(await by.addresses())


async def test_two_nodes_of_a_ring_hear_each_other_whoever_was_first(begin: Begin) -> None:
    one, two = Node(1, RING), Node(2, RING)
    first, second = await begin(one), await begin(two)
    await heard(first, two)
    await heard(second, one)
    assert "hears" not in first.describe() + second.describe()


async def test_who_waits_asks_until_there_is_a_ring(begin: Begin, group: Address) -> None:
    founder, new = Node(1, ""), Node(2, "")
    await begin(founder)
    waiting = await begin(new)
    await until(lambda: "hears nodes that wait for a ring too (n1)" in waiting.describe(), waiting)
    assert await waiting.addresses() == []
    founder.ring = RING
    await heard(waiting, founder)
    assert waiting.describe() == f"the multicast group {group}"


async def test_who_has_another_secret_is_neither_heard_nor_hears(begin: Begin) -> None:
    with structlog.testing.capture_logs() as logs:
        inside, outside = await begin(Node(1, RING)), await begin(Node(2, RING), OTHER)
        words = f"hears nodes that have another secret (from {LOOPBACK})"
        await until(lambda: words in inside.describe() and words in outside.describe(), inside, outside)
        assert await inside.addresses() == []
        assert await outside.addresses() == []
    assert [line["what"] for line in logs if line["log_level"] == "warning"] == [words, words]


async def test_garbage_does_no_harm(begin: Begin, group: Address) -> None:
    one, two = Node(1, RING), Node(2, RING)
    first = await begin(one)
    (loopback,) = interfaces(LOOPBACK)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as noise:
        noise.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, loopback.request())
        for size in (0, 1, 8, 100, 1200, 9000):
            noise.sendto(random.randbytes(size), (group.host, group.port))
            noise.sendto(b"coterie\x01" + random.randbytes(size), (group.host, group.port))
    await begin(two)
    await heard(first, two)


async def test_strangers_of_many_addresses_do_not_fill_the_log(begin: Begin, group: Address) -> None:
    one, two = Node(1, RING), Node(2, RING)
    now = time.time_ns() // 1_000_000
    stranger = Announcement(False, now, bytes(NONCE_BYTES), "9" * 32, "boot", RING, "10.0.0.9", 7401, "stranger")
    (loopback,) = interfaces(LOOPBACK)
    with structlog.testing.capture_logs() as logs:
        first = await begin(one)
        for number in range(200):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as noise:
                noise.bind((f"127.0.1.{number + 1}", 0))
                noise.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, loopback.request())
                noise.sendto(seal(OTHER, stranger), (group.host, group.port))
        await begin(two)
        await heard(first, two)
        assert "another secret" in first.describe()
    assert 1 <= sum("another secret" in line.get("what", "") for line in logs) <= 2 * BURST


async def test_many_questions_are_answered_once(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    founder = Node(1, RING)
    first = await begin(founder)
    sent: list[bool] = []
    send = first._send

    def count(*, asks: bool) -> None:
        sent.append(asks)
        send(asks=asks)

    monkeypatch.setattr(first, "_send", count)
    others = [await begin(Node(number, "")) for number in range(2, 12)]
    for other in others:
        await heard(other, founder)
    assert len(sent) < len(others)


async def test_an_interface_that_is_not_there_is_said(begin: Begin) -> None:
    with structlog.testing.capture_logs() as logs:
        one = await begin(Node(1, RING), interface="eth74")
    assert "there is no interface eth74 that is up and has an IPv4 address" in one.describe()
    assert len(logs) == 1


async def test_a_port_that_is_taken_is_said(group: Address) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind((group.host, group.port))
        with pytest.raises(ListenError, match="choose another with --multicast-group"):
            await MulticastDiscovery(group, LOOPBACK, lambda: SECRET, "", Node(1, RING).hello).start()


async def test_an_address_that_others_cannot_reach_is_said(group: Address) -> None:
    node = Node(1, RING)
    node.ref = NodeRef(node.ref.uid, "n1", 0, LOOPBACK, 7401, 7400, 7402, 1)
    one = MulticastDiscovery(group, LOOPBACK, lambda: SECRET, "", node.hello)
    with structlog.testing.capture_logs() as logs:
        await one.start()
        await one.close()
    assert "set --listen-peer 0.0.0.0:7401" in logs[0]["what"]


async def test_one_that_was_never_started_can_be_closed_and_described(group: Address) -> None:
    one = MulticastDiscovery(group, "", lambda: SECRET, "", Node(1, RING).hello)
    assert one.describe() == f"the multicast group {group}"
    await one.close()


def test_the_settings_choose(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"  sixteen bytes ..\n")
    hello = Node(1, RING).hello
    assert isinstance(choose(NodeConfig(), hello), StaticDiscovery)
    assert isinstance(choose(NodeConfig(discovery="dns", peers_service="main-peers"), hello), DnsDiscovery)
    assert isinstance(choose(NodeConfig(discovery="multicast", secret_file=secret), hello), MulticastDiscovery)


@pytest.mark.parametrize(("content", "words"), [(b"", "has 0 bytes"), (b" short \n", "has 5 bytes")])
def test_a_secret_that_is_none_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "secret"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=words):
        read_secret(file)


def test_a_secret_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the ring's secret .*No such file.*--secret-file"):
        read_secret(tmp_path / "nowhere")


def test_loopback_is_used_only_where_there_is_nothing_else() -> None:
    found = interfaces()
    assert found
    assert len({one.loopback for one in found}) == 1
    assert [one.loopback for one in interfaces(LOOPBACK)] == [True]
    assert interfaces("nowhere") == []
