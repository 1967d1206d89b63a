"""Where a node is, learnt from its own ends of connections, and where others are, whatever a third one says."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from structlog.testing import capture_logs
from tests.unit.peer.nodes import SOON, Node, event, raw_peer

from coterie_node.http.listening import plain
from coterie_node.peer.whereabouts import Whereabouts, is_local
from coterie_protocol.nodes import Refs

EVERY4, EVERY6 = "0.0.0.0", "::"  # compared with, never bound


def at(listens: str, *seen: str, named: str = "", still_here: Callable[[str], bool] = lambda _: True) -> str:
    """Return the host that a node gives after connections at these addresses of its own."""
    one = Whereabouts(named, listens, still_here)
    for local in seen:
        one.notice(local)
    return one.host


@pytest.mark.parametrize(
    ("listens", "seen", "host"),
    [
        ("10.0.0.1", ("10.9.9.9",), "10.0.0.1"),
        (EVERY4, (), ""),
        (EVERY4, ("10.0.0.1",), "10.0.0.1"),
        (EVERY4, ("10.0.0.1", "10.9.9.9"), "10.0.0.1"),
        (EVERY4, ("127.0.0.1",), "127.0.0.1"),
        (EVERY4, ("127.0.0.1", "10.0.0.1", "127.0.0.1"), "10.0.0.1"),
        (EVERY4, ("fd74::1",), ""),
        (EVERY6, ("fd74::1",), "fd74::1"),
        (EVERY6, ("10.0.0.1",), "10.0.0.1"),
        (EVERY6, ("fe80::1", EVERY6, "ff02::1", "", "no address"), ""),
    ],
)
def test_a_node_says_where_its_connections_end(listens: str, seen: tuple[str, ...], host: str) -> None:
    assert at(listens, *seen) == host


def test_what_it_was_told_stands() -> None:
    assert at(EVERY4, "10.0.0.1", named="chat.example.org") == "chat.example.org"


def test_an_address_that_the_machine_has_no_more_gives_way() -> None:
    assert at(EVERY4, "10.0.0.1", "10.0.0.2", still_here=lambda host: host != "10.0.0.1") == "10.0.0.2"


def test_the_machine_knows_its_own_addresses() -> None:
    assert is_local("127.0.0.1")
    assert not is_local("192.0.2.1")  # of documentation, RFC 5737


def test_an_address_is_plain() -> None:
    assert [plain(host) for host in ("::ffff:10.0.0.1", "fe80::1%eth0", "::1")] == ["10.0.0.1", "fe80::1", "::1"]


async def test_a_peer_that_lies_about_another_does_not_redirect_for_long() -> None:
    """What a node says of itself on its own connection is returned to when hearsay leads elsewhere."""
    one, two, evil = await Node(1).start(), await Node(2).start(), await Node(3).start()
    port = two.port
    try:
        await one.meet(two)
        one.links.want([two.uid])
        async with raw_peer(one, 7) as liar:
            await liar.link()
            for incarnation, elsewhere in ((1 << 50, evil.port), ((1 << 50) + 1, 1)):
                lie = msgspec.structs.replace(two.me, peer_port=elsewhere, incarnation=incarnation)
                await liar.send(Refs([lie]))
            await liar.send(event("told"))
            await one.until(lambda: one.texts)
            held = one.links.ref(two.uid)
            assert held is not None
            assert held.incarnation > 1 << 50
            await two.stop()
            await one.until(lambda: not one.links.alive(two.uid))
            two = await Node(2, boot="again").start(port)
            await one.until(lambda: one.links.alive(two.uid), SOON)
    finally:
        for node in (one, two, evil):
            await node.stop()


@pytest.mark.parametrize(
    "host",
    [
        "\0",
        "[::1]",
        "127.0.0.1 ",
        "127.0.0.1:1/x",
        "\n\x1b[31m",
        "é" * 255,
        "a" * 255,
        "a..b",
        ".",
        "::1%eth0",
        "-",
        "/",
    ],
    ids=ascii,
)
async def test_a_peer_that_says_no_address_of_another_does_not_hide_it(host: str) -> None:
    """No dial raises anything else than that it failed: hearsay was believed for good where making a name raised."""
    one, two = await Node(1).start(), await Node(2).start()
    port = two.port
    try:
        await one.meet(two)
        one.links.want([two.uid])
        async with raw_peer(one, 7) as liar:
            await liar.link()
            await liar.send(Refs([msgspec.structs.replace(two.me, host=host, incarnation=1 << 50)]))
            await liar.send(event("told"))
            await one.until(lambda: one.texts)
            await two.stop()
            await one.until(lambda: not one.links.alive(two.uid))
            two = await Node(2, boot="again").start(port)
            with capture_logs() as logs:
                await one.until(lambda: one.links.alive(two.uid), SOON)
            assert not [entry for entry in logs if entry["log_level"] == "error"]
    finally:
        for node in (one, two):
            await node.stop()
