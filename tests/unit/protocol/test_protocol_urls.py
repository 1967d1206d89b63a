"""Addresses that people write: what they are, whose machine it is, and what is none."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coterie_protocol.urls import ADMIN, SERVER, BadUrl, check_host, ip_of, is_this_machine, is_unspecified, read_url


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("ws://127.0.0.1:7400", "ws://127.0.0.1:7400"),
        ("WSS://Chat.Example:7400/", "wss://chat.example:7400"),
        ("wss://chat.example", "wss://chat.example"),
        ("wss://chat.example:", "wss://chat.example"),
        ("wss://chat.example.:1", "wss://chat.example.:1"),
        ("ws://[::1]:1", "ws://[::1]:1"),
        ("ws://[FE80::1%eth0]:1", "ws://[fe80::1%eth0]:1"),
        ("ws://main-0.main_peers:1", "ws://main-0.main_peers:1"),
        ("ws://bücher.example:1", "ws://bücher.example:1"),
        ("ws://xn--bcher-kva.example:1", "ws://xn--bcher-kva.example:1"),
        ("ws://1and1.example:1", "ws://1and1.example:1"),
        ("ws://" + "x" * 63 + ":1", "ws://" + "x" * 63 + ":1"),
    ],
)
def test_what_is_a_servers_address(text: str, plain: str) -> None:
    assert str(read_url(text, SERVER)) == plain


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "does not begin with ws:// or wss://"),
        ("127.0.0.1:7400", "does not begin with"),
        ("http://127.0.0.1:7400", "does not begin with"),
        ("ws:/127.0.0.1", "does not begin with"),
        ("ws://", "names no host"),
        ("ws://:7400", "names no host"),
        ("ws://.example:1", "a part of its name is empty"),
        ("ws://a..b:1", "a part of its name is empty"),
        ("ws://.:1", "a part of its name is empty"),
        ("ws://" + "x" * 64 + ".example:1", "too long"),
        ("ws://" + "ü" * 63 + ":1", "no name in DNS"),
        ("ws://" + "x." * 127 + "example:1", "too long"),
        ("ws://-a.example:1", "no name in DNS"),
        ("ws://a!b:1", "no name in DNS"),
        ("ws://xn--a:1", "no name in DNS"),
        ("ws://１２７.0.0.1:1", "no IPv4 address"),
        ("ws://256.1.1.1:1", "no IPv4 address"),
        ("ws://1.2.3.4.5:1", "no IPv4 address"),
        ("ws://127.0.0.1.:1", "no IPv4 address"),
        ("ws://host.08:1", "no IPv4 address"),
        ("ws://[::1", "brackets"),
        ("ws://::1:7400", "brackets"),
        ("ws://[v1.x]:1", "no IPv6 address"),
        ("ws://[127.0.0.1]:1", "no IPv6 address"),
        ("ws://a:b:1", "brackets"),
        ("ws://a:x", "its port is no number"),
        ("ws://a:٣", "its port is no number"),
        ("ws://a:+1", "its port is no number"),
        ("ws://a:0", "from 1 to 65535"),
        ("ws://a:65536", "from 1 to 65535"),
        ("ws://a:" + "9" * 5000, "from 1 to 65535"),
        ("ws://a:1/x", "goes on after the port"),
        ("ws://a:1?x", "goes on after the port"),
        ("ws://a:1#", "goes on after the port"),
        ("ws://user@a:1", "a user's name"),
        ("ws://a b:1", "spaces"),
        ("ws://a\n:1", "cannot be seen"),
        ("ws://a\u200b:1", "cannot be seen"),
        ("ws://0.0.0.0:1", "nothing to connect to"),
        ("ws://0:1", "nothing to connect to"),
        ("ws://0x0.0:1", "nothing to connect to"),
        ("ws://[::]:1", "nothing to connect to"),
        ("ws://[::ffff:0.0.0.0]:1", "nothing to connect to"),
    ],
)
def test_what_is_none(text: str, reason: str) -> None:
    with pytest.raises(BadUrl, match=reason) as raised:
        read_url(text, SERVER)
    assert "is not a server's address: " in str(raised.value)
    assert str(raised.value).endswith("; write it as wss://host:port or ws://127.0.0.1:7400")
    assert len(str(raised.value)) < 500


def test_an_admin_port_may_be_behind_a_proxys_path() -> None:
    assert str(read_url("https://ring.example/coterie/", ADMIN)) == "https://ring.example/coterie"
    with pytest.raises(BadUrl, match="goes on after"):
        read_url("https://ring.example/coterie?x=1", ADMIN)


@pytest.mark.parametrize(
    "host",
    ["localhost", "LocalHost.", "127.0.0.1", "127.9.9.9", "127.1", "0x7f.1", "017700000001", "2130706433", "::1",
     "0:0:0:0:0:0:0:1", "::ffff:127.0.0.1", "::ffff:7f00:1", "0", "0.0.0.0", "0x0", "::", "::ffff:0:0"],
)  # fmt: skip
def test_this_machine(host: str) -> None:
    assert is_this_machine(host)


@pytest.mark.parametrize(
    "host",
    ["", "localhost.example", "not-localhost", "192.0.2.1", "126.1", "128.1", "1", "127.0.0.1.example", "127.0.0.256",
     "127.1.example", "fe80::1", "::2", "::ffff:192.0.2.1", "127.0.0.0.1", "4294967296", "127.08"],
)  # fmt: skip
def test_not_this_machine(host: str) -> None:
    assert not is_this_machine(host)


def test_unspecified_addresses() -> None:
    assert all(map(is_unspecified, ("0.0.0.0", "0", "0.0", "0x0", "00", "::", "0::0", "::ffff:0.0.0.0")))
    assert not any(map(is_unspecified, ("127.0.0.1", "0.0.0.1", "1", "", "zero", "::1")))


_PART = st.one_of(
    st.integers(0, 2**33).map(str), st.integers(0, 2**33).map(hex), st.integers(0, 2**33).map(lambda n: f"0{n:o}"),
    st.sampled_from(["", "08", "0x", "255", "256", "0", "127"]),
)  # fmt: skip


@given(st.lists(_PART, min_size=1, max_size=5).map(".".join))
def test_old_forms_mean_what_the_resolver_takes_them_for(host: str) -> None:
    try:
        meant = socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        assert ip_of(host) is None
    else:
        assert str(ip_of(host)) == meant


@given(st.text(max_size=80))
def test_what_passes_reaches_the_resolver_without_a_fault(host: str) -> None:
    try:
        check_host(host)
    except ValueError:
        return
    host.encode("idna")


@given(st.text())
def test_any_text_is_an_address_or_an_error(text: str) -> None:
    for prefix in ("", "ws://", "ws://["):
        try:
            url = read_url(prefix + text, SERVER)
        except BadUrl:
            continue
        assert read_url(str(url), SERVER) == url
