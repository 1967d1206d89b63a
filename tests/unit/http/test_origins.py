"""Which names a port is known by, and what counts as one source."""

from __future__ import annotations

import pytest

from coterie_node.http.origins import Hosts, admin_names, host_of, source_of

NAMES = admin_names(
    listen="0.0.0.0",
    advertise="10.1.2.3",
    hostname="main-0",
    service="main-peers.chat.svc",
    search=["chat.svc.cluster.local", "svc.cluster.local", "cluster.local", ""],
    others=["ring.example.org", "*.inner.example.org"],
)
KNOWN = Hosts(NAMES)


@pytest.mark.parametrize(
    "authority",
    [
        "localhost",
        "LOCALHOST:7402",
        "localhost.:7402",
        "page.localhost:7402",
        "127.0.0.1",
        "127.0.0.1:7402",
        "10.1.2.3:7402",
        "192.0.2.7:1",
        "[::1]",
        "[::1]:7402",
        "[2001:DB8::1]:7402",
        "[::ffff:127.0.0.1]:7402",
        "main-0:7402",
        "main-0.local:7402",
        "main-0.main-peers",
        "main-0.main-peers.chat.svc:7402",
        "main-0.main-peers.chat.svc.cluster.local",
        "Main-0.Main-Peers.chat.svc.cluster.local.:7402",
        "main-peers.chat.svc",
        "ring.example.org",
        "a.inner.example.org",
        "a.b.inner.example.org",
    ],
)
def test_these_are_this_node(authority: str) -> None:
    assert KNOWN.know(authority)


@pytest.mark.parametrize(
    "authority",
    [
        "",
        ":7402",
        ".",
        "evil.example",
        "evil.example:7402",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "127.0.0.1@evil.example",
        "evil.example/127.0.0.1",
        "evil.example#localhost",
        "localhost, evil.example",
        "localhost evil.example",
        " localhost",
        "localhost\t",
        "localhost..",
        "localhost:port",
        "localhost:7402:7402",
        "localhost:123456",
        "::1",
        "[::1",
        "[evil.example]",
        "[::1]evil.example",
        "[fe80::1%25evil]",
        "127.1",
        "2130706433",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "１２７.0.0.1",
        "locaLhost\u0130",
        "a\udc80b",
        "main-peers.chat.svc.evil.example",
        "main-0.main-peers.chat.svc.cluster.local.evil.example",
        "other-0.other-peers.chat.svc",
        "main-peers.chat",
        "main-0.main-peers.chat",
        "inner.example.org",
        "evil-inner.example.org",
        "xring.example.org",
        "*",
        "*.inner.example.org.evil.example",
    ],
)
def test_these_are_not(authority: str) -> None:
    assert not KNOWN.know(authority)


def test_a_node_without_names_is_known_by_addresses_and_localhost() -> None:
    hosts = Hosts(admin_names(listen="::", advertise="", hostname="", service="", search=["example.org"], others=[]))
    assert hosts.know("localhost:1")
    assert hosts.know("[::1]:1")
    assert not hosts.know("example.org")
    assert not hosts.know("x.example.org")


def test_no_short_form_of_a_service_can_be_bought() -> None:
    """Namespaces and services are called chat, dev or app, as top-level domains are."""
    hosts = Hosts(admin_names(listen="::", advertise="", hostname="", service="dev", search=["a.svc"], others=[]))
    assert hosts.know("node-1.dev.a.svc")
    assert not hosts.know("evil.dev")
    hosts = Hosts(admin_names(listen="::", advertise="", hostname="", service="xn--p1ai", search=[], others=[]))
    assert not hosts.know("evil.xn--p1ai")
    hosts = Hosts(admin_names(listen="::", advertise="", hostname="", service="n.example.org", search=[], others=[]))
    assert hosts.know("a.n.example.org")
    assert not hosts.know("a.n.example")
    assert not hosts.know("a.n")


def test_a_star_is_every_name_and_still_only_names() -> None:
    hosts = Hosts(["*"])
    assert hosts.know("evil.example:80")
    assert not hosts.know("evil.example/x")
    assert not hosts.know("")


def test_a_host_is_compared_in_one_form() -> None:
    assert host_of("Example.ORG.:80") == "example.org"
    assert host_of("[2001:DB8::1]:80") == "2001:db8::1"


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("", ""),
        ("a path", "a path"),
    ],
)
def test_what_counts_as_one_source(address: str, source: str) -> None:
    assert source_of(address) == source
